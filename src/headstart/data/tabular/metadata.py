"""Hugging Face's layout of a folder of images: a table named metadata among them.

::

    birds/metadata.csv                       file_name,label
    birds/images/1.jpg  birds/images/2.jpg   images/1.jpg,owl …

    birds/train/metadata.jsonl               {"file_name": "1.jpg", "label": "owl"} …
    birds/train/1.jpg  birds/test/9.jpg      the same in each split folder

``file_name`` is relative to the folder of the table that it is in. See
https://huggingface.co/docs/datasets/image_dataset#imagefolder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from headstart.data.class_folders import PART_NAMES
from headstart.data.folders import files_below, is_image, subfolders
from headstart.data.items import Dataset
from headstart.data.quoting import quoted
from headstart.data.reading import Reading
from headstart.data.tabular.entries import Entry, read_entries
from headstart.data.tabular.locations import Locator
from headstart.data.tabular.rows import listed, read_rows
from headstart.data.tabular.tables import as_dataset, require_files, settle_splits
from headstart.errors import DataError

__all__ = ["find_metadata", "read_metadata"]

_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")
_COLUMN = "file_name"
_HEAD = 1 << 16  # bytes in which a column's name stands: at the start, in Parquet at the end


def find_metadata(root: Path) -> list[Path]:
    """Return the metadata files of a folder: of its own and of its split folders.

    A file of that name which does not hold ``file_name`` is something else.

    Raises:
        DataError: The folder, or a metadata file, can't be read.
    """
    parts = [path for path in subfolders(root) if path.name.lower() in PART_NAMES]
    paths = [folder / name for folder in (root, *parts) for name in _NAMES]
    return [path for path in paths if path.is_file() and _names_files(path)]


def read_metadata(
    root: Path,
    reading: Reading,
    found: Sequence[Path] | None = None,
    *,
    labels_needed: bool = True,
) -> Dataset:
    """Read a folder whose metadata files name the images; no image is opened.

    The split is that of a column, else of the split folder. Without a column for the label it is
    the folder that the image lies in, where there are several. An image that is named by the
    metadata of its split folder, and by that above, is taken from the nearer.

    Args:
        root: The folder.
        reading: The ``columns``' names in the metadata; whether another source is the ``test``.
        found: What :func:`find_metadata` returned, if that was asked; at least one.
        labels_needed: Whether every image must have a label. Otherwise it is "" where none is
            given.

    Raises:
        DataError: As :func:`~headstart.data.tabular.tables.read_table`; or there are several
            metadata files in one folder, or no labels.
        UnknownName: The metadata lacks a column that ``reading.columns`` names.
        MissingExtra: A Parquet file, and pyarrow is not installed.
    """
    found = find_metadata(root) if found is None else found
    _require_one_a_folder(found)
    nearest: dict[str, Entry] = {}
    notes: dict[str, None] = {}
    columns = {"path": _COLUMN, **reading.columns}
    for table in sorted(found, key=lambda path: -len(path.parts)):
        locator = Locator(table.parent, root)
        entries, remarks = read_entries(table, columns, locator, needed=("path",))
        entries = [_in_its_folder(entry) for entry in entries]
        require_files(table, entries, root)
        entries, more = _labelled(table, entries, labels_needed)
        notes |= dict.fromkeys((*remarks, *more))
        for entry in entries:
            nearest.setdefault(entry.location.real, entry)
    every = sorted(nearest.values(), key=lambda entry: entry.location.name)
    every, more = settle_splits(every, alone=reading.test is None)
    notes |= dict.fromkeys((*more, *_unlisted(root, every)))
    return as_dataset(root.resolve().name or "data", root, every, notes)


def _names_files(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if path.suffix == ".parquet":
                file.seek(max(0, path.stat().st_size - _HEAD))
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.", field=str(path)) from error
    return _COLUMN.encode() in head.replace(b"\0", b"")  # no matter if it is UTF-16


def _require_one_a_folder(found: Sequence[Path]) -> None:
    for folder in dict.fromkeys(path.parent for path in found):
        names = [path.name for path in found if path.parent == folder]
        if len(names) > 1:
            raise DataError(
                f"{folder} holds several metadata files: {', '.join(names)}.",
                field="data",
                hint="Keep one, or give one of them as DATA: it is a table.",
            )


def _in_its_folder(entry: Entry) -> Entry:
    first, _, _ = entry.location.name.rpartition("/")[0].partition("/")
    return replace(entry, split=entry.split or PART_NAMES.get(first.lower()))


def _labelled(table: Path, entries: Sequence[Entry], needed: bool) -> tuple[list[Entry], list[str]]:
    without = sorted(entry.number for entry in entries if not entry.label)
    if not without or (not needed and len(without) < len(entries)):
        return list(entries), []
    if len(without) < len(entries):
        raise DataError(
            f"{table}: no label: {listed(without)}.",
            field="data",
            hint="Write the labels, or remove the rows.",
        )
    folders = {_folder(entry) for entry in entries}
    if len(folders) > 1 and "" not in folders:
        note = "The metadata has no column label: the folder of an image is its label."
        return [replace(entry, label=_folder(entry)) for entry in entries], [note]
    if not needed:
        return list(entries), []
    there = ", ".join(map(quoted, read_rows(table).names))
    raise DataError(
        f"{table} gives no labels, and its images are not in class folders. Its columns: {there}.",
        field="column",
        hint="Say which column is the label: --column label=NAME",
    )


def _folder(entry: Entry) -> str:
    """Return the name of the folder that an image lies in; "" for the root and split folders."""
    folders = entry.location.name.split("/")[:-1]
    return "" if len(folders) == 1 and folders[0].lower() in PART_NAMES else "".join(folders[-1:])


def _unlisted(root: Path, entries: Sequence[Entry]) -> Iterator[str]:
    names = {entry.location.name for entry in entries}
    real = {entry.location.real for entry in entries}
    left = [
        path
        for path in files_below(root)
        if path.relative_to(root).as_posix() not in names
        and is_image(path)
        and os.path.realpath(path) not in real
    ]
    if left:
        told = ", ".join(quoted(path.relative_to(root).as_posix()) for path in left[:3])
        what = "1 image" if len(left) == 1 else f"{len(left)} images"
        more = ", …" if len(left) > 3 else ""
        yield f"{what} that the metadata does not list left out: {told}{more}."
