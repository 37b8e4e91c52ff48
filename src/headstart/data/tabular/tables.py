"""Tables of images: one row an image, with its path, label, split, group and weight.

::

    path,label,split,group
    cats/1.jpg,cat,train,tom
    dogs/9.jpg,dog,test,rex

Whatever the file is, the rows become one :class:`~headstart.data.items.Dataset`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from headstart.data.class_folders import PART_NAMES
from headstart.data.items import Dataset, Item
from headstart.data.quoting import quoted
from headstart.data.reading import Reading
from headstart.data.tabular.entries import Entry, read_entries
from headstart.data.tabular.locations import Locator, missing_hint
from headstart.data.tabular.rows import listed
from headstart.errors import DataError, UsageError

__all__ = ["as_dataset", "read_table", "require_files", "settle_splits"]


def read_table(path: Path, reading: Reading, *, labels_needed: bool = True) -> Dataset:
    """Read a table of images: CSV, TSV, JSONL or Parquet; no image is opened.

    The columns are path, label and, if they are there, split, group and weight. A file that is
    listed twice counts once. Files that are not there stay in the data set, so that the check
    counts them as unreadable.

    Args:
        path: The table's file.
        reading: The ``columns``' names in this table, and the ``root`` of the paths. Whether
            another source is the ``test``, so that a lone val part stays val.
        labels_needed: Whether every row must have a label. Otherwise it is "" where there is none.

    Raises:
        DataError: The file or a row of it can't be used, rows contradict each other, or more than
            half of the files are not there.
        UnknownName: ``reading.columns`` names a column that the table lacks.
        UsageError: ``reading.root`` is no folder.
        MissingExtra: A Parquet file, and pyarrow is not installed.
    """
    folder = path.parent if reading.root is None else reading.root
    if not folder.is_dir():
        raise UsageError(
            f"{folder} is no folder.",
            field="root",
            hint="Give the folder that the table's paths are relative to.",
        )
    needed = ("path", "label") if labels_needed else ("path",)
    entries, notes = read_entries(path, reading.columns, Locator(folder, folder), needed=needed)
    require_files(path, entries, folder)
    entries, more = settle_splits(entries, alone=reading.test is None)
    return as_dataset(_name(path), folder, entries, [*notes, *more])


def require_files(path: Path, entries: Sequence[Entry], folder: Path) -> None:
    """Check that no more than half of a table's files are missing: else the root is a wrong one.

    Args:
        path: The table, for messages.
        entries: Its rows.
        folder: What their names are relative to.

    Raises:
        DataError: It is so.
    """
    missing = [entry for entry in entries if not entry.location.there]
    if 2 * len(missing) > len(entries):
        raise DataError(
            f"{path}: {len(missing)} of {len(entries)} files are not in {folder}, such as "
            f"{quoted(missing[0].location.name)}: "
            f"{listed(sorted(entry.number for entry in missing))}.",
            field="data",
            hint=missing_hint(folder, [entry.location.name for entry in missing]),
        )


def settle_splits(entries: Sequence[Entry], *, alone: bool) -> tuple[list[Entry], list[str]]:
    """Make of a table's splits what split folders mean, by the same rules.

    Args:
        entries: The rows of a table.
        alone: Whether this is all of the data, so that a lone held-out part must be the test.

    Returns:
        The rows, and what was done, one sentence each.
    """
    parts = {entry.split for entry in entries}
    if alone and parts == {"train"}:
        note = "All rows are of train: that is the whole data set."
        return [replace(entry, split=None) for entry in entries], [note]
    if alone and parts == {"train", "val"}:
        note = "val is the only held-out part and serves as test."
        tests = [replace(it, split="test") if it.split == "val" else it for it in entries]
        return tests, [note]
    if None in parts and len(parts) > 1:
        without = sorted(entry.number for entry in entries if entry.split is None)
        return list(entries), [f"Without a split, where others have one: {listed(without)}."]
    return list(entries), []


def as_dataset(name: str, root: Path, entries: Sequence[Entry], notes: Iterable[str]) -> Dataset:
    """Make a data set of rows; its classes are those of train, or of all where nothing is train.

    Args:
        name: The data set's.
        root: What the names of the locations are relative to.
        entries: At least one, sorted by name.
        notes: Sentences that go before those made here.
    """
    items = tuple(
        Item(
            root / entry.location.name,
            entry.location.name,
            entry.label,
            entry.split,
            entry.group,
            entry.weight,
        )
        for entry in entries
    )
    learnt = {item.label for item in items if item.split in (None, "train")}
    classes = tuple(sorted(learnt or {item.label for item in items}))
    return Dataset(name, root, items, classes, (*notes, *_absent(entries), *_twins(classes)))


def _name(path: Path) -> str:
    """Return the table's name, or its folder's where the table's says nothing."""
    plain = path.stem.lower() in (*PART_NAMES, "data", "index", "labels", "metadata")
    return (plain and path.resolve().parent.name) or path.stem


def _absent(entries: Sequence[Entry]) -> Iterator[str]:
    absent = sorted((it.number, it.location.name) for it in entries if not it.location.there)
    if absent:
        told = (f"{number} ({quoted(name)})" for number, name in absent)
        yield f"Files that are not there: {listed(told)}."


def _twins(classes: Sequence[str]) -> Iterator[str]:
    """Yield a warning of classes that may be meant to be one."""
    like: dict[str, list[str]] = defaultdict(list)
    for name in classes:
        like[" ".join(name.split()).casefold()].append(name)
    for names in like.values():
        if len(names) > 1:
            told = " and ".join(map(quoted, names))
            yield f"{told} differ only in case or spaces, and are different classes here."
