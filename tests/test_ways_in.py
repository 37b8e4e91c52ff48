"""Every way for labelled images to come in, through a whole fit and what follows it."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import headstart
from headstart.cache import Cache
from pictures import picture, write_photos

CLASSES = ("cat", "dog")
EACH = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Class folders; not to be written to."""
    return write_photos(tmp_path_factory.mktemp("ways") / "photos", each=EACH)


def pairs() -> list[tuple[object, str]]:
    return [(picture(label, n), name) for label, name in enumerate(CLASSES) for n in range(EACH)]


def arrays() -> tuple[np.ndarray, np.ndarray]:
    images = np.stack([np.asarray(image) for image, _ in pairs()])
    return images, np.array([name for _, name in pairs()])


def as_folder(folder: Path, _: Path) -> object:
    return folder


def as_zip(folder: Path, place: Path) -> object:
    with zipfile.ZipFile(place / "photos.zip", "w") as archive:
        for file in folder.rglob("*.jpg"):
            archive.write(file, file.relative_to(folder.parent))
    return place / "photos.zip"


def as_table(folder: Path, place: Path) -> object:
    lines = [[file.relative_to(folder), file.parent.name] for file in folder.rglob("*.jpg")]
    with (place / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *lines])
    for name in CLASSES:
        (place / name).symlink_to(folder / name)
    return place / "labels.csv"


def as_hugging_face_folder(folder: Path, place: Path) -> object:
    lines = []
    for name in CLASSES:
        for file in (folder / name).iterdir():
            (place / f"{name}-{file.name}").write_bytes(file.read_bytes())
            lines.append(json.dumps({"file_name": f"{name}-{file.name}", "label": name}))
    (place / "metadata.jsonl").write_text("\n".join(lines))
    return place


def as_npz(_: Path, place: Path) -> object:
    images, labels = arrays()
    np.savez(place / "images.npz", images=images, labels=labels)
    return str(place / "images.npz")


def as_arrays(_: Path, place: Path) -> object:
    return arrays()


def as_pairs(_: Path, place: Path) -> object:
    return iter(pairs())


def as_frame(folder: Path, place: Path) -> object:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    files = sorted(folder.rglob("*.jpg"))
    return pandas.DataFrame({"path": files, "label": [file.parent.name for file in files]})


def as_image_folder(folder: Path, place: Path) -> object:
    from torchvision.datasets import ImageFolder

    return ImageFolder(str(folder))


WAYS = {
    way.__name__.removeprefix("as_"): way
    for way in (
        *(as_folder, as_zip, as_table, as_hugging_face_folder, as_npz, as_arrays, as_pairs),
        *(as_frame, as_image_folder),
    )
}


@pytest.mark.parametrize("way", WAYS)
def test_images_come_in_this_way(way, folder, small, tmp_path):
    place = tmp_path / "data"
    place.mkdir()
    data, cache = WAYS[way](folder, place), Cache(tmp_path / "cache")
    fitted = headstart.fit(data, tmp_path / "run", cache=cache, **small)
    assert fitted.classes == CLASSES
    sizes = fitted.report.split
    assert sizes["n_train"] + sizes["n_val"] + sizes["n_test"] == 2 * EACH
    assert not [found for found in fitted.report.findings if found["severity"] == "error"]
    # What began it starts it again, from the files that it named.
    again = headstart.resume(tmp_path / "run", cache=cache)
    assert again.report == fitted.report
    invocation = json.loads((tmp_path / "run" / "spec.json").read_text())["invocation"]
    assert Path(invocation["data"]).exists()


def test_objects_are_evaluated_checked_compared_and_split_too(small, tmp_path):
    cache = Cache(tmp_path / "cache")
    fitted = headstart.fit(arrays(), tmp_path / "run", cache=cache, **small)
    scores = fitted.evaluate(pairs(), cache=cache)
    assert scores.evaluation.metrics["accuracy"].n == 2 * EACH
    assert headstart.check(arrays(), cache=cache).to_dict()["n"] == 2 * EACH
    parts = headstart.dataset(arrays(), fitted.input_spec, cache=cache)
    assert parts.split.digest == fitted.report.split["digest"]
    strategies = ["feature-extraction"]
    options = {"strategies": strategies, "seeds": 1, "cache": cache, **small}
    options["backbones"] = (options.pop("backbone"),)
    comparison = headstart.compare(arrays(), out=tmp_path / "comparison", **options)
    assert comparison.rows[0].accuracy is not None


def test_weights_of_a_table_reach_the_head_and_the_loss(folder, small, tmp_path):
    """Half of the labels are wrong; without weight they don't count."""
    lines = [["path", "label", "weight"]]
    for number, file in enumerate(sorted(folder.rglob("*.jpg"))):
        wrong = number % 3 == 0
        label = CLASSES[(CLASSES.index(file.parent.name) + wrong) % 2]
        lines.append([str(file), label, "0.0001" if wrong else "1"])
    runs = {}
    for name in ("weighted", "plain"):
        with (tmp_path / f"{name}.csv").open("w", newline="") as table:
            used = lines if name == "weighted" else [line[:2] for line in lines]
            csv.writer(table).writerows(used)
        for strategy in ("feature-extraction", "last-blocks:1"):
            epochs = {"epochs": 2} if strategy != "feature-extraction" else {}
            runs[name, strategy] = headstart.fit(
                tmp_path / f"{name}.csv",
                tmp_path / name / strategy,
                root=folder.parents[0],
                strategy=strategy,
                audit=False,
                **epochs,
                **small,
            )
    images = [image for image, _ in pairs()]
    for strategy in ("feature-extraction", "last-blocks:1"):
        weighted, plain = (runs[n, strategy].predict_proba(images) for n in ("weighted", "plain"))
        assert np.abs(weighted - plain).max() > 0.01
    found = runs["weighted", "feature-extraction"].report.strategy["solver"]
    assert found["fitted_on"] > 0
