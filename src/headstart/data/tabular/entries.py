"""The rows of a table as what they mean: where the file is, label, split, group and weight.

Every row is looked at before an error is raised, which then names all rows that can't be used.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.data.class_folders import PART_NAMES
from headstart.data.quoting import quoted
from headstart.data.reading import COLUMNS
from headstart.data.tabular import locations
from headstart.data.tabular.columns import choose_columns, known_names
from headstart.data.tabular.locations import Location, Locator
from headstart.data.tabular.rows import Rows, listed, read_rows
from headstart.errors import DataError

__all__ = ["Entry", "read_entries"]

Faults = dict[str, dict[int, str | None]]  # what is wrong: the rows, each with what it says

_LONGEST = 4096  # characters of a label or a group; of a path on most systems
_NO_PATH, _NO_LABEL = "no path", "no label"
_LONG = f"text of more than {_LONGEST:,} characters"
_UNDECODABLE = "text with characters that can't be written"
_SPLIT = "a split that is not train, val or test"
# Beyond, float32 and sums of weights lose the small ones.
_LEAST_WEIGHT, _MOST_WEIGHT = 1e-6, 1e6
_WEIGHT = "a weight that is not a number from 0.000001 to 1000000"
_HINTS = {
    _NO_PATH: "Every row names an image: write its path, or remove the row.",
    _NO_LABEL: "Write the labels, or remove the rows.",
    _SPLIT: f"Known are {', '.join(PART_NAMES)}, in any letter case; or leave it empty.",
    _WEIGHT: "Write 0.5 and not 0,5; remove the rows that are not to count.",
    locations.OUTSIDE: "Write paths that stay in it, or name one that holds all: --root FOLDER",
    locations.ADDRESS: "Download the images first.",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table.

    Attributes:
        number: The row, as :class:`~headstart.data.tabular.rows.Rows` counts.
        location: Where its file is.
        label: The class; "" where labels are not needed and there is none.
        split: ``train``, ``val`` or ``test``, or None.
        group: What must not be torn apart, or None.
        weight: How much it counts in training; finite, above 0.
    """

    number: int
    location: Location
    label: str
    split: str | None
    group: str | None
    weight: float


def read_entries(
    path: Path, columns: Mapping[str, str], locator: Locator, *, needed: Sequence[str]
) -> tuple[list[Entry], list[str]]:
    """Read the rows of a table, each file once, sorted by name.

    Args:
        path: The table's file.
        columns: The table's own names for some columns.
        locator: Finds the files.
        needed: The columns that must be there, and have a value in every row.

    Returns:
        The rows, and what was understood or left out, one sentence each.

    Raises:
        DataError: The file or a row of it can't be used, or rows contradict each other.
        UnknownName: The table lacks a column that ``columns`` names.
        MissingExtra: A Parquet file, and pyarrow is not installed.
    """
    rows = read_rows(path, known_names(columns))
    if rows.undecodable is not None and not all(map(_is_writable, rows.names)):
        raise rows.undecodable
    positions, notes = choose_columns(path, rows.names, columns, needed=needed)
    nothing = [None] * len(rows.numbers)
    cells = {
        role: rows.column(positions[role]) if role in positions else nothing for role in COLUMNS
    }
    faults: Faults = defaultdict(dict)
    entries = []
    for number, *values in zip(rows.numbers, *cells.values(), strict=True):
        entry = _entry(number, values, locator, faults, "label" in needed)
        if entry is not None:
            entries.append(entry)
    if rows.undecodable is not None and not _only_in_paths(rows, cells, entries):
        raise rows.undecodable
    if faults:
        raise _unusable(path, faults)
    entries.sort(key=lambda entry: (entry.location.name, entry.number))
    entries, twice = _once(path, entries)
    return entries, [*notes, *_remarks(entries), *twice]


def _entry(
    number: int,
    values: Sequence[str | None],
    locator: Locator,
    faults: Faults,
    labelled: bool,
) -> Entry | None:
    """Make an entry of a row; what is wrong is put among the faults."""
    path, label, split, group, weight = (text if text and text.strip() else None for text in values)
    before = sum(map(len, faults.values()))

    def fault(kind: str, value: str | None = None) -> None:
        faults[kind].setdefault(number, value)

    for text in filter(None, (label, group)):
        if len(text) > _LONGEST:
            fault(_LONG)
        elif not _is_writable(text):
            fault(_UNDECODABLE, text)
    if label is None and labelled:
        fault(_NO_LABEL)
    word = (split or "").strip().lower()
    part = PART_NAMES.get(word)
    if word and part is None:
        fault(_SPLIT, split)
    factor = 1.0 if weight is None else _weight(weight)
    if factor is None:
        fault(_WEIGHT, weight)
    location = _NO_PATH if path is None else locator.locate(path)
    if isinstance(location, str):
        fault(location, path)
    if isinstance(location, str) or factor is None or sum(map(len, faults.values())) > before:
        return None
    return Entry(number, location, label or "", part, group, factor)


def _weight(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if _LEAST_WEIGHT <= value <= _MOST_WEIGHT and "_" not in text else None


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _only_in_paths(
    rows: Rows, cells: Mapping[str, Sequence[str | None]], entries: Sequence[Entry]
) -> bool:
    """Tell whether all bytes that are not UTF-8 are in names of files which are there."""
    there = {entry.number for entry in entries if entry.location.there}
    return all(
        text is None or _is_writable(text) or (role == "path" and number in there)
        for role, texts in cells.items()
        for number, text in zip(rows.numbers, texts, strict=True)
    )


def _unusable(path: Path, faults: Faults) -> DataError:
    lines = [f"{kind}: {_told(found)}" for kind, found in faults.items()]
    message = f"{path}: {lines[0]}."
    if len(lines) > 1:
        message = "\n  ".join([f"{path} has rows that can't be used:", *lines])
    hints = [_HINTS[kind] for kind in faults if kind in _HINTS]
    return DataError(message, field="data", hint=hints[0] if hints else None)


def _told(found: Mapping[int, str | None]) -> str:
    example = next(iter(found.values()))
    if example is None:
        return listed(found)
    one = f" ({quoted(example)})"
    return listed(found) + (one if len(found) == 1 else f", such as {quoted(example)}")


def _once(path: Path, entries: Sequence[Entry]) -> tuple[list[Entry], list[str]]:
    """Leave out rows that say again what another says of the same file."""
    first: dict[str, Entry] = {}
    again, against = [], []
    for entry in entries:
        known = first.setdefault(entry.location.real, entry)
        if known is entry:
            continue
        again.append(entry.number)
        against += [(known, entry)] * (_said(known) != _said(entry))
    if against:
        one, other = min(against, key=lambda pair: pair[1].number)
        low, high = sorted((one, other), key=lambda entry: entry.number)
        more = f" So do {len(against) - 1} more rows." if len(against) > 1 else ""
        raise DataError(
            f"{path}: rows {low.number} and {high.number} contradict each other about "
            f"{quoted(low.location.name)}: {_difference(low, high)}.{more}",
            field="data",
            hint="One image is one row: keep the right one.",
        )
    note = f"Files that are listed again count once: {listed(sorted(again))}."
    return list(first.values()), [note] if again else []


def _said(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in ("label", "split", "group", "weight")}


def _difference(one: Entry, other: Entry) -> str:
    name = next(name for name, value in _said(one).items() if _said(other)[name] != value)
    values = (_said(entry)[name] for entry in (one, other))
    told = ["none" if value is None else quoted(str(value)) for value in values]
    return f"{name} {told[0]} and {told[1]}"


def _remarks(entries: Sequence[Entry]) -> Iterator[str]:
    """Yield what was understood in another way than to the letter."""
    read: dict[str, list[int]] = defaultdict(list)
    for entry in entries:
        if entry.location.remark is not None:
            read[entry.location.remark].append(entry.number)
    for remark, numbers in sorted(read.items()):
        yield f"Paths with {remark}: {listed(sorted(numbers))}."
