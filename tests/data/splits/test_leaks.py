from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from split_tables import PARTS, items_of, table

from headstart.data.items import Item
from headstart.data.splits.leaks import (
    check_classes,
    copies_out,
    gathered,
    same_files,
    straddling,
    without_copies,
)
from headstart.data.splits.split import Split, split_of
from headstart.errors import DataError


def test_files_that_are_the_same_are_listed_together() -> None:
    assert same_files(["a", "b", "a", "c", "b", "a"]) == [[0, 2, 5], [1, 4]]


@given(st.dictionaries(st.integers(0, 9), st.integers(0, 2)), st.lists(st.lists(st.integers(0, 9))))
def test_copies_stay_where_they_must_be_kept_apart_most(sides, copies) -> None:
    used: set[int] = set()
    copies = [
        [i for i in dict.fromkeys(group) if i not in used and not used.add(i)] for group in copies
    ]
    out = copies_out(sides, copies)
    for index, kept in out.items():
        assert sides[index] < sides[kept]
        assert kept not in out
    for group in copies:
        assert len({sides[i] for i in group if i in sides and i not in out}) <= 1


def four(train, val, test):
    items, digests = table({"a": 4, "b": 4})
    return split_of((train, val, test), items, digests, origin="mine"), items


def test_pixel_copies_leave_train_then_val_and_the_digest_stays() -> None:
    split, items = four([0, 1, 4, 5], [2, 6], [3, 7])
    clean = without_copies(split, [[0, 2, 3], [4, 5], [6, 7]], items)
    assert (clean.train, clean.val, clean.test) == ((1, 4, 5), (), (3, 7))
    assert clean.removed == (0, 2, 6)
    assert clean.digest == split.digest
    assert clean.notes[0].endswith("1 out of train and 2 out of val.")
    assert clean.findings[0].files == tuple(items[i].name for i in (0, 3, 2, 6, 7))


def test_without_copies_nothing_changes() -> None:
    split, items = four([0, 1, 4, 5], [2, 6], [3, 7])
    assert without_copies(split, [[0, 1], [2, 6]], items) is split
    assert without_copies(split, [], items) is split


def test_what_was_removed_before_stays_removed() -> None:
    split, items = four([0, 1, 4, 5], [2, 6], [3, 7])
    once = without_copies(split, [[0, 3]], items)
    twice = without_copies(once, [[4, 7], [0, 3]], items)
    assert twice.removed == (0, 4)
    assert len(twice.notes) == len(twice.findings) == 2


def test_a_class_is_not_left_unlearnt_for_its_copies() -> None:
    split, items = four([0, 1, 4], [2, 6], [3, 7])
    with pytest.raises(DataError, match="also in val or test: b") as raised:
        without_copies(split, [[4, 7]], items)
    assert "give train other images" in raised.value.hint


def test_many_copies_are_counted_and_some_named() -> None:
    items, digests = table({"a": 300})
    split = split_of((range(150), [], range(150, 300)), items, digests, origin="mine")
    out = without_copies(split, [[n, n + 150] for n in range(149)], items)
    (finding,) = out.findings
    assert "149 copies" in finding.message
    assert finding.message.count(" is ") == 10
    assert finding.message.endswith("; ….")
    assert len(finding.files) == 100


def test_groups_and_pairs_within_a_part_are_no_leak() -> None:
    items, _ = items_of([("a", None, f"{n // 2}") for n in range(6)])
    assert list(straddling(([0, 1], [2, 3], [4, 5]), items, [(0, 1), (2, 3)])) == []
    assert list(straddling(([0, 1], [2], [4, 5]), items, [(2, 3)])) == []
    kinds = [found.kind for found in straddling(([0, 2], [1], [3]), items, [(0, 1)])]
    assert kinds == ["group-leak", "split-leak"]


@pytest.mark.parametrize("part", [1, 2])
def test_classes_are_matched_by_name(part) -> None:
    items, _ = items_of(
        [("a", None, None), ("b", None, None), ("B", None, None), ("a", None, None)]
    )
    parts = [[0, 1], [3], [3]]
    check_classes(parts, items)
    parts[part] = [2, 3]
    with pytest.raises(DataError, match=f"The split: {PARTS[part]} has classes") as raised:
        check_classes(parts, items)
    assert raised.value.hint == "B and b differ only in case: rename one."
    with pytest.raises(DataError) as raised:
        check_classes([[0], [1], [3]], items)
    assert "train: a\nval: b" in raised.value.message


def made(train: str, val: str, test: str) -> tuple[Split, list[Item]]:
    """A split of images whose labels are letters."""
    labels = train + val + test
    items = [Item(Path(f"{n}.jpg"), f"{n}.jpg", label) for n, label in enumerate(labels)]
    ends = [0, len(train), len(train + val), len(labels)]
    cuts = [range(*pair) for pair in pairwise(ends)]
    return Split(*(tuple(cut) for cut in cuts), digest="d", origin="ours"), items


def test_equal_images_are_gathered_in_the_most_held_out_part():
    split, items = made("aabb", "ab", "ab")
    found = gathered(split, [(0, 4), (2, 5, 7), (6,)], items)
    assert (found.train, found.val, found.test) == ((1, 3), (0, 4), (2, 5, 6, 7))
    assert "3 images have the same pixels" in found.notes[-1]
    assert (found.digest, found.removed) == ("d", ())
    assert gathered(split, [(0, 1)], items) is split


def test_equal_images_are_learnt_where_their_class_has_no_others():
    split, items = made("aac", "ab", "abc")
    found = gathered(split, [(2, 7)], items)
    assert 2 in found.train
    assert 7 in found.train
    assert found.test == (5, 6)
