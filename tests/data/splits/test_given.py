from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import PARTS, counts, given_split, items_of, sides

from headstart.data.items import Item
from headstart.data.splits.given import checked_shares, complete
from headstart.data.splits.split import Split, make_split
from headstart.errors import DataError, UsageError

EIGHTY = {"a": 40, "b": 40}
LITTLE = {"a": 3, "b": 3}


def shared(*said: str, fractions=None) -> tuple[Split, list[Item], dict[str, int]]:
    """A split of eighty images that have none, beside a few that are given these parts."""
    items, digests = given_split((None, EIGHTY), *((part, LITTLE) for part in said))
    split = make_split(items, digests, fractions=fractions)
    where = sides(split)
    for index in range(80, len(items)):
        assert where[index] == items[index].split
    assert len(where) == len(items)
    placed = [where[index] for index in range(80)]
    return split, items, {part: placed.count(part) for part in PARTS}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("test",), (68, 12, 0)),
        (("val",), (68, 0, 12)),
        (("train",), (0, 40, 40)),
        (("train", "val"), (0, 0, 80)),
        (("train", "test"), (0, 80, 0)),
        (("val", "test"), (80, 0, 0)),
        (("train", "val", "test"), (80, 0, 0)),
    ],
)
def test_images_without_a_split_fill_the_parts_that_nobody_gave(said, expected) -> None:
    split, items, placed = shared(*said)
    assert tuple(placed.values()) == expected
    halves = counts(split, items)
    assert halves["a"] == halves["b"]
    open_parts = [part for part in PARTS if placed[part]]
    if len(open_parts) == 2:
        assert split.origin.startswith(f"{' and '.join(said)} as given, the rest ")
        assert split.origin.endswith(f"to {' and '.join(open_parts)}, stratified, seed 0")
        assert split.notes == ()
    else:
        assert split.origin == "the data's own"
        assert split.notes == (f"80 images without a split went to {open_parts[0]}.",)


@pytest.mark.parametrize(
    ("said", "fractions", "expected"),
    [
        ("test", (0.6, 0.2, 0.2), (60, 20, 0)),
        ("test", (0.75, 0.25, 0.0), (60, 20, 0)),
        ("test", (0.8, 0.0, 0.2), (80, 0, 0)),
        ("val", (0.5, 0.25, 0.25), (54, 0, 26)),
        ("train", (0.0, 0.25, 0.75), (0, 20, 60)),
        ("train", (0.5, 0.1, 0.4), (0, 16, 64)),
    ],
)
def test_shares_of_given_parts_are_passed_over(said, fractions, expected) -> None:
    placed = tuple(shared(said, fractions=fractions)[2].values())
    assert all(abs(got - due) <= 1 for got, due in zip(placed, expected, strict=True))
    assert all(bool(got) == bool(due) for got, due in zip(placed, expected, strict=True))


@pytest.mark.parametrize("said", [("train", "val"), ("val", "test"), PARTS])
def test_shares_where_there_is_nothing_to_share_are_refused(said) -> None:
    with pytest.raises(UsageError, match="has its own split, so no other") as raised:
        shared(*said, fractions=(0.7, 0.15, 0.15))
    assert raised.value.field == "split"


@pytest.mark.parametrize(
    ("said", "fractions"),
    [("test", (0.0, 0.5, 0.5)), ("val", (0.8, 0.2, 0.0)), ("train", (1.0, 0.0, 0.0))],
)
def test_an_open_part_needs_a_share(said, fractions) -> None:
    with pytest.raises(UsageError, match="three shares"):
        shared(said, fractions=fractions)


def test_val_is_test_where_there_is_no_other() -> None:
    items, digests = given_split(("train", EIGHTY), ("val", LITTLE))
    split = make_split(items, digests)
    assert split.test == tuple(range(80, 86))
    assert counts(split, items) == {"a": (34, 6, 3), "b": (34, 6, 3)}
    assert "What the data calls val is test" in split.notes[0]
    assert split.notes[1].startswith("val is 15 % of train")


def test_held_out_images_alone_are_refused() -> None:
    for said in (("val", "test"), ("test",)):
        items, digests = given_split(*((part, LITTLE) for part in said))
        with pytest.raises(DataError, match="is in train"):
            make_split(items, digests)


def test_what_is_tied_to_a_given_train_joins_it() -> None:
    rows = [("ab"[n % 2], None, "in train" if n < 4 else None) for n in range(40)]
    items, digests = items_of([*rows, ("a", "train", "in train"), ("b", "train", None)])
    digests[5] = digests[41]
    split = make_split(items, digests, together=[(41, 6)])
    assert {0, 1, 2, 3, 5, 6, 40, 41} == set(split.train)
    assert split.notes == ("6 images without a split are tied to train's, and joined it.",)
    assert split.findings == ()


def test_copies_of_given_held_out_images_are_left_out_of_the_rest() -> None:
    items, digests = given_split((None, EIGHTY), ("val", LITTLE))
    digests[7] = digests[81]
    split = make_split(items, digests)
    assert split.removed == (7,)
    assert 81 in split.val
    assert len(split.train) + len(split.test) == 79


def test_a_group_that_reaches_into_a_given_test_is_told() -> None:
    rows = [("ab"[n % 2], None, str(n // 2)) for n in range(40)]
    items, digests = items_of([*rows, ("a", "test", "3"), ("b", "test", None)])
    split = make_split(items, digests)
    assert split.test == (40, 41)
    (finding,) = split.findings
    assert finding.kind == "group-leak"
    assert finding.message.endswith("given split: 3.")


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from([None, *PARTS]),
            st.none() | st.sampled_from("xyz"),
        ),
        max_size=40,
    ),
    st.lists(st.integers(0, 30), min_size=42, max_size=42),
    st.integers(0, 2),
)
def test_a_given_split_is_kept_whatever_else_there_is(rows, images, seed) -> None:
    rows = [("a", "train", None), ("b", "train", None), *rows]
    items, digests = items_of(rows)
    digests = [f"{image}" for image in images[: len(items)]]
    held_out = {d for item, d in zip(items, digests, strict=True) if item.split in ("val", "test")}
    learnt = [n for n, item in enumerate(items) if item.split == "train"]
    if {items[n].label for n in learnt if digests[n] not in held_out} != set("ab"):
        return  # a class with copies of held-out images only, which tests of its own are about
    split = make_split(items, digests, seed=seed)
    where = sides(split)
    assert set(where) | set(split.removed) == set(range(len(items)))
    assert not set(where) & set(split.removed)
    side_of: dict[str, str] = {}
    for index, part in where.items():
        assert side_of.setdefault(digests[index], part) == part
    said = {item.split for item in items} - {None}
    if "test" in said:
        for index, item in enumerate(items):
            if index in where and item.split in ("val", "test"):
                assert where[index] == item.split


def test_shares_are_scaled_to_the_open_parts() -> None:
    assert checked_shares((0.7, 0.15, 0.15)) == (0.7, 0.15, 0.15)
    assert checked_shares((0.6, 0.2, 0.2), ("train", "val")) == pytest.approx((0.75, 0.25, 0))


def test_a_complete_split_is_returned_as_it_is() -> None:
    items, digests = given_split(*((part, LITTLE) for part in PARTS))
    parts = {part: list(range(6 * n, 6 * n + 6)) for n, part in enumerate(PARTS)}
    done = complete(parts, [], items, digests, fractions=None, seed=0, together=())
    assert (done.parts, done.origin, done.notes) == (parts, "the data's own", ())
