from __future__ import annotations

import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from headstart.data.objects import in_memory
from headstart.data.objects.in_memory import as_source
from headstart.data.objects.kept import TABLE, forget_kept, root_of
from headstart.data.read import decode
from headstart.data.reading import Reading
from headstart.data.tabular.tables import read_table
from headstart.errors import BadImage, DataError, UsageError
from pictures import write_photos

X = np.random.default_rng(0).integers(0, 256, (6, 9, 8, 3), dtype=np.uint8)
Y = np.array([0, 1, 1, 0, 2, 2])


class Images:
    """A data set as torch's are: a length and positions, and no iterator."""

    def __init__(self, images: object = X, labels: object = Y, classes: object = None) -> None:
        self.pairs = list(zip(images, labels, strict=True))
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> object:
        return self.pairs[index % len(self.pairs)]  # never an IndexError


class Stream:
    """An iterable without positions, as a tf.data.Dataset is; its order changes."""

    passes = 0

    def __iter__(self) -> Iterator[object]:
        self.passes += 1
        order = range(6) if self.passes % 2 else range(5, -1, -1)
        yield from ((X[index], Y[index]) for index in order)


def rows(source: str | Path) -> list[dict[str, str]]:
    assert Path(source).name == TABLE
    return [json.loads(line) for line in Path(source).read_text("utf-8").splitlines()]


def pixels(source: str | Path) -> list[list[object]]:
    folder = Path(source).parent
    return [np.asarray(decode(folder / row["path"])).tolist() for row in rows(source)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "given"


# What is a source already


@pytest.mark.parametrize("data", ["elpv", "no/such/folder", Path("photos"), Path("x.csv"), "x.npz"])
def test_names_and_paths_are_returned_as_they_are(folder, data) -> None:
    assert as_source(data, folder) is data
    assert not folder.exists()


def test_an_npz_file_that_may_not_be_seen_is_left_to_who_opens_it(folder, monkeypatch) -> None:
    def refuse(path: object, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "stat", refuse)
    assert as_source("secret/x.npz", folder) == "secret/x.npz"


# All kinds give the same table


def test_every_kind_of_the_same_images_is_the_same_table(folder, tmp_path) -> None:
    import torch
    from torch.utils.data import TensorDataset

    class Element:
        def __init__(self, value: np.ndarray) -> None:
            self.value, self.shape = value, value.shape
            self.dtype = f"<dtype: {value.dtype.name!r}>"

        def numpy(self) -> np.ndarray:
            return self.value

    np.savez(tmp_path / "images.npz", x=X, y=Y)
    x, y = torch.from_numpy(X).permute(0, 3, 1, 2), torch.from_numpy(Y)
    sources = {
        "arrays": (X, Y),
        "lists": [X, Y.tolist()],
        "columns": (X, Y[:, None]),
        "tensors": (x, y),
        "npz": tmp_path / "images.npz",
        "npz as text": str(tmp_path / "images.npz"),
        "pairs": list(zip(X, Y, strict=True)),
        "dicts": [{"image": image, "label": label} for image, label in zip(X, Y, strict=True)],
        "pictures": [
            (Image.fromarray(image), int(label)) for image, label in zip(X, Y, strict=True)
        ],
        "data set": Images(),
        "torch": TensorDataset(x, y),
        "generator": zip(X, Y, strict=True),
        "tf.data": ((Element(a), Element(np.array(b))) for a, b in zip(X, Y, strict=True)),
    }
    found = {kind: as_source(data, folder) for kind, data in sources.items()}
    assert len(set(found.values())) == 1, found
    assert [row["label"] for row in rows(found["arrays"])] == list(map(str, Y))
    assert pixels(found["arrays"]) == X.tolist()


def test_the_order_is_that_of_the_names(folder) -> None:
    images = np.arange(1200, dtype=np.uint8).reshape(1200, 1, 1)
    names = [row["path"] for row in rows(as_source((images, np.arange(1200)), folder))]
    assert names == sorted(names)
    assert len(set(names)) == 1200


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.integers(1, 4).flatmap(
        lambda n: st.tuples(
            arrays.arrays(
                np.uint8,
                st.tuples(
                    st.just(n), st.integers(1, 6), st.integers(1, 6), st.sampled_from([1, 3, 4])
                ),
            ),
            st.lists(st.text(min_size=1) | st.integers(0, 9), min_size=n, max_size=n),
        )
    )
)
def test_images_in_memory_are_those_of_files(folder, data) -> None:
    images, labels = data
    source = as_source((images, labels), folder)
    assert [row["label"] for row in rows(source)] == list(map(str, labels))
    assert pixels(source) == [np.asarray(decode(image)).tolist() for image in images]


# Parts


def test_dicts_have_parts(folder) -> None:
    source = as_source(
        {"training": (X[:3], Y[:3]), "valid": Images(X[3:], Y[3:]), "test": (X, Y)}, folder
    )
    assert [row["split"] for row in rows(source)] == ["train"] * 3 + ["val"] * 3 + ["test"] * 6
    assert rows(source)[3]["path"] == "val/00000003.ppm"


def test_keras_data_sets_are_train_and_test(folder) -> None:
    data = ((X, Y[:, None]), (X[:2], Y[:2, None]))
    source = as_source(data, folder)
    assert [row["split"] for row in rows(source)] == ["train"] * 6 + ["test"] * 2
    assert as_source({"train": data[0], "test": data[1]}, folder) == source


def test_npz_files_have_parts(folder, tmp_path) -> None:
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=X, y_train=Y, x_test=X[:2], y_test=Y[:2])
    assert as_source(path, folder) == as_source({"train": (X, Y), "test": (X[:2], Y[:2])}, folder)


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train", "validation"), ["train", "val"]),  # what that means, the table's reader knows
        (("train", "holdout"), ["train", "test"]),
        (("Train",), ["train"]),
        (("test",), ["test"]),
        (("train", "dev", "testing"), ["train", "val", "test"]),
    ],
)
def test_parts_are_called_as_split_folders_are(folder, names, parts) -> None:
    source = as_source(dict.fromkeys(names, (X[:1], Y[:1])), folder)
    assert [row["split"] for row in rows(source)] == parts


@pytest.mark.parametrize(
    "names", [(), ("image", "label"), ("train", "test", "extra"), ("val", "valid"), ("fold0",)]
)
def test_dicts_of_other_parts_are_refused(folder, names) -> None:
    with pytest.raises(UsageError, match="must have the keys train, val and test"):
        as_source(dict.fromkeys(names, (X, Y)), folder)


# Libraries


def test_hugging_face_data_sets_keep_their_bytes_and_splits(folder, encoded, noise) -> None:
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    contents = [encoded(noise(0)), encoded(noise(1), "JPEG")]
    table = {"image": [{"bytes": it, "path": None} for it in contents], "label": [1, 0]}
    data = datasets.Dataset.from_dict(table, features=features)
    source = as_source(datasets.DatasetDict(train=data, validation=data, test=data), folder)
    assert [(row["split"], row["label"]) for row in rows(source)] == [
        (part, label) for part in ("train", "val", "test") for label in ("dog", "cat")
    ]
    paths = [Path(source).parent / row["path"] for row in rows(source)]
    assert [path.read_bytes() for path in paths] == contents * 3
    assert [path.suffix for path in paths] == [".png", ".jpg"] * 3
    assert as_source(data, folder) == as_source(data.to_iterable_dataset(), folder)


def test_frames_of_paths_write_no_images(folder, photos, monkeypatch) -> None:
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.chdir(photos.parent)
    files = sorted(photos.rglob("*.jpg"))
    frame = pd.DataFrame(
        {
            "file": [path.relative_to(photos.parent).as_posix() for path in files],
            "label": [path.parent.name for path in files],
        }
    )
    reading = Reading(columns={"path": "file"})
    source = Path(as_source(frame, folder, reading))
    assert not list(source.parent.rglob("*.p?m"))
    dataset = read_table(source, Reading(columns={"path": "file"}, root=root_of(source, folder)))
    assert [item.path for item in dataset.items] == files
    assert [item.name for item in dataset.items][:1] == ["cat/0.jpg"]
    assert dataset.classes == ("cat", "dog", "owl")


def test_a_kept_table_is_read_like_any_other(folder) -> None:
    source = Path(as_source({"train": (X, Y), "test": (X[:2], Y[:2])}, folder))
    dataset = read_table(source, Reading())
    assert [item.split for item in dataset.items] == ["test"] * 2 + ["train"] * 6
    assert [item.label for item in dataset.items] == list(map(str, [0, 1, *Y]))
    assert dataset.classes == ("0", "1", "2")
    assert all(item.path.is_file() for item in dataset.items)


def test_image_folders_use_their_files_and_ignore_the_transform(folder, photos) -> None:
    from torch.utils.data import Subset
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import ToTensor

    data = ImageFolder(str(photos), transform=ToTensor())
    source = Path(as_source(data, folder))
    assert root_of(source, folder) == photos
    assert [(row["path"], row["label"]) for row in rows(source)] == [
        (path, data.classes[label]) for path, label in data.samples
    ]
    chosen = Subset(Subset(data, [5, 70, 30]), [2, 0])
    assert [row["path"] for row in rows(as_source(chosen, folder))] == [
        data.samples[30][0],
        data.samples[5][0],
    ]


def test_a_target_transform_counts_and_class_names_then_do_not(folder, photos) -> None:
    from torchvision.datasets import ImageFolder

    data = ImageFolder(str(photos), target_transform=lambda label: label % 2)
    labels = [row["label"] for row in rows(as_source(data, folder))]
    assert set(labels) == {"0", "1"}
    assert labels == [str(label % 2) for label in data.targets]


def test_class_names_are_used_through_subsets(folder) -> None:
    from torch.utils.data import Subset

    data = Subset(Images(classes=["cat", "dog", "owl"]), [1, 4])
    assert [row["label"] for row in rows(as_source(data, folder))] == ["dog", "owl"]


def test_pairs_of_paths_are_files(folder, tmp_path) -> None:
    write_photos(tmp_path / "photos", each=2)
    pairs = [(path, path.parent.name) for path in sorted((tmp_path / "photos").rglob("*.jpg"))]
    assert [row["path"] for row in rows(as_source(pairs, folder))] == [str(it) for it, _ in pairs]


def test_paths_are_relative_to_the_root(folder, tmp_path) -> None:
    photos = tmp_path / "photos"
    write_photos(photos, each=2)
    files = sorted(photos.rglob("*.jpg"))
    pairs = [(path.relative_to(photos), path.parent.name) for path in files]
    for data in (pairs, iter(pairs), {"train": pairs}):
        source = as_source(data, folder, Reading(root=photos))
        assert [row["path"] for row in rows(source)] == list(map(str, files))


# What can't be read


@pytest.mark.parametrize("kind", ["pairs", "arrays", "parts", "npz", "stream"])
@pytest.mark.parametrize("option", ["columns", "root"])
def test_options_that_would_do_nothing_are_refused(folder, tmp_path, kind, option) -> None:
    np.savez(tmp_path / "images.npz", x=X, y=Y)
    data = {
        "pairs": list(zip(X, Y, strict=True)),
        "arrays": (X, Y),
        "parts": {"train": (X, Y), "test": (X, Y)},
        "npz": tmp_path / "images.npz",
        "stream": Stream(),
    }[kind]
    asked = {"columns": {"label": "species"}, "root": tmp_path}
    with pytest.raises(UsageError, match=f"^{option} .*, and the data has none") as caught:
        as_source(data, folder, Reading(**{option: asked[option]}))
    assert caught.value.field == option
    assert not list(folder.glob("*/*"))
    both = Reading(**{option: asked[option]}, test="labels.csv")
    assert Path(as_source(data, folder, both)).is_file()  # for the other source


def test_a_data_set_that_knows_its_files_has_no_root(folder, photos) -> None:
    from torchvision.datasets import ImageFolder

    with pytest.raises(UsageError, match=r"^root .*, and the data has none"):
        as_source(ImageFolder(str(photos)), folder, Reading(root=photos))


def test_columns_of_hugging_face_reach_the_table(folder, encoded, noise) -> None:
    datasets = pytest.importorskip("datasets", reason="the library datasets is not installed")
    images = [{"bytes": encoded(noise(seed)), "path": None} for seed in range(3)]
    data = datasets.Dataset.from_dict(
        {"image": images, "species": ["cat", "dog", "cat"], "patient": [1, 1, None]}
    ).cast_column("image", datasets.Image())
    reading = Reading(columns={"label": "species", "group": "patient"})
    dataset = read_table(Path(as_source(data, folder, reading)), reading)
    assert [(it.label, it.group) for it in dataset.items] == [
        ("cat", "1"),
        ("dog", "1"),
        ("cat", None),
    ]


def test_given_data_that_was_removed_is_asked_for_again(folder) -> None:
    source = Path(as_source((X, Y), folder))
    assert as_source(source, folder) is source
    assert forget_kept(folder) > 0
    for again in (source, str(source)):
        with pytest.raises(UsageError, match="no longer in the cache") as caught:
            as_source(again, folder)
        assert "with the same data again" in str(caught.value)
    assert as_source((X, Y), folder) == source
    assert as_source("given.jsonl", folder) == "given.jsonl"


def test_a_sequence_that_changes_is_refused_and_a_stream_that_changes_is_not(folder) -> None:
    class Noisy(Images):
        def __getitem__(self, index: int) -> object:
            draws[0] += 1
            return np.full((4, 4, 3), draws[0], np.uint8), index

    draws = [0]
    with pytest.raises(UsageError, match="changed from one reading"):
        as_source(Noisy(), folder)
    assert len(rows(as_source(Stream(), folder))) == 6


def test_streams_are_read_once(folder) -> None:
    data = Stream()
    as_source(data, folder)
    assert data.passes == 1
    spent = iter([(X[0], 0)])
    as_source(spent, folder)
    with pytest.raises(UsageError, match="no images") as caught:
        as_source(spent, folder)
    assert "only once" in str(caught.value)


def test_endless_streams_end_with_an_error(folder, monkeypatch) -> None:
    monkeypatch.setattr(in_memory, "MOST", 10)
    with pytest.raises(UsageError, match=r"more than 10 images.*may be endless") as caught:
        as_source(itertools.cycle([(X[0], 0)]), folder)
    assert "islice" in str(caught.value)
    assert list(folder.iterdir()) == []
    assert len(rows(as_source(itertools.islice(itertools.cycle([(X[0], 0)]), 10), folder))) == 10
    assert len(rows(as_source([(X[0], 0)] * 12, folder))) == 12


def test_loaders_are_refused_with_what_to_give(folder) -> None:
    import torch
    from torch.utils.data import DataLoader

    images = Images(torch.rand(6, 3, 8, 8), Y)
    with pytest.raises(UsageError, match="Element 0 is a batch") as caught:
        as_source(DataLoader(images, batch_size=2), folder)
    assert ".dataset" in str(caught.value)


def test_what_to_tensor_makes_is_refused_by_number_and_part(folder) -> None:
    pairs = [(X[0], 0), (X[0] / 255, 1)]
    with pytest.raises(UsageError, match="Element 1 of test: the image must be uint8") as caught:
        as_source({"train": [(X[0], 0)], "test": pairs}, folder)
    assert "ToTensor" in str(caught.value)
    assert not folder.exists()


@pytest.mark.parametrize("data", [None, 3, b"photos", object(), 2.5, bytearray(3)])
def test_other_objects_are_refused_with_what_can_be_given(folder, data) -> None:
    with pytest.raises(UsageError, match=f"can't be read from {type(data).__name__}") as caught:
        as_source(data, folder)
    assert "datasets.Dataset" in str(caught.value)


def test_a_damaged_image_is_named(folder, encoded, noise) -> None:
    cut = Image.open(io.BytesIO(encoded(noise(0, 64, 64))[:-4000]))
    with cut, pytest.raises(BadImage, match="Element 1: cut short"):
        as_source([(X[0], 0), (cut, 1)], folder)


def test_a_damaged_npz_file_is_refused(folder, tmp_path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"no zip file")
    with pytest.raises(DataError, match=r"can't be read as an \.npz file"):
        as_source(path, folder)


def test_errors_of_the_data_itself_are_its_own(folder) -> None:
    class Broken(Images):
        def __getitem__(self, index: int) -> object:
            raise KeyError(index)

    with pytest.raises(KeyError):
        as_source(Broken(), folder)


def test_no_library_is_imported_to_find_out_what_data_is(folder) -> None:
    program = """
import sys
from pathlib import Path
import numpy as np
from headstart.data.objects.in_memory import as_source
as_source((np.zeros((2, 4, 4), np.uint8), [0, 1]), Path(sys.argv[1]))
assert not {"torch", "pandas", "datasets", "torchvision"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, str(folder)], check=True)
