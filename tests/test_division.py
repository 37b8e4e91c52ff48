"""How the images of a run are divided: what is asked for, and what it takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from headstart.cache import Cache
from headstart.data.checks.check import Checked, check
from headstart.data.items import Dataset
from headstart.data.sources import open_dataset
from headstart.division import learnable_classes, planned_split
from headstart.errors import DataError
from headstart.memory import FileMemory
from headstart.options import Options
from pictures import write_photos


@pytest.fixture
def found(tmp_path) -> tuple[Dataset, Checked]:
    dataset = open_dataset(write_photos(tmp_path / "photos", each=10))
    return dataset, check(dataset, FileMemory(Cache(tmp_path / "cache").files), max_bad=0)


def table(place: Path, **parts: str) -> Path:
    """Write a split file: the part of every image of a class."""
    lines = [f"{name}/{n}.jpg,{part}" for name, part in parts.items() for n in range(10)]
    (place / "parts.csv").write_text("\n".join(["name,split", *lines]))
    return place / "parts.csv"


def test_the_training_set_is_thinned_as_asked_and_says_so(found):
    _, checked = found
    whole = planned_split(checked, Options())
    thin = planned_split(checked, Options(limit_per_class=3))
    assert len(thin.train) == 6 < len(whole.train)
    assert (thin.val, thin.test) == (whole.val, whole.test)
    assert (whole.limited, thin.limited) == (False, True)
    assert not planned_split(checked, Options(limit=1000)).limited  # it limits nothing


def test_the_split_has_a_seed_of_its_own_where_it_is_given(found):
    _, checked = found
    digests = [
        planned_split(checked, Options(seed=seed, split_seed=split_seed)).digest
        for seed, split_seed in ((0, None), (1, None), (1, 0))
    ]
    assert digests[0] == digests[2] != digests[1]


def test_a_table_without_test_or_without_a_class_in_train_is_named(found, tmp_path):
    dataset, checked = found
    without = Options(split=table(tmp_path, cat="train", dog="train"))
    with pytest.raises(DataError, match=r"parts\.csv puts no image into test") as caught:
        planned_split(checked, without)
    assert "column split" in caught.value.hint
    path = table(tmp_path, cat="train", dog="unused")
    lines = path.read_text().replace("cat/0.jpg,train", "cat/0.jpg,test")
    path.write_text(lines)
    unlearnt = Options(split=path)
    split = planned_split(checked, unlearnt)
    with pytest.raises(DataError, match=r"no image of these classes into train: dog"):
        learnable_classes(dataset, checked, split, unlearnt)


def test_too_few_images_for_a_test_are_told(tmp_path):
    dataset = open_dataset(write_photos(tmp_path / "photos", each=1))
    checked = check(dataset, FileMemory(Cache(tmp_path / "cache").files), max_bad=0)
    with pytest.raises(DataError, match="too few images to hold any out"):
        planned_split(checked, Options())
