from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import (
    FRACTION_SETS,
    PARTS,
    counts,
    given_split,
    grouped_tables,
    items_of,
    parts_of,
    sides,
    table,
    tables,
)

from headstart.data.items import Item
from headstart.data.splits.split import FRACTIONS, make_split, split_of
from headstart.data.splits.units import units_of
from headstart.errors import DataError, UsageError
from headstart.files import digest


@settings(deadline=None)
@given(
    tables() | grouped_tables(),
    FRACTION_SETS,
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79)), max_size=3),
)
def test_every_image_is_in_one_part_and_groups_copies_and_pairs_stay_whole(
    data, fractions, seed, pairs
) -> None:
    items, digests = data
    together = [(one, other) for one, other in pairs if max(one, other) < len(items)]
    split = make_split(items, digests, fractions=fractions, seed=seed, together=together)
    assert all(list(getattr(split, part)) == sorted(getattr(split, part)) for part in PARTS)
    side = sides(split)
    assert len(side) == len(split.train) + len(split.val) + len(split.test) == len(items)
    for one, other in combinations(range(len(items)), 2):
        group = items[one].group
        same = digests[one] == digests[other] or (group and group == items[other].group)
        if same or (one, other) in together or (other, one) in together:
            assert side[one] == side[other]
    if fractions[1] == 0:
        assert not split.val


@settings(deadline=None)
@given(tables() | grouped_tables(), st.randoms(use_true_random=False), st.integers(0, 3))
def test_names_and_order_of_listing_do_not_matter(data, random, seed) -> None:
    items, digests = data
    order = list(range(len(items)))
    random.shuffle(order)
    renamed = [
        Item(Path("x"), f"renamed/{position}", items[index].label, None, items[index].group)
        for position, index in enumerate(order)
    ]
    shuffled = [digests[index] for index in order]
    one = parts_of(make_split(items, digests, seed=seed), digests)
    two = parts_of(make_split(renamed, shuffled, seed=seed), shuffled)
    assert one == two


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1).filter(
        lambda sizes: max(sizes.values()) > 1
    ),
    FRACTION_SETS,
)
def test_every_class_is_shared_out_as_promised(sizes, fractions) -> None:
    items, digests = table(sizes)
    split = make_split(items, digests, fractions=fractions)
    for label, (train, val, test) in counts(split, items).items():
        size = sizes[label]
        assert train >= 1
        assert test >= 1 or size == 1
        assert val >= 1 or size < 3 or fractions[1] == 0
        for share, got in zip(fractions, (train, val, test), strict=True):
            assert abs(got - share * size) < 3


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(14, 40), min_size=1))
def test_the_parts_are_as_near_to_the_fractions_as_can_be(sizes) -> None:
    items, digests = table(sizes)
    split = make_split(items, digests)
    for share, part in zip(FRACTIONS, PARTS, strict=True):
        assert abs(len(getattr(split, part)) - share * len(items)) <= 1


def test_sizes_that_divide_are_exact() -> None:
    items, digests = table({"a": 100, "b": 40})
    assert counts(make_split(items, digests), items) == {"a": (70, 15, 15), "b": (28, 6, 6)}


def test_many_classes_round_in_turn() -> None:
    items, digests = table({f"{n:02}": 10 for n in range(30)})
    split = make_split(items, digests)
    assert (len(split.train), len(split.val), len(split.test)) == (210, 45, 45)


def test_small_classes() -> None:
    items, digests = table({"a": 1, "b": 2, "c": 3, "d": 4})
    assert counts(make_split(items, digests), items) == {
        "a": (1, 0, 0),
        "b": (1, 0, 1),
        "c": (1, 1, 1),
        "d": (2, 1, 1),
    }


def test_classes_of_one_image_leave_nothing_to_test_on_but_do_not_crash() -> None:
    items, digests = table({"a": 1, "b": 1})
    split = make_split(items, digests)
    assert (split.train, split.val, split.test) == ((0, 1), (), ())


def test_an_added_image_moves_few_others() -> None:
    items, digests = table({"a": 60, "b": 60, "c": 60})
    before = parts_of(make_split(items, digests), digests)
    more, new = [*items, Item(Path("x"), "b/x", "b")], [*digests, digest("new")]
    after = parts_of(make_split(more, new), new)
    assert sum(before[image] != after[image] for image in before) <= 4


def test_another_seed_is_another_split_and_the_same_seed_the_same() -> None:
    items, digests = table({"a": 50, "b": 50})
    zero, again, one = (make_split(items, digests, seed=seed) for seed in (0, 0, 1))
    assert zero == again
    assert zero.test != one.test
    assert zero.digest != one.digest
    assert zero.origin == "70/15/15, stratified, seed 0"


def test_the_digest_names_who_is_where() -> None:
    items, digests = table({"a": 20, "b": 20})
    base = make_split(items, digests)
    renamed = [Item(i.path, "x" + i.name, i.label) for i in items]
    swapped = [Item(i.path, i.name, {"a": "b", "b": "a"}[i.label]) for i in items]
    others = [
        make_split(renamed, digests),
        make_split(swapped, digests),
        make_split(items, [digest(image) for image in digests]),
        make_split(items, digests, fractions=(0.6, 0.2, 0.2)),
        make_split(items[1:], digests[1:]),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 6
    assert len(base.digest) == 64
    backwards = make_split(items[::-1], digests[::-1])
    assert backwards.digest == base.digest


def test_three_given_parts_are_as_given() -> None:
    items, digests = given_split(*((part, {"a": 4, "b": 3}) for part in PARTS))
    split = make_split(items, digests, seed=5)
    assert (split.train, split.val, split.test) == (*(tuple(range(n, n + 7)) for n in (0, 7, 14)),)
    assert split.notes == ()
    assert split.origin == "the data's own"


def test_a_missing_val_is_carved_from_train() -> None:
    items, digests = given_split(("train", {"a": 100, "b": 60, "c": 2}), ("test", {"a": 5}))
    split = make_split(items, digests)
    assert counts(split, items) == {"a": (85, 15, 5), "b": (51, 9, 0), "c": (2, 0, 0)}
    assert split.notes == ("val is 15 % of train, stratified, seed 0: the data has none.",)
    assert make_split(items, digests, seed=1).val != split.val


def test_fractions_and_split_folders_exclude_each_other() -> None:
    items, digests = given_split(("train", {"a": 4}), ("test", {"a": 4}))
    with pytest.raises(UsageError, match="has its own split"):
        make_split(items, digests, fractions=(0.7, 0.15, 0.15))


def test_a_split_without_train_is_refused() -> None:
    items, digests = given_split(("test", {"a": 4}))
    with pytest.raises(DataError, match="None of the 4 images is in train"):
        make_split(items, digests)


@pytest.mark.parametrize(
    "fractions",
    [
        (0.7, 0.3),
        (0.7, 0.2, 0.2),
        (1.1, -0.2, 0.1),
        (0.0, 0.5, 0.5),
        (0.8, 0.2, 0.0),
        (float("nan"), 0.5, 0.5),
        (float("inf"), 0.5, 0.5),
    ],
)
def test_impossible_fractions_are_refused(fractions) -> None:
    items, digests = table({"a": 9})
    with pytest.raises(UsageError, match="sum to 1, not"):
        make_split(items, digests, fractions=fractions)


def test_unreadable_images_leave_their_part() -> None:
    items, digests = table({"a": 20, "b": 20})
    split = make_split(items, digests)
    lost = {split.train[0], split.test[-1]}
    rest = split.without(lost)
    assert rest.train == split.train[1:]
    assert rest.val == split.val
    assert rest.test == split.test[:-1]
    assert rest.digest == split.digest


# What was published before must stay what it is


RECORDED = {"a": 100, "b": 40, "c": 3, "d": 2, "e": 1, "f": 17}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "f8f60f8bc2ea7b34"),
        ({"seed": 7}, "9ac9ba59f84f2a7c"),
        ({"fractions": (0.6, 0, 0.4)}, "98620d94b8cb0609"),
    ],
)
def test_recorded_digests(options, expected) -> None:
    assert make_split(*table(RECORDED), **options).digest.startswith(expected)


def test_recorded_digest_with_copies() -> None:
    items, _ = table(RECORDED)
    copied = [digest(str(n % 50)) for n in range(len(items))]
    assert make_split(items, copied, seed=2).digest.startswith("f2ead3f45f197555")


def test_recorded_digests_of_given_splits() -> None:
    parts = [("train", RECORDED), ("test", {"a": 9, "b": 4})]
    assert make_split(*given_split(*parts), seed=3).digest.startswith("f9ff96632df8b6d8")
    parts.append(("val", {"a": 5, "c": 2}))
    assert make_split(*given_split(*parts)).digest.startswith("b3d840709de2fb53")


# Groups


@settings(deadline=None)
@given(grouped_tables(), st.integers(0, 3))
def test_every_class_is_learnt_whatever_the_groups(data, seed) -> None:
    items, digests = data
    units = units_of(range(len(items)), items, digests)
    split = make_split(items, digests, seed=seed)
    if any(digests[index] != digests[unit[0]] for unit in units for index in unit):
        assert {items[index].label for index in split.train} == {item.label for item in items}


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 12)), min_size=1, max_size=30),
    FRACTION_SETS,
)
def test_groups_of_one_class_are_in_every_part_they_are_enough_for(groups, fractions) -> None:
    rows = [(label, None, str(n)) for n, (label, size) in enumerate(groups) for _ in range(size)]
    items, digests = items_of(rows)
    split = make_split(items, digests, fractions=fractions)
    for label, (train, val, test) in counts(split, items).items():
        n_groups = sum(name == label for name, _ in groups)
        assert train
        assert bool(test) == (n_groups > 1)
        assert val or n_groups < 3 or not fractions[1]


@settings(deadline=None)
@given(st.lists(st.integers(1, 9), min_size=20, max_size=60), FRACTION_SETS)
def test_groups_come_as_near_to_the_shares_as_half_the_largest(sizes, fractions) -> None:
    rows = [("a", None, str(n)) for n, size in enumerate(sizes) for _ in range(size)]
    items, digests = items_of(rows)
    split = make_split(items, digests, fractions=fractions)
    for share, part in zip(fractions[1:], PARTS[1:], strict=True):
        assert abs(len(getattr(split, part)) - share * len(items)) <= max(1, max(sizes) / 2)


def test_groups_are_stratified() -> None:
    rows = [("ab"[n % 3 == 0], None, f"{n}") for n in range(120) for _ in range(5)]
    items, digests = items_of(rows)
    for train, val, test in counts(make_split(items, digests), items).values():
        total = train + val + test
        assert abs(val - 0.15 * total) <= 5
        assert abs(test - 0.15 * total) <= 5


def test_a_huge_group_is_learnt_from_and_the_distance_is_told() -> None:
    rows = [("ab"[n % 2], None, "huge") for n in range(90)]
    rows += [("ab"[n % 2], None, f"{n // 2}") for n in range(10)]
    items, digests = items_of(rows)
    split = make_split(items, digests)
    assert set(range(90)) <= set(split.train)
    assert split.origin == "70/15/15, stratified, grouped, seed 0"
    (note,) = split.notes
    assert "6 groups of 100 images stay on one side each" in note
    assert "where 70/15/15 was asked for" in note
    assert split.findings == ()


def test_groups_of_single_images_change_nothing() -> None:
    items, digests = table({"a": 60, "b": 30})
    grouped = [Item(i.path, i.name, i.label, None, i.name) for i in items]
    assert make_split(grouped, digests) == make_split(items, digests)


def test_a_class_in_one_group_is_learnt_and_told() -> None:
    rows = [("a", None, f"{n // 3}") for n in range(60)] + [("b", None, "only")] * 9
    items, digests = items_of(rows)
    split = make_split(items, digests)
    assert counts(split, items)["b"] == (9, 0, 0)
    (finding,) = split.findings
    assert (finding.kind, finding.severity) == ("few-groups", "warning")
    assert "b (1)" in finding.message
    assert "a" not in finding.message.partition(":")[2]


def test_an_image_added_to_a_group_moves_few_groups() -> None:
    rows = [("abc"[n % 3], None, f"{n // 6}") for n in range(600)]
    items, digests = items_of(rows)
    before = parts_of(make_split(items, digests), digests)
    more = [*items, Item(Path("x"), "x", "b", None, "50")]
    keys = [*digests, digest("new")]
    after = parts_of(make_split(more, keys), keys)
    moved = {items[n].group for n, image in enumerate(digests) if before[image] != after[image]}
    assert len(moved) <= 4


# What the data's own split leaves open


def test_copies_of_held_out_images_leave_train() -> None:
    items, digests = given_split(*((part, {"a": 6, "b": 6}) for part in PARTS))
    digests[0] = digests[12] = digests[24]  # in all three
    digests[1] = digests[13]
    digests[2] = digests[3]  # in train alone
    split = make_split(items, digests)
    assert split.removed == (0, 1, 12)
    assert split.train == tuple(range(2, 12))
    assert split.val == tuple(range(13, 24))
    assert split.test == tuple(range(24, 36))
    (note,) = split.notes
    assert note.endswith("were left out: 2 out of train and 1 out of val.")
    (finding,) = split.findings
    assert finding.kind == "removed"
    assert finding.severity == "warning"
    assert "train/a/0000.png (train) is test/a/0000.png (test)" in finding.message
    assert "train/a/0001.png (train) is val/a/0001.png (val)" in finding.message
    assert set(finding.files) == {items[n].name for n in (0, 1, 12, 13, 24)}
    fresh = [index for index in range(36) if index not in split.removed]
    assert split.digest == make_split([items[n] for n in fresh], [digests[n] for n in fresh]).digest


def test_groups_across_a_given_split_are_told_and_not_moved() -> None:
    rows = [("ab"[n % 2], PARTS[n // 10], f"{n % 10 // 2}") for n in range(30)]
    items, digests = items_of([*rows, ("a", "train", "alone")])
    split = make_split(items, digests, together=[(0, 29), (0, 2)])
    assert (split.val, split.test) == (tuple(range(10, 20)), tuple(range(20, 30)))
    groups, pairs = split.findings
    assert (groups.kind, pairs.kind) == ("group-leak", "split-leak")
    assert "5 of 6 groups lie in more than one part" in groups.message
    assert "1 pairs of near copies" in pairs.message
    assert pairs.files == (items[0].name, items[29].name)


@pytest.mark.parametrize("other", [{"a": 1, "c": 3}, {"A": 2}])
@pytest.mark.parametrize("part", ["val", "test"])
def test_classes_that_train_lacks_are_named_with_those_it_has(part, other) -> None:
    items, digests = given_split(
        ("train", {"a": 9, "b": 9}), (part, other), ({"val": "test", "test": "val"}[part], {"a": 3})
    )
    with pytest.raises(DataError) as raised:
        make_split(items, digests)
    extra = (set(other) - {"a"}).pop()
    assert f"The split: {part} has classes that train lacks: {extra}." in raised.value.message
    assert "train: a, b" in raised.value.message
    assert ("differ only in case" in raised.value.hint) == (extra == "A")


def test_a_class_that_copies_would_leave_unlearnt_is_refused() -> None:
    items, digests = given_split(("train", {"a": 9, "b": 1}), ("test", {"a": 3, "b": 1}))
    digests[9] = digests[13]
    with pytest.raises(DataError, match="classes are also in val or test: b"):
        make_split(items, digests)


def test_a_split_that_says_train_throughout_says_nothing() -> None:
    items, digests = table({"a": 20, "b": 20}, "train")
    split = make_split(items, digests)
    assert counts(split, items) == {"a": (14, 3, 3), "b": (14, 3, 3)}
    assert split.notes == ("All images are said to be in train, so they are shared out.",)


def test_parts_are_named_by_who_is_in_them() -> None:
    items, digests = table({"a": 4})
    one = split_of(([2, 0], [1], [3]), items, digests, origin="mine")
    assert (one.train, one.val, one.test) == ((0, 2), (1,), (3,))
    other = split_of(([0, 1], [2], [3]), items, digests, origin="mine")
    assert one.digest != other.digest
    with pytest.raises(DataError, match="None of the 4 images is in train"):
        split_of(([], [1], [3]), items, digests, origin="mine")
