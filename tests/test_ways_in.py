"""Every way for labelled images to come in, through a whole fit and what follows it."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

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


Way = tuple[object, dict[str, Any]]


def as_folder(folder: Path, _: Path) -> Way:
    return folder, {}


def as_zip(folder: Path, place: Path) -> Way:
    with zipfile.ZipFile(place / "photos.zip", "w") as archive:
        for file in folder.rglob("*.jpg"):
            archive.write(file, file.relative_to(folder.parent))
    # By a link: what it is called is what the run knows.
    (place / "linked.zip").symlink_to(place / "photos.zip")
    return Path("data/linked.zip"), {}


def as_table(folder: Path, place: Path) -> Way:
    lines = [[file.relative_to(folder), file.parent.name] for file in folder.rglob("*.jpg")]
    (place / "kept").mkdir()
    with (place / "kept" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *lines])
    for name in CLASSES:
        (place / name).symlink_to(folder / name)
    (place / "labels.csv").symlink_to(place / "kept" / "labels.csv")
    return "data/labels.csv", {}


def as_table_with_flags(folder: Path, place: Path) -> Way:
    lines = [
        [f.relative_to(folder), f.parent.name, int(f.stem) // 2] for f in folder.rglob("*.jpg")
    ]
    with (place / "labels.tsv").open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows([["file", "species", "day"], *lines])
    (place / "photos").symlink_to(folder)
    columns = {"path": "file", "label": "species", "group": "day"}
    return "data/labels.tsv", {"root": "data/photos", "columns": columns, "classes": CLASSES}


def as_split_file(folder: Path, place: Path) -> Way:
    parts = ["train"] * 8 + ["val"] * 2 + ["test"] * 2
    lines = [[f"{name}/{n}.jpg", parts[n]] for name in CLASSES for n in range(EACH)]
    with (place / "parts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["name", "split"], *lines])
    return folder, {"split": Path("data/parts.csv")}


def as_two_sources(folder: Path, place: Path) -> Way:
    for name in CLASSES:
        for n in range(EACH):
            part = place / ("test" if n < 3 else "rest") / name
            part.mkdir(parents=True, exist_ok=True)
            (part / f"{n}.jpg").write_bytes((folder / name / f"{n}.jpg").read_bytes())
    return "data/rest", {"test": "data/test"}


def as_hugging_face_folder(folder: Path, place: Path) -> Way:
    lines = []
    for name in CLASSES:
        for file in (folder / name).iterdir():
            (place / f"{name}-{file.name}").write_bytes(file.read_bytes())
            lines.append(json.dumps({"file_name": f"{name}-{file.name}", "label": name}))
    (place / "metadata.jsonl").write_text("\n".join(lines))
    return "data", {}


def as_npz(_: Path, place: Path) -> Way:
    images, labels = arrays()
    np.savez(place / "images.npz", images=images, labels=labels)
    return "data/images.npz", {}


def as_arrays(_: Path, place: Path) -> Way:
    return arrays(), {}


def as_pairs(_: Path, place: Path) -> Way:
    return iter(pairs()), {}


def as_frame(folder: Path, place: Path) -> Way:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    files = sorted(folder.rglob("*.jpg"))
    frame = {"path": [str(file.relative_to(folder)) for file in files]}
    (place / "photos").symlink_to(folder)
    species = [file.parent.name for file in files]
    options = {"root": "data/photos", "columns": {"label": "species"}, "fold": "1/3"}
    return pandas.DataFrame({**frame, "species": species}), options


def as_image_folder(folder: Path, place: Path) -> Way:
    from torchvision.datasets import ImageFolder

    return ImageFolder(str(folder)), {}


def as_hugging_face(folder: Path, place: Path) -> Way:
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    files = sorted(folder.rglob("*.jpg"))
    labels = [CLASSES.index(file.parent.name) for file in files]
    data = datasets.Dataset.from_dict({"image": [str(file) for file in files], "label": labels})
    data = data.cast_column("image", datasets.Image())
    return data.cast_column("label", datasets.ClassLabel(names=list(CLASSES))), {}


WAYS = {
    way.__name__.removeprefix("as_"): way
    for way in (
        *(as_folder, as_zip, as_table, as_table_with_flags, as_split_file, as_two_sources),
        *(as_hugging_face_folder, as_npz, as_arrays, as_pairs, as_frame, as_image_folder),
        as_hugging_face,
    )
}


class _Stopped(Exception):
    pass


def whole(data: object, place: Path, monkeypatch, options: dict[str, Any]) -> headstart.Classifier:
    """Fit until the images are to be read; then go on in another folder with what was written."""

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "stage" and event["stage"] == "features":
            raise _Stopped

    cache = Cache(place / "cache")
    with pytest.raises(_Stopped):
        headstart.fit(data, place / "run", cache=cache, listener=stop, audit=False, **options)
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    fitted = headstart.resume(place / "run", cache=cache)
    sizes = fitted.report.split
    assert sizes["n_train"] + sizes["n_val"] + sizes["n_test"] == 2 * EACH
    assert not [found for found in fitted.report.findings if found["severity"] == "error"]
    return fitted


@pytest.mark.parametrize("way", WAYS)
def test_images_come_in_this_way(way, folder, small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "data"
    place.mkdir()
    data, options = WAYS[way](folder, place)
    assert whole(data, tmp_path, monkeypatch, {**options, **small}).classes == CLASSES


def test_objects_are_evaluated_checked_compared_and_split_too(small, tmp_path):
    cache = Cache(tmp_path / "cache")
    fitted = headstart.fit(arrays(), tmp_path / "run", cache=cache, **small)
    scores = fitted.evaluate(pairs(), cache=cache)
    assert scores.evaluation.metrics["accuracy"].n == 2 * EACH
    assert headstart.check(arrays(), cache=cache).to_dict()["n"] == 2 * EACH
    parts = headstart.dataset(arrays(), fitted.input_spec, cache=cache)
    assert parts.split.digest == fitted.report.split["digest"]
    options = {"seeds": 1, "cache": cache, **small}
    options["strategies"] = (options.pop("strategy"),)
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
                audit=False,
                **small | epochs | {"strategy": strategy},
            )
    images = [image for image, _ in pairs()]
    for strategy in ("feature-extraction", "last-blocks:1"):
        weighted, plain = (runs[n, strategy].predict_proba(images) for n in ("weighted", "plain"))
        assert np.abs(weighted - plain).max() > 0.01
    found = runs["weighted", "feature-extraction"].report.strategy["solver"]
    assert found["fitted_on"] > 0
