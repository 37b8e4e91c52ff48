from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import FRACTION_SETS, grouped_tables, items_of, table

from headstart.data.splits.sharing import share_out
from headstart.data.splits.units import units_of

SHARES = (0.7, 0.15, 0.15)


@settings(deadline=None)
@given(grouped_tables(), FRACTION_SETS, st.integers(0, 3))
def test_every_position_goes_to_one_part_with_a_share(data, shares, seed) -> None:
    items, digests = data
    units = units_of(range(0, len(items), 2), items, digests)
    parts = share_out(units, [item.label for item in items], digests, shares, seed)
    assert sorted([*parts[0], *parts[1], *parts[2]]) == list(range(0, len(items), 2))
    assert all(part == [] for part, share in zip(parts, shares, strict=True) if not share)


def test_nothing_is_shared_out_as_nothing() -> None:
    assert share_out([], [], [], SHARES, 0) == ([], [], [])


@settings(deadline=None)
@given(grouped_tables(), st.integers(0, 3))
def test_test_has_every_class_that_can_leave_train_by_itself(data, seed) -> None:
    """A group of one class only, with another group of that class, can always be tested."""
    items, digests = data
    labels = [item.label for item in items]
    units = [*units_of(range(len(items)), items, digests)]
    if all(len({digests[i] for i in unit}) == 1 for unit in units):
        return
    train, _, test = (
        {labels[i] for i in part} for part in share_out(units, labels, digests, SHARES, seed)
    )
    assert train == set(labels)
    for label in train - test:
        own = [unit for unit in units if {labels[i] for i in unit} == {label}]
        holding = [unit for unit in units if label in {labels[i] for i in unit}]
        assert len(holding) == 1 or not own


def test_train_comes_before_test_where_groups_mix_classes() -> None:
    rows = [("a", None, "1"), ("b", None, "1"), ("a", None, "2"), ("c", None, "2")]
    items, digests = items_of(rows)
    units = units_of(range(4), items, digests)
    train, val, test = share_out(units, [item.label for item in items], digests, SHARES, 0)
    assert sorted(train) == [0, 1, 2, 3]
    assert val == test == []


@pytest.mark.parametrize("seed", range(5))
def test_three_large_groups_are_one_for_each_part(seed) -> None:
    items, digests = items_of([("a", None, str(n % 3)) for n in range(90)])
    units = units_of(range(90), items, digests)
    parts = share_out(units, ["a"] * 90, digests, SHARES, seed)
    assert [len(part) for part in parts] == [30, 30, 30]


def test_a_pair_of_images_in_one_unit_is_shared_out_by_unit() -> None:
    items, digests = table({"a": 100, "b": 100})
    labels = [item.label for item in items]
    units = units_of(range(200), items, digests, [(0, 1)])
    parts = share_out(units, labels, digests, SHARES, 0)
    assert sum({0, 1} <= set(part) for part in parts) == 1
    for part, expected in zip(parts, (70, 15, 15), strict=True):
        for label in "ab":
            assert abs(sum(labels[i] == label for i in part) - expected) <= 1


@pytest.mark.parametrize("seed", range(30))
def test_a_class_whose_only_image_is_a_copy_under_another_label_is_learnt(seed):
    """One unit of two labels: class by class it counts to the first, and could go anywhere."""
    labels = ["a"] * 20 + ["b"]
    digests = [f"{number:02}" for number in range(20)] + ["07"]
    units = [(n,) for n in range(20) if n != 7] + [(7, 20)]
    train, _, test = share_out(units, labels, digests, (0.7, 0.15, 0.15), seed)
    assert 20 in train
    assert 7 in train
    assert test


@pytest.mark.parametrize("seed", range(30))
def test_a_class_that_shares_its_copies_is_in_every_part(seed):
    labels = ["a"] * 20 + ["b"] * 4
    digests = [f"{number:02}" for number in range(20)] + ["03", "07", "11", "99"]
    units = [(n,) for n in range(20) if n not in (3, 7, 11)] + [(3, 20), (7, 21), (11, 22), (23,)]
    parts = share_out(units, labels, digests, (0.7, 0.15, 0.15), seed)
    assert all({labels[index] for index in part} == {"a", "b"} for part in parts)
