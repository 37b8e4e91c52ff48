"""How the images of a run are divided: what is asked for, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.data.items import Item
from headstart.data.splits.split import Split
from headstart.division import learnable_classes, planned_split
from headstart.errors import DataError
from headstart.files import digest
from headstart.options import Options

CLASSES = ("dog", "cat")


def images(each: int = 10) -> tuple[Item, ...]:
    """Return items of two classes, without files."""
    names = [f"{label}/{n}.jpg" for label in sorted(CLASSES) for n in range(each)]
    return tuple(Item(Path(name), name, name.split("/")[0]) for name in names)


def planned(items: tuple[Item, ...], **options: Any) -> Split:
    return planned_split(items, [digest(item.name) for item in items], Options(**options))


def table(place: Path, **parts: str) -> Path:
    """Write a split file: the part of every image of a class."""
    lines = [f"{name}/{n}.jpg,{part}" for name, part in parts.items() for n in range(10)]
    (place / "parts.csv").write_text("\n".join(["name,split", *lines]))
    return place / "parts.csv"


def test_the_training_set_is_thinned_as_asked_and_says_so():
    items = images()
    whole, thin = planned(items), planned(items, limit_per_class=3)
    assert len(thin.train) == 6 < len(whole.train)
    assert (thin.val, thin.test) == (whole.val, whole.test)
    assert (whole.limited, thin.limited) == (False, True)
    assert not planned(items, limit=1000).limited  # it limits nothing


def test_the_split_has_a_seed_of_its_own_where_it_is_given():
    digests = [
        planned(images(), seed=seed, split_seed=split_seed).digest
        for seed, split_seed in ((0, None), (1, None), (1, 0))
    ]
    assert digests[0] == digests[2] != digests[1]


def test_classes_keep_the_order_of_their_ids():
    items = images()
    assert learnable_classes(iter(CLASSES), items, planned(items), Options()) == CLASSES


def test_a_class_without_a_training_image_is_named():
    items = images()
    with pytest.raises(DataError, match="no readable training image: owl, rat") as caught:
        learnable_classes((*CLASSES, "owl", "rat"), items, planned(items), Options())
    assert caught.value.field == "classes"


def test_a_table_without_test_or_without_a_class_in_train_is_named(tmp_path):
    items = images()
    with pytest.raises(DataError, match=r"parts\.csv puts no image into test") as caught:
        planned(items, split=table(tmp_path, cat="train", dog="train"))
    assert "column split" in caught.value.hint
    path = table(tmp_path, cat="train", dog="unused")
    path.write_text(path.read_text().replace("cat/0.jpg,train", "cat/0.jpg,test"))
    split = planned(items, split=path)
    with pytest.raises(DataError, match=r"no image of these classes into train: dog") as caught:
        learnable_classes(CLASSES, items, split, Options(split=path))
    assert caught.value.field == "split"


def test_too_few_images_for_a_test_are_told():
    with pytest.raises(DataError, match="too few images to hold any out"):
        planned(images(each=1))
