from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.items import Item
from headstart.data.split import FRACTIONS, Split, limit, make_split
from headstart.errors import DataError, UsageError
from headstart.files import digest

PARTS = ("train", "val", "test")


def table(sizes: dict[str, int], split: str | None = None) -> tuple[list[Item], list[str]]:
    """Items of classes of these sizes, each image another."""
    labels = [(label, n) for label, size in sizes.items() for n in range(size)]
    items = [Item(Path(f"{n}"), f"{split}/{label}/{n:04}.png", label, split) for label, n in labels]
    return items, [digest(item.name) for item in items]


def parts_of(split: Split, keys: list[str]) -> dict[str, str]:
    return {keys[index]: part for part in PARTS for index in getattr(split, part)}


def counts(split: Split, items: list[Item]) -> dict[str, tuple[int, int, int]]:
    found = {part: Counter(items[i].label for i in getattr(split, part)) for part in PARTS}
    return {
        label: tuple(found[part][label] for part in PARTS)
        for label in sorted({item.label for item in items})
    }


@st.composite
def tables(draw) -> tuple[list[Item], list[str]]:
    """Classes of any sizes, with copies inside and across classes."""
    images = draw(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 40)), max_size=60))
    images += [("a", 100), ("a", 101)]
    items = [
        Item(Path(f"{n}"), f"{label}/{n:03}.png", label) for n, (label, _) in enumerate(images)
    ]
    return items, [digest(str(image)) for _, image in images]


FRACTION_SETS = st.sampled_from(
    [FRACTIONS, (0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.6, 0.0, 0.4), (0.34, 0.33, 0.33)]
)


@settings(deadline=None)
@given(tables(), FRACTION_SETS, st.integers(0, 3))
def test_every_image_is_in_exactly_one_part_and_copies_in_the_same(data, fractions, seed) -> None:
    items, digests = data
    split = make_split(items, digests, fractions=fractions, seed=seed)
    assert sorted((*split.train, *split.val, *split.test)) == list(range(len(items)))
    assert all(list(getattr(split, part)) == sorted(getattr(split, part)) for part in PARTS)
    sides = {}
    for part in PARTS:
        for index in getattr(split, part):
            assert sides.setdefault(digests[index], part) == part
    if fractions[1] == 0:
        assert not split.val


@settings(deadline=None)
@given(tables(), st.randoms(use_true_random=False), st.integers(0, 3))
def test_names_and_order_of_listing_do_not_matter(data, random, seed) -> None:
    items, digests = data
    order = list(range(len(items)))
    random.shuffle(order)
    renamed = [
        Item(Path("x"), f"renamed/{position}", items[index].label)
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


def given_split(*sizes: tuple[str, dict[str, int]]) -> tuple[list[Item], list[str]]:
    tables = [table(counts, part) for part, counts in sizes]
    return [i for items, _ in tables for i in items], [d for _, digests in tables for d in digests]


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
    with pytest.raises(UsageError, match="its own split folders"):
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


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(2, 40), min_size=1),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_limits_are_nested_and_stratified(sizes, one, two) -> None:
    items, digests = table(sizes)
    labels = [item.label for item in items]
    split = make_split(items, digests)
    small, large = sorted(len(sizes) + n for n in (one, two))
    less = limit(split, labels, digests, n=small)
    more = limit(split, labels, digests, n=large)
    assert set(less.train) <= set(more.train) <= set(split.train)
    assert len(less.train) == min(small, len(split.train))
    assert (less.val, less.test) == (split.val, split.test)
    whole = Counter(labels[i] for i in split.train)
    kept = Counter(labels[i] for i in less.train)
    for label, count in whole.items():
        assert kept[label] >= 1
        share = count / len(split.train) * len(less.train)
        assert abs(kept[label] - share) <= len(sizes)


def test_a_limit_per_class() -> None:
    items, digests = table({"a": 40, "b": 10})
    labels = [item.label for item in items]
    split = make_split(items, digests)
    two, three = (limit(split, labels, digests, per_class=n) for n in (2, 3))
    assert [counts(each, items)["a"][0] for each in (two, three)] == [2, 3]
    assert set(two.train) < set(three.train)
    assert counts(limit(split, labels, digests, per_class=9), items)["b"][0] == 7
    both = limit(split, labels, digests, per_class=3, n=4)
    assert set(both.train) < set(three.train)
    assert len(both.train) == 4


def test_a_limit_has_a_digest_and_an_origin_of_its_own() -> None:
    items, digests = table({"a": 40, "b": 40})
    labels = [item.label for item in items]
    split = make_split(items, digests)
    thinned = [limit(split, labels, digests, n=n) for n in (10, 20)]
    assert len({split.digest, *(each.digest for each in thinned)}) == 3
    assert thinned[0].origin == "70/15/15, stratified, seed 0; train thinned to 10"
    assert limit(split, labels, digests, n=1000) == split
    assert limit(split, labels, digests) == split


@pytest.mark.parametrize("limits", [{"n": 1}, {"n": 0}, {"per_class": 0}, {"per_class": -3}])
def test_impossible_limits_are_refused(limits) -> None:
    items, digests = table({"a": 9, "b": 9})
    labels = [item.label for item in items]
    message = r"--limit(-per-class)? must be at least \d.*\nLeave --limit"
    with pytest.raises(UsageError, match=message):
        limit(make_split(items, digests), labels, digests, **limits)
