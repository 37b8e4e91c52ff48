from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import counts, grouped_tables, items_of, parts_of, sides, table, tables

from headstart.data.items import Item
from headstart.data.splits.fold import Fold
from headstart.data.splits.folds import fold_split, k_folds
from headstart.data.splits.split import Split
from headstart.data.splits.units import units_of
from headstart.errors import UsageError
from headstart.files import digest


def check_folds(splits: tuple[Split, ...], items: list[Item], digests: list[str]) -> Counter[int]:
    """Assert what holds of all folds; return how often each image is tested."""
    tested = Counter(index for split in splits for index in split.test)
    classes = {item.label for item in items}
    for split in splits:
        where = sides(split)
        assert len(where) == len(split.train) + len(split.val) + len(split.test) == len(items)
        assert split.test
        assert {items[index].label for index in split.train} == classes
        for unit in units_of(range(len(items)), items, digests):
            assert len({where[index] for index in unit}) == 1
    return tested


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1), st.integers(2, 6)
)
def test_every_image_is_tested_once_and_classes_evenly(sizes, k) -> None:
    items, digests = table({**sizes, "z": k})
    splits = k_folds(items, digests, k)
    assert len(splits) == k
    tested = check_folds(splits, items, digests)
    sizes = Counter(item.label for item in items)
    assert all(tested[n] == (sizes[item.label] > 1) for n, item in enumerate(items))
    for split in splits:
        for label, (train, val, test) in counts(split, items).items():
            assert test in (sizes[label] // k, -(-sizes[label] // k))
            assert val or train + test == sizes[label]
            if train + val >= 3:
                assert val
    most, *_, least = sorted((len(split.test) for split in splits), reverse=True)
    assert most - least <= 1


@settings(deadline=None)
@given(st.one_of(tables(), grouped_tables()), st.integers(2, 4), st.integers(0, 2))
def test_units_stay_whole_and_train_knows_every_class(data, k, seed) -> None:
    items, digests = data
    units = units_of(range(len(items)), items, digests)
    holding = Counter(label for unit in units for label in {items[i].label for i in unit})
    free = [unit for unit in units if all(holding[items[i].label] > 1 for i in unit)]
    if len(free) < 3 * k:  # enough to be sure of k folds, whatever is kept in train
        return
    try:
        splits = k_folds(items, digests, k, seed=seed)
    except UsageError:
        pytest.fail(f"{len(free)} units were not enough for {k} folds")
    tested = check_folds(splits, items, digests)
    assert max(tested.values()) == 1
    for unit in set(units) - set(free):
        assert not any(tested[index] for index in unit)


@settings(deadline=None)
@given(grouped_tables(), st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_names_or_order(data, random) -> None:
    items, digests = data
    rows = [("a", None, None), ("b", None, None)] * 4
    more, new = items_of(rows)
    items, digests = [*items, *more], [*digests, *new]
    order = list(range(len(items)))
    random.shuffle(order)
    renamed = [
        Item(Path("x"), f"{n}", items[i].label, None, items[i].group) for n, i in enumerate(order)
    ]
    shuffled = [digests[index] for index in order]
    before, after = k_folds(items, digests, 2), k_folds(renamed, shuffled, 2)
    for one, other in zip(before, after, strict=True):
        assert parts_of(one, digests) == parts_of(other, shuffled)


def test_repeats_are_the_folds_of_the_next_seeds() -> None:
    items, digests = table({"a": 20, "b": 20})
    splits = k_folds(items, digests, 5, seed=3, repeats=2)
    assert splits == (*k_folds(items, digests, 5, seed=3), *k_folds(items, digests, 5, seed=4))
    assert len({split.digest for split in splits}) == 10
    assert splits[6].origin == "fold 2/5, stratified, seed 4"


def test_one_fold_is_that_of_all() -> None:
    items, digests = items_of([("ab"[n % 2], None, f"{n // 4}") for n in range(120)])
    splits = k_folds(items, digests, 5, seed=2)
    for number, split in enumerate(splits, start=1):
        assert fold_split(items, digests, Fold(number, 5), seed=2) == split
    assert splits[0].origin == "fold 1/5, stratified, grouped, seed 2"
    assert splits[0].notes == ("30 groups stay on one side each, in every fold.",)
    assert splits[0].findings == ()
    for split in splits:
        assert counts(split, items)["a"] == counts(split, items)["b"]
        assert len(split.test) == 24


def test_classes_of_fewer_images_than_folds_are_told() -> None:
    items, digests = table({"a": 20, "one": 1, "two": 2, "three": 3, "five": 5})
    splits = k_folds(items, digests, 5)
    check_folds(splits, items, digests)
    (finding,) = splits[0].findings
    assert (finding.kind, finding.severity) == ("few-images", "warning")
    assert "the 5 folds: one (0), three (3), two (2)." in finding.message
    assert all(split.findings == splits[0].findings for split in splits)


def test_images_beside_the_only_ones_of_a_class_are_learnt_and_told() -> None:
    rows = [("ab"[n % 2], None, None) for n in range(20)] + [("rare", None, "g"), ("a", None, "g")]
    items, digests = items_of(rows)
    splits = k_folds(items, digests, 2)
    tested = check_folds(splits, items, digests)
    assert set(range(22)) - set(tested) == {20, 21}
    few, beside = splits[0].findings
    assert "rare (0)" in few.message
    assert beside.kind == "few-groups"
    assert beside.files == (items[21].name,)


def test_a_class_is_not_tested_on_all_it_has() -> None:
    """Two groups that share two classes, and must not both be in one fold."""
    rows = [(label, None, group) for group in "xy" for label in ("a", "b")]
    rows += [("c", None, None)] * 8
    items, digests = items_of(rows)
    for seed in range(20):
        check_folds(k_folds(items, digests, 2, seed=seed), items, digests)


def test_an_added_image_moves_few_others_to_other_folds() -> None:
    items, digests = table({"a": 60, "b": 60, "c": 60})
    more, new = [*items, Item(Path("x"), "b/x", "b")], [*digests, digest("new")]

    def folds(items, digests):
        return {digests[i]: n for n, s in enumerate(k_folds(items, digests, 5)) for i in s.test}

    before, after = folds(items, digests), folds(more, new)
    assert sum(before[image] != after[image] for image in before) <= 5 * 3


def test_pairs_that_were_confirmed_stay_together() -> None:
    items, digests = table({"a": 30, "b": 30})
    for split in k_folds(items, digests, 3, together=iter([(0, 31), (31, 5)])):
        assert len({sides(split)[index] for index in (0, 31, 5)}) == 1


@pytest.mark.parametrize(("k", "repeats"), [(1, 1), (0, 1), (-3, 1), (5, 0)])
def test_impossible_numbers_of_folds_are_refused(k, repeats) -> None:
    items, digests = table({"a": 30, "b": 30})
    with pytest.raises(UsageError, match=f"got {k} and {repeats}") as raised:
        k_folds(items, digests, k, repeats=repeats)
    assert raised.value.field == "fold"


def test_more_folds_than_images_to_test_on_are_refused() -> None:
    items, digests = table({"a": 4, "b": 1})
    assert len(k_folds(items, digests, 4)) == 4
    with pytest.raises(UsageError, match=r"5 folds need as many images or groups .* are 4"):
        k_folds(items, digests, 5)


def test_data_with_a_split_of_its_own_is_refused() -> None:
    items, digests = table({"a": 9, "b": 9}, "train")
    with pytest.raises(UsageError, match="has its own split, so it can't be dealt"):
        fold_split(items, digests, Fold(1, 2))
