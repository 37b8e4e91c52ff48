"""The images of a run: which can be read, where each is, and that each is decoded once."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart import images as images_module
from headstart.cache import Cache
from headstart.errors import DataError
from headstart.images import Images, prepare, same_rows
from headstart.log import Log
from headstart.options import Options
from headstart.planning import make_plan
from pictures import write_photos
from planned import HEAD


@pytest.fixture
def made(few_photos, small, tmp_path):
    """Plan a run with these options, and prepare its images; what is heard is kept beside."""

    def make(data: Path = few_photos, **options):
        cache, heard = Cache(tmp_path / "cache"), []
        plan = make_plan(data, Options(**small | {"size": 32} | options), cache=cache)
        return plan, prepare(plan, cache, Log(heard.append)), heard

    return make


def spoil(*files: Path) -> None:
    """Cut files in half: their headers can still be read."""
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])


def test_images_know_their_parts(prepared):
    plan, images = prepared(HEAD)
    assert images.names == tuple(item.name for item in plan.checked.items)
    every = np.concatenate([images.parts[part] for part in ("train", "val", "test")])
    assert sorted(every) == list(range(28))
    for part in ("train", "val", "test"):
        found = [images.names[position] for position in images.parts[part]]
        assert found == [plan.checked.items[i].name for i in getattr(plan.split, part)]
    for name, label in zip(images.names, images.labels, strict=True):
        assert plan.task.classes[label] == name.split("/")[0]


def test_of_images_in_another_order_parts_are_positions_among_them(prepared):
    plan, images = prepared(HEAD)
    turned = Images.of(plan, plan.split, images.indices[::-1], None)
    assert turned.names == images.names[::-1]
    for part, positions in turned.parts.items():
        assert [turned.names[p] for p in positions] == [images.names[p] for p in images.parts[part]]


def test_where_a_head_is_solved_all_features_are_there_and_no_pixels(made):
    plan, prepared, heard = made()
    assert prepared.images.pixels is None
    assert len(prepared.features.rows) == prepared.computed == 28
    assert list(prepared.features.positions) == list(range(28))
    assert prepared.split == plan.split
    (told,) = [event for event in heard if event["event"] == "features"]
    assert (told["images"], told["computed"], told["failed"]) == (28, 28, 0)


def test_where_all_is_trained_there_are_pixels_and_features_enough_to_choose_the_path(made):
    plan, prepared, _ = made(strategy="fine-tune", batch_size=8)
    assert prepared.images.pixels.all().shape == (28, 32, 32, 3)
    assert len(prepared.features.rows) == plan.path.batch_size == 8


def test_what_is_remembered_is_not_computed_again(made):
    assert made()[1].computed == 28
    assert made()[1].computed == 0


@pytest.mark.parametrize("strategy", ["feature-extraction", "last-blocks:1"])
def test_an_image_that_cannot_be_decoded_is_left_out_of_all(few_photos, made, tmp_path, strategy):
    data = Path(shutil.copytree(few_photos, tmp_path / "data"))
    plan, _, _ = made(data)
    lost = plan.checked.items[plan.split.train[0]]
    spoil(lost.path)
    plan, prepared, _ = made(data, strategy=strategy, max_bad=0.5)
    assert [failure.name for failure in prepared.failed] == [lost.name]
    assert lost.name not in prepared.images.names
    assert len(prepared.split.train) == len(plan.split.train) - 1
    assert len(prepared.features.rows) == len(prepared.images.names) == 27
    with pytest.raises(DataError, match="1 of 28"):
        made(data, strategy=strategy, max_bad=0.0)


@pytest.mark.parametrize(
    ("part", "message"), [("train/dog", "training image of dog"), ("test", "no test image")]
)
def test_what_is_left_must_be_enough(made, tmp_path, part, message):
    data = tmp_path / "data"
    write_photos(data / "train", classes=("cat", "dog"), each=10)
    write_photos(data / "test", classes=("cat", "dog"), each=1)
    spoil(*(data / part).rglob("*.jpg"))
    with pytest.raises(DataError, match=message) as told:
        made(data, max_bad=0.9)
    assert told.value.hint


@pytest.fixture
def parted(tmp_path) -> Path:
    """Photos with a train and a test folder."""
    write_photos(tmp_path / "parted" / "train", each=12)
    for name in ("cat", "dog"):
        (tmp_path / "parted" / "test" / name).mkdir(parents=True)
        for number in range(6):
            file = Path(name) / f"{number}.jpg"
            (tmp_path / "parted" / "train" / file).rename(tmp_path / "parted" / "test" / file)
    return tmp_path / "parted"


@pytest.mark.parametrize("strategy", ["feature-extraction", "fine-tune"])
def test_what_is_the_same_to_the_network_stays_in_the_most_held_out_part(made, parted, strategy):
    """A copy in another format has other bytes; its pixels are found when they are decoded."""
    with Image.open(parted / "test/dog/3.jpg") as image:
        image.save(parted / "train/dog/renamed.png")
    plan, found, _ = made(parted, strategy=strategy, head="linear", resize="squash")
    (there,) = (i for i, item in enumerate(plan.checked.items) if "renamed" in item.name)
    assert there in (*plan.split.train, *plan.split.val)
    assert there not in (*found.split.train, *found.split.val, *found.split.test)
    assert there in found.split.removed
    names = [sorted(found.images.names[one] for one in group) for group in found.copies]
    assert names == [["test/dog/3.jpg", "train/dog/renamed.png"]]
    (finding,) = found.split.findings
    assert finding.kind == "removed"
    assert "train/dog/renamed.png" in finding.message
    assert found.split.test == plan.split.test
    assert found.split.digest == plan.split.digest


def test_what_is_the_same_to_the_network_joins_one_part_of_our_own_split(made, tmp_path):
    root = write_photos(tmp_path / "photos", each=20)
    for number in range(6):
        with Image.open(root / f"dog/{number}.jpg") as image:
            image.save(root / f"dog/again{number}.png")
    (root / "owl").mkdir()  # a class of one picture, in two files
    write_photos(tmp_path / "one", classes=("owl",), each=1)
    with Image.open(tmp_path / "one/owl/0.jpg") as image:
        image.save(root / "owl/0.png")
        image.save(root / "owl/0.bmp")
    plan, found, _ = made(root, head="linear", resize="squash")
    assert len(found.copies) == 7
    parts = (found.split.train, found.split.val, found.split.test)
    side = {index: part for part, indices in enumerate(parts) for index in indices}
    assert len(side) == len(plan.checked.items) == 48
    name = {item.name: index for index, item in enumerate(plan.checked.items)}
    for number in range(6):
        assert side[name[f"dog/{number}.jpg"]] == side[name[f"dog/again{number}.png"]]
    assert side[name["owl/0.png"]] == side[name["owl/0.bmp"]] == 0
    assert found.split.digest == plan.split.digest
    assert found.split.removed == ()


def test_equal_rows_are_found_across_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(images_module, "_AT_ONCE", 3)
    values = np.random.default_rng(1).normal(size=(11, 4)).astype(np.float32)
    values[7], values[10], values[5] = values[2], values[2], values[4]
    values[9, 0] = np.nextafter(values[8, 0], 1)
    store = Cache(tmp_path).store({"what": "test"}, (4,), "float32")
    with store.writer() as writer:
        writer.add([f"{number:064x}" for number in range(11)], values)
    rows = store.rows([f"{number:064x}" for number in range(11)])
    assert same_rows(rows) == ((2, 7, 10), (4, 5))
