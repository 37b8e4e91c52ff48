"""Labelled images that were given as Python objects, kept as files and a table.

::

    FOLDER/DIGEST/given.jsonl           a line an image: path, label, split, group, weight
    FOLDER/DIGEST/train/00000007.ppm    an image that came without a file of its own
    FOLDER/DIGEST/root                  where the images are that have files of their own

Everything after this goes on as with files: resuming, the cache, the report. DIGEST is that of all
images and labels, so the same data given again is the same folder. A folder is built under
a temporary name and renamed when it is whole; a killed process leaves nothing that looks finished.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headstart.data.objects.given_rows import Given, GivenRows
from headstart.data.reading import COLUMNS
from headstart.data.signatures import SNIFF, image_format
from headstart.data.tabular.columns import written_names
from headstart.data.unpacked import Unpacked
from headstart.errors import DataError, UsageError
from headstart.files import check_writable, replacing, write_text

__all__ = ["TABLE", "forget_kept", "keep", "list_kept", "root_of"]

TABLE = "given.jsonl"

_SUFFIXES = {
    "JPEG": ".jpg",
    "PNG": ".png",
    "WEBP": ".webp",
    "GIF": ".gif",
    "TIFF": ".tif",
    "BMP": ".bmp",
    "PPM": ".ppm",
}
_PARTS = ("train", "val", "test")
_ROOT = "root"
_BUILDING = ".building-"
_DAY = 86_400  # seconds


def keep(rows: GivenRows, folder: Path, columns: Mapping[str, str] | None = None) -> Path:
    """Write rows as files and a table below ``folder``, unless they are there already.

    Rows that can be read twice are read once for their digest, and again only if they are new.
    Memory does not grow with the number of images.

    Args:
        rows: The labelled images.
        folder: Where all given data is kept.
        columns: Other names for some of the table's columns.

    Returns:
        The path of the table.

    Raises:
        UsageError: There are no images, a second pass gave others than the first, or only some
            have files.
        DataError: The source failed to read one of its own files.
        ResourceError: The folder can't be written, or the disk is full.
    """
    columns, expected = columns or {}, None
    if rows.repeatable:
        expected = _Tally()
        for _ in _counted(rows.make(), columns, expected):
            pass
        if _is_whole(folder / expected.name, expected.size):
            return _used(folder / expected.name)
    check_writable(folder)
    with _building(folder) as building:
        tally = _write(rows.make(), building, columns)
        if expected is not None and tally.name != expected.name:
            raise UsageError(
                "The images or labels changed from one reading of the data to the next.",
                field="data",
                hint="Take random transforms and shuffling out: headstart augments and shuffles "
                "by itself, and only in training.",
            )
        return _moved(building, folder / tally.name, tally.size)


def root_of(table: Path, folder: Path) -> Path | None:
    """Return the folder that the images of a kept table are in; None for any other table.

    A table's images must lie in its root, and its own folder is that if nothing else is said. Ours
    may name any file, because Python did; so a table that lies where they are kept, and no other,
    brings its root along.

    Args:
        table: Any table.
        folder: Where all given data is kept.
    """
    if table.name != TABLE or table.resolve().parents[1] != folder.resolve():
        return None
    try:
        return Path(os.fsdecode((table.parent / _ROOT).read_bytes()))
    except FileNotFoundError:
        return table.parent


def list_kept(folder: Path) -> list[Unpacked]:
    """List what is kept below ``folder``, the least recently used first."""
    found = []
    for kept in (table.parent for table in folder.glob(f"*/{TABLE}")):
        with suppress(OSError):  # another process is removing it
            sizes = [*_sizes(kept)]
            found.append(Unpacked(kept, len(sizes), sum(sizes), kept.stat().st_mtime))
    return sorted(found, key=lambda item: item.last_used)


def forget_kept(folder: Path) -> int:
    """Remove all that is kept below ``folder``, but not what is being written just now.

    Returns:
        How many bytes of files were freed.
    """
    freed = 0
    for item in list_kept(folder):
        (item.folder / TABLE).unlink(missing_ok=True)  # first: what is left is not whole
        shutil.rmtree(item.folder, ignore_errors=True)
        freed += item.bytes
    _remove_left(folder)
    return freed


@dataclass
class _Tally:
    """What was seen so far.

    Attributes:
        rows: How many there were.
        size: Bytes that they take as files and a table.
        root: The folder that all images with files of their own are in.
        digest: Over all lines and contents.
    """

    rows: int = 0
    size: int = 0
    root: str | None = None
    digest: Any = field(default_factory=hashlib.sha256)

    @property
    def name(self) -> str:
        """The name of a folder that holds just these rows."""
        return str(self.digest.hexdigest()[:32])

    def add(self, line: bytes, content: bytes | None) -> None:
        self.rows += 1
        self.size += len(line) + len(content or b"")
        self.digest.update((len(content) + 1 if content is not None else 0).to_bytes(8, "little"))
        self.digest.update(line)
        self.digest.update(content or b"")


def _counted(
    rows: Iterator[Given], columns: Mapping[str, str], tally: _Tally
) -> Iterator[tuple[str, bytes, bytes | None]]:
    """Yield each row's path, its line of the table and what its file is to hold, if it is ours."""
    names = written_names(columns)
    for row in _guarded(rows):
        content = _content(row.image, tally)
        path = str(row.image)
        if content is not None:  # other splits are the table's reader's to refuse
            part = row.split if row.split in _PARTS else "images"
            path = f"{part}/{tally.rows:08d}{_suffix(content)}"
        else:
            folder = os.path.dirname(path)  # noqa: PTH120 - many times faster, and a row each
            tally.root = os.path.commonpath((tally.root or folder, folder))
        cells = dict(zip(COLUMNS, (path, row.label, row.split, row.group, row.weight), strict=True))
        # A column that was asked for is there even where no row has a value.
        cells = {k: v for k, v in cells.items() if v not in ("", None) or k in columns}
        line = json.dumps({names[role]: cell for role, cell in cells.items()}).encode() + b"\n"
        tally.add(line, content)
        yield path, line, content
    if not tally.rows:
        raise UsageError(
            "The data holds no images.",
            field="data",
            hint="An iterator can be read only once: give a new one, or a list.",
        )


def _content(image: bytes | Path, tally: _Tally) -> bytes | None:
    """Return what is to be written; the first image decides whether files stay where they are."""
    if isinstance(image, Path):
        if tally.root is not None or not tally.rows:
            return None
        try:
            return image.read_bytes()
        except OSError as error:
            raise _unreadable(tally.rows, error) from error
    if tally.root is not None:
        raise UsageError(
            f"Image {tally.rows} of the data has no file, and those before it have.",
            field="data",
            hint="Give paths for all images, or pixels for all.",
        )
    return image


def _guarded(rows: Iterator[Given]) -> Iterator[Given]:
    """Tell a source that fails to read from a disk that fails to write."""
    number = 0
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except OSError as error:
            raise _unreadable(number, error) from error
        number += 1
        yield row


def _unreadable(number: int, error: OSError) -> DataError:
    return DataError(
        f"Image {number} of the data can't be read: {error}",
        field="data",
        hint="Mend it, or leave it out.",
    )


def _suffix(content: bytes) -> str:
    kind = image_format(content[:SNIFF])
    return ".pgm" if content[:2] == b"P5" else _SUFFIXES.get(kind or "", ".bin")


def _write(rows: Iterator[Given], folder: Path, columns: Mapping[str, str]) -> _Tally:
    tally = _Tally()
    with replacing(folder / TABLE) as table:  # which also speaks for a disk that the images fill
        for path, line, content in _counted(rows, columns, tally):
            if content is not None:
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_bytes(content)
            table.write(line)
    if tally.root is not None:
        write_text(folder / _ROOT, tally.root)
    return tally


@contextmanager
def _building(folder: Path) -> Iterator[Path]:
    """Make a folder to write in, which is gone afterwards unless it was renamed."""
    _remove_left(folder)
    building = folder / f"{_BUILDING}{secrets.token_hex(8)}"
    building.mkdir()
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _remove_left(folder: Path) -> None:
    """Remove what killed processes left; a day is longer than any takes to write."""
    for left in folder.glob(f"{_BUILDING}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _DAY:
                shutil.rmtree(left)


def _moved(building: Path, target: Path, size: int) -> Path:
    if target.exists() and not _is_whole(target, size):
        shutil.rmtree(target, ignore_errors=True)
    with suppress(OSError):  # another process may have been first with the same data
        building.rename(target)
    return _used(target)


def _used(folder: Path) -> Path:
    with suppress(OSError):  # a cache that can only be read is as good
        os.utime(folder)
    return folder / TABLE


def _is_whole(folder: Path, size: int) -> bool:
    """Tell whether all is still there: a power cut or a person may have taken some."""
    return (folder / TABLE).is_file() and sum(_sizes(folder)) == size


def _sizes(folder: Path) -> Iterator[int]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _sizes(Path(entry.path))
            elif entry.name != _ROOT:
                yield entry.stat().st_size
