"""The sample that facts are measured on."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from headstart.errors import UsageError
from headstart.probe_sample import take_sample
from pictures import write_photos


def test_only_training_images_are_taken(plan, photos):
    made = plan(photos)
    sample = take_sample(made, 30)
    assert len(sample) == 30
    assert set(sample.indices.tolist()) <= set(made.split.train)
    assert sample.n_train == len(made.split.train)
    assert sample.n_classes == 3


def test_each_class_has_its_share(plan, tmp_path):
    write_photos(tmp_path / "x", classes=("cat",), each=60, side=8)
    write_photos(tmp_path / "x", classes=("dog",), each=30, side=8, first=100)
    made = plan(tmp_path / "x")
    sample = take_sample(made, 30)
    assert Counter(sample.labels.tolist()) == {0: 20, 1: 10}


def test_rows_are_those_of_the_plan(plan, photos):
    made = plan(photos)
    sample = take_sample(made, 20)
    items = [made.checked.items[index] for index in sample.indices]
    assert sample.names == tuple(item.name for item in items)
    assert sample.paths == tuple(item.path for item in items)
    assert [made.task.classes[label] for label in sample.labels] == [item.label for item in items]
    assert sample.digests == tuple(made.checked.digests[index] for index in sample.indices)


def test_a_smaller_sample_is_part_of_a_larger_and_the_same_again(plan, photos):
    made = plan(photos)
    large, small = take_sample(made, 40), take_sample(made, 20)
    assert set(small.names) < set(large.names)
    assert take_sample(made, 40).digest == large.digest != small.digest


def test_few_images_are_all_taken(plan, photos):
    made = plan(photos)
    assert set(take_sample(made).indices.tolist()) == set(made.split.train)


def test_the_splits_seed_decides(plan, photos):
    first, second = plan(photos, split_seed=1), plan(photos, split_seed=2)
    again = plan(photos, split_seed=1, seed=5)
    assert take_sample(first, 20).digest == take_sample(again, 20).digest
    assert take_sample(first, 20).digest != take_sample(second, 20).digest


def test_groups_and_copies_share_a_number(plan, tmp_path):
    root = write_photos(tmp_path / "x", each=20, side=8)
    for number in range(3):
        shutil.copy(root / "cat" / f"{number}.jpg", root / "cat" / f"{number}-copy.jpg")
    made = plan(root, group_by=r"/(1?\d)\d?\.jpg")
    sample = take_sample(made, 200)
    known = {made.checked.items[i].group: set() for i in sample.indices}
    for index, number in zip(sample.indices, sample.groups, strict=True):
        known[made.checked.items[index].group].add(number)
    assert all(len(numbers) == 1 for group, numbers in known.items() if group is not None)
    by_digest: dict[str, set[int]] = {}
    for image, number in zip(sample.digests, sample.groups.tolist(), strict=True):
        by_digest.setdefault(image, set()).add(number)
    assert all(len(numbers) == 1 for numbers in by_digest.values())
    assert len(set(sample.groups.tolist())) < len(set(sample.digests))


def test_of_many_classes_the_most_frequent_are_taken(plan, tmp_path):
    for number, each in enumerate((12, 9, 6, 5)):
        write_photos(tmp_path / "x", classes=(f"c{number}",), each=each, side=8, first=50 * number)
    made = plan(tmp_path / "x")
    sample = take_sample(made, 10)
    assert set(sample.labels.tolist()) == {0, 1}
    assert sample.n_classes == 4
    assert sample.to_dict()["n_classes"] == 2
    assert sample.n_train == len(made.split.train)


def test_too_small_a_sample_is_refused(plan, photos):
    with pytest.raises(UsageError, match="room for 10 images or more; got 9"):
        take_sample(plan(photos), 9)


def test_part_of_a_sample_keeps_its_rows_together(plan, photos):
    sample = take_sample(plan(photos), 20)
    part = sample.take(np.array([3, 7]))
    assert part.names == (sample.names[3], sample.names[7])
    assert part.paths == (sample.paths[3], sample.paths[7])
    assert part.digests == (sample.digests[3], sample.digests[7])
    assert part.labels.tolist() == sample.labels[[3, 7]].tolist()
    assert part.groups.tolist() == sample.groups[[3, 7]].tolist()
    assert part.indices.tolist() == sample.indices[[3, 7]].tolist()
    assert part.n_train == sample.n_train


@pytest.mark.parametrize(
    ("labels", "groups", "able"),
    [
        ([0, 0, 1, 1], [0, 1, 2, 3], True),
        ([0, 0, 1, 1], [0, 1, 2, 2], False),
        ([0, 0, 1, 2], [0, 1, 2, 3], False),
        ([0, 0, 0, 0], [0, 1, 2, 3], False),
    ],
)
def test_two_classes_in_two_groups_each_can_be_probed(plan, photos, labels, groups, able):
    sample = take_sample(plan(photos), 20).take(np.arange(4))
    assert replace(sample, labels=np.array(labels), groups=np.array(groups)).able is able
