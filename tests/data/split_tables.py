"""Items without files, and what a split did with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from hypothesis import strategies as st

from headstart.data.items import Item
from headstart.data.splits.split import Split
from headstart.files import digest

PARTS = ("train", "val", "test")
FRACTION_SETS = st.sampled_from(
    [(0.7, 0.15, 0.15), (0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.6, 0.0, 0.4), (0.34, 0.33, 0.33)]
)

Table = tuple[list[Item], list[str]]


def table(sizes: dict[str, int], split: str | None = None) -> Table:
    """Items of classes of these sizes, each image another."""
    labels = [(label, n) for label, size in sizes.items() for n in range(size)]
    items = [Item(Path(f"{n}"), f"{split}/{label}/{n:04}.png", label, split) for label, n in labels]
    return items, [digest(item.name) for item in items]


def given_split(*sizes: tuple[str | None, dict[str, int]]) -> Table:
    tables = [table(counts, part) for part, counts in sizes]
    return [i for items, _ in tables for i in items], [d for _, digests in tables for d in digests]


def items_of(rows: Iterable[tuple[str, str | None, str | None]]) -> Table:
    """Items of (label, split, group), each image another."""
    items = [
        Item(Path("x"), f"{n:04}.png", label, split, group)
        for n, (label, split, group) in enumerate(rows)
    ]
    return items, [digest(item.name) for item in items]


def parts_of(split: Split, keys: Sequence[str]) -> dict[str, str]:
    return {keys[index]: part for part in PARTS for index in getattr(split, part)}


def sides(split: Split) -> dict[int, str]:
    return {index: part for part in PARTS for index in getattr(split, part)}


def counts(split: Split, items: Sequence[Item]) -> dict[str, tuple[int, ...]]:
    found = {part: Counter(items[i].label for i in getattr(split, part)) for part in PARTS}
    return {
        label: tuple(found[part][label] for part in PARTS)
        for label in sorted({item.label for item in items})
    }


@st.composite
def tables(draw) -> Table:
    """Classes of any sizes, with copies inside and across classes."""
    images = draw(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 40)), max_size=60))
    images += [("a", 100), ("a", 101)]
    items = [
        Item(Path(f"{n}"), f"{label}/{n:03}.png", label) for n, (label, _) in enumerate(images)
    ]
    return items, [digest(str(image)) for _, image in images]


@st.composite
def grouped_tables(draw) -> Table:
    """Classes in groups of any sizes, of one class or several; copies inside and across."""
    row = st.tuples(
        st.sampled_from("abcd"), st.none() | st.integers(0, 15).map(str), st.integers(0, 60)
    )
    rows = draw(st.lists(row, min_size=1, max_size=80))
    items = [
        Item(Path("x"), f"{n:03}.png", label, None, group)
        for n, (label, group, _) in enumerate(rows)
    ]
    return items, [digest(str(image)) for _, _, image in rows]
