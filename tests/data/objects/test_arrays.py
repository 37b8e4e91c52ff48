from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest

from headstart.data.objects.arrays import are_arrays, array_rows, read_npz
from headstart.data.objects.elements import image_of
from headstart.data.objects.given_rows import Given
from headstart.errors import DataError, ResourceError, UsageError

X = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)
Y = np.array([0, 1, 1, 0])


def saved(**arrays: object) -> io.BytesIO:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file


@pytest.fixture
def npz(tmp_path):
    def write(**arrays: object):
        path = tmp_path / "images.npz"
        path.write_bytes(saved(**arrays).getvalue())
        return path

    return write


def test_images_and_labels_become_rows() -> None:
    expected = [Given(image_of(x, ""), str(y)) for x, y in zip(X, Y, strict=True)]
    assert list(array_rows(X, Y)) == expected
    assert list(array_rows(X, Y[:, None])) == expected  # as Keras has the labels of CIFAR
    assert list(array_rows(X, Y.tolist())) == expected
    named = [row.label for row in array_rows(X, Y, classes=("cat", "dog"))]
    assert named == ["cat", "dog", "dog", "cat"]


def test_tensors_of_torch_are_arrays_too() -> None:
    import torch

    x, y = torch.from_numpy(X).permute(0, 3, 1, 2), torch.from_numpy(Y)
    assert are_arrays((x, y))
    assert list(array_rows(x, y)) == list(array_rows(X, Y))


def test_pairs_of_arrays_are_told_from_pairs_of_elements() -> None:
    assert are_arrays((X, Y))
    assert are_arrays([X[..., 0], Y[:, None]])
    assert are_arrays((X, ["a", "b", "b", "a"]))
    assert not are_arrays(((X[0], 1), (X[1], 0)))
    assert not are_arrays(((X, Y), (X, Y)))
    assert not are_arrays((X, Y, X))
    assert not are_arrays([(X[0], 1)])
    assert not are_arrays("xy")


def test_images_and_labels_must_be_as_many() -> None:
    with pytest.raises(UsageError, match="There are 4 images of test, but 3 labels"):
        next(array_rows(X, Y[:3], " of test"))


def test_one_hot_labels_are_refused_with_what_to_do() -> None:
    with pytest.raises(UsageError, match="Image 0 of train: the label") as caught:
        next(array_rows(X, np.eye(2)[Y], " of train"))
    assert "argmax" in str(caught.value)


def test_floats_are_refused_by_number() -> None:
    with pytest.raises(UsageError, match=r"Image 0: the image must be uint8.*float64"):
        next(array_rows(X / 255, Y))


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        ({"x": X, "y": Y}, {None}),
        ({"images": X, "labels": Y}, {None}),
        ({"X": X, "Y": Y}, {None}),
        ({"x_train": X, "y_train": Y, "x_test": X[:2], "y_test": Y[:2]}, {"train", "test"}),
        (
            {"train_images": X, "train_labels": Y, "val_images": X, "val_labels": Y},
            {"train", "val"},
        ),
        ({"x": X, "y": Y, "more": Y}, {None}),
    ],
)
def test_npz_files_are_read_by_the_names_of_their_arrays(npz, names, parts) -> None:
    found, classes = read_npz(npz(**names))
    assert set(found) == parts
    assert classes == ()
    images, labels = found[None if None in parts else "train"]
    assert (images == X).all()
    assert (labels == Y).all()


def test_npz_files_may_name_the_classes(npz) -> None:
    assert read_npz(npz(x=X, y=Y, classes=np.array(["cat", "dog"])))[1] == ("cat", "dog")


def test_npz_files_without_images_are_refused_with_what_they_hold(npz) -> None:
    with pytest.raises(DataError, match=r"no images with labels\. Its arrays: a, b\."):
        read_npz(npz(a=X, b=Y))
    with pytest.raises(DataError, match="Its arrays: none"):
        read_npz(npz())


@pytest.mark.parametrize(
    "names",
    [
        {"x": X, "y": Y, "x_test": X, "y_test": Y},
        {"x": X, "y": Y, "images": X, "labels": Y},
        {"x_train": X, "y_train": Y, "train_images": X, "train_labels": Y},
    ],
)
def test_arrays_that_could_be_meant_twice_are_refused(npz, names) -> None:
    first, second = list(names)[:2], list(names)[2:]
    with pytest.raises(DataError, match="more images with labels than can be told apart") as caught:
        read_npz(npz(**names))
    assert f"{' with '.join(first)}, {' with '.join(second)}." in caught.value.message
    assert "x_train" in str(caught.value.hint)


def test_npz_files_are_never_unpickled(npz) -> None:
    with pytest.raises(DataError, match="allow_pickle") as caught:
        read_npz(npz(x=X, y=np.array(["cat", 3, None, "dog"], object)))
    assert "not as objects" in str(caught.value)


def test_damaged_npz_files_are_refused(tmp_path, npz) -> None:
    whole = saved(x=X, y=Y).getvalue()
    for name, content in {
        "empty": b"",
        "text": b"no zip file",
        "cut": whole[:-200],
        "swapped": whole[:200] + bytes(50) + whole[250:],
    }.items():
        path = tmp_path / f"{name}.npz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=re.escape(f"{path} can't be read as an .npz file")):
            read_npz(path)


def test_arrays_that_memory_can_not_hold_are_refused(tmp_path) -> None:
    header = io.BytesIO()
    shape = {"descr": "|u1", "fortran_order": False, "shape": (1 << 50, 8, 8)}
    np.lib.format.write_array_header_1_0(header, shape)
    path = tmp_path / "huge.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("y.npy", header.getvalue())
    with pytest.raises(ResourceError, match="more memory than there is"):
        read_npz(path)
