"""A split as a table that can be kept, read and given again: name, label, split, digest.

The names of files may hold line ends and bytes that are not UTF-8; both come back as they were.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.data.items import Item
from headstart.data.splits.leaks import PARTS, check_classes, same_files, straddling, without_copies
from headstart.data.splits.split import Split, split_of
from headstart.data.splits.thinning import thinned
from headstart.data.splits.units import Pairs
from headstart.data.tabular.delimited import read_delimited
from headstart.errors import DataError
from headstart.files import write_text

__all__ = ["COLUMNS", "read_split", "write_split"]

COLUMNS = ("name", "label", "split", "digest")
_REMOVED, _UNUSED = "removed", "unused"  # copies of held-out images; images that were thinned out
_SPLITS = (*PARTS, _REMOVED, _UNUSED)

_MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    label: str | None
    split: str
    digest: str


@dataclass(frozen=True, slots=True)
class _Matched:
    """The row of every image, and what was found on the way."""

    rows: tuple[_Row, ...]
    notes: tuple[str, ...]


def write_split(
    split: Split, items: Sequence[Item], digests: Sequence[str], path: str | Path
) -> None:
    """Write a split as CSV, a line an image: name, label, split and image digest.

    The split of an image in no part is ``removed`` where it is a copy of a held-out one, and
    ``unused`` where the training images were limited.

    Args:
        split: What to write, before unreadable images left it.
        items: All images it was made of.
        digests: Their image digests.
        path: The file, which is replaced if it is there.

    Raises:
        ResourceError: The file can't be written.
    """
    side = {index: part for part in PARTS for index in getattr(split, part)}
    side |= dict.fromkeys(split.removed, _REMOVED)
    lines = [COLUMNS]
    for index, (item, image) in enumerate(zip(items, digests, strict=True)):
        lines.append((item.name, item.label, side.get(index, _UNUSED), image))
    text = io.StringIO()
    # Quotes everywhere, because Python's csv leaves a lone carriage return without.
    csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(lines)
    write_text(Path(path), text.getvalue())


def read_split(
    path: str | Path, items: Sequence[Item], digests: Sequence[str], *, together: Pairs = ()
) -> Split:
    """Split images as a table says: one of ``write_split``, or any with ``name`` and ``split``.

    An image is found by name and digest, else by its digest (it was renamed, or is a new copy of
    a known one), else by its name (its content has changed). So the same images get the same
    split with the same digest. What the data itself says of a split is passed over.

    Args:
        path: A CSV file with a header.
        items: All usable images.
        digests: Their image digests, in the same order.
        together: Pairs of positions known to be near copies; told of where the split parts them.

    Raises:
        DataError: The table can't be read or does not know some of the images, nobody is in
            train, or train lacks classes of val or test.
    """
    path = Path(path)
    found = _matched(path, _rows(path), items, digests)
    sides: dict[str, list[int]] = {split: [] for split in _SPLITS}
    for index, row in enumerate(found.rows):
        sides[row.split].append(index)
    notes = [*found.notes, *_differences(path, found.rows, items)]
    if sides[_REMOVED]:
        count = len(sides[_REMOVED])
        notes.append(f"{path.name} leaves out {count} copies of images in a more held-out part.")
    origin = f"given by {path.name}"
    whole = ([*sides["train"], *sides[_UNUSED]], sides["val"], sides["test"])
    given = split_of(whole, items, digests, origin=origin, notes=notes, removed=sides[_REMOVED])
    clean = without_copies(given, same_files(digests), items)
    unused = {*sides[_UNUSED]} - {*clean.removed}
    kept = [index for index in clean.train if index not in unused]
    check_classes((kept, clean.val, clean.test), items)
    leaks = straddling((kept, clean.val, clean.test), items, together)
    split = split_of(
        (clean.train, clean.val, clean.test),
        items,
        digests,
        origin=origin,
        notes=clean.notes,
        removed=clean.removed,
        findings=(*clean.findings, *leaks),
    )
    return thinned(split, kept, [item.label for item in items], digests) if unused else split


def _rows(path: Path) -> list[_Row]:
    """Read the table.

    Raises:
        DataError: It can't be read, lacks a column, or a row is wrong, with the numbers of rows.
    """
    (_, header), *records = read_delimited(path, COLUMNS)[0]  # bytes of names need not be UTF-8
    names = [name.casefold() for name in header]
    missing = [name for name in ("name", "split") if name not in names]
    if missing:
        raise DataError(
            f"{path} must have the columns name and split; it has {', '.join(header)}.",
            field="split",
            hint=f"The first line of a split is {','.join(COLUMNS)}; label and digest may lack.",
        )
    rows, wrong, seen = [], [], set()
    for number, cells in records:
        cell = dict(zip(names, cells, strict=True))
        row = _Row(
            cell["name"],
            cell.get("label"),
            cell["split"].strip().casefold(),
            cell.get("digest", "").strip(),
        )
        if row.split not in _SPLITS:
            wrong.append(f"row {number}: the split is {row.split!r}")
        if row.name in seen:
            wrong.append(f"row {number}: {row.name} is there already")
        seen.add(row.name)
        rows.append(row)
    if wrong:
        raise DataError(
            f"{path} can't be used as a split: {_named(wrong, '; ')}.",
            field="split",
            hint=f"A split is one of {', '.join(_SPLITS)}, and each name is there once.",
        )
    return rows


def _matched(
    path: Path, rows: Sequence[_Row], items: Sequence[Item], digests: Sequence[str]
) -> _Matched:
    """Find the row of every image.

    Raises:
        DataError: Images without one.
    """
    by_name = {row.name: row for row in rows}
    pairs = list(zip(items, digests, strict=True))
    exact = {
        item.name
        for item, image in pairs
        if item.name in by_name and by_name[item.name].digest in ("", image)
    }
    by_digest: dict[str, list[_Row]] = defaultdict(list)
    # A row whose own image is there comes last: it is for new copies of that image.
    for known in sorted(rows, key=lambda row: row.name in exact):
        by_digest[known.digest].append(known)
    found: list[_Row | None] = []
    changed, renamed = [], []
    for item, image in pairs:
        row: _Row | None = by_name.get(item.name)
        if item.name not in exact and by_digest.get(image):
            candidates = by_digest[image]
            row = candidates.pop(0) if len(candidates) > 1 else candidates[0]
            renamed.append(item.name)
        elif item.name not in exact and row is not None:
            changed.append(item.name)
        found.append(row)
    unknown = [item.name for item, row in zip(items, found, strict=True) if row is None]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(items)} images are not in {path}: {_named(unknown)}.",
            field="split",
            hint="Add a line for each, or leave --split out to have all images split anew.",
        )
    taken = [row for row in found if row is not None]
    used = {row.name for row in taken}
    gone = [row.name for row in rows if row.name not in used]
    return _Matched(tuple(taken), tuple(_match_notes(path, gone, renamed, changed)))


def _match_notes(
    path: Path, gone: Sequence[str], renamed: Sequence[str], changed: Sequence[str]
) -> Iterator[str]:
    if gone:
        yield f"{len(gone)} images of {path.name} are not among the readable ones: {_named(gone)}."
    if renamed:
        yield f"{len(renamed)} images were found in {path.name} by content: {_named(renamed)}."
    if changed:
        yield f"{len(changed)} images have changed since {path.name}: {_named(changed)}."


def _differences(path: Path, rows: Sequence[_Row], items: Sequence[Item]) -> Iterator[str]:
    """Yield notes about what the data itself says otherwise."""
    pairs = list(zip(rows, items, strict=True))
    labels = [item.name for row, item in pairs if row.label not in (None, "", item.label)]
    if labels:
        yield f"{len(labels)} images have another label than in {path.name}: {_named(labels)}."
    moved = [
        item.name
        for row, item in pairs
        if row.split in PARTS and item.split not in (None, row.split)
    ]
    if moved:
        yield f"{len(moved)} images lie in another part than the data itself says: {_named(moved)}."


def _named(names: Sequence[str], separator: str = ", ") -> str:
    return separator.join(names[:_MOST_NAMED]) + (
        f"{separator}…" if len(names) > _MOST_NAMED else ""
    )
