"""What is known of image files, learnt once and remembered; held as columns, not as objects.

A row is what one file's header says, with the digest of its bytes; the full pass
(:mod:`headstart.data.checks.look`) adds what its pixels say. A remembered row that has both serves
both passes, so the light one never forgets what the full one learnt.
"""

from __future__ import annotations

import sys
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from headstart.data.loader import in_threads
from headstart.data.read import Header, opened, source_digest
from headstart.errors import BadImage
from headstart.memory import FileMemory

__all__ = ["Facts", "Row", "columns", "learn", "read_row", "row_of", "usable"]

Row = Mapping[str, Any]

_AT_ONCE = 1000  # files between two writes to the memory: what a killed pass may lose
_VERSION = 3  # of a row; to be raised when other things are noted of a file
_MAKE, _MODEL, _ORIENTATION = 0x010F, 0x0110, 0x0112  # EXIF tags
_ON_ITS_SIDE = range(5, 9)  # orientations whose width is the upright picture's height


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What headers say: columns with one row an image.

    Attributes:
        width: (N,) int32, pixels as stored, before EXIF turns them.
        height: (N,) int32.
        bytes: (N,) int64, size of the file.
        format: By content: JPEG, PNG, …
        mode: Pillow's mode of the stored pixels.
        camera: Make and model as EXIF tells them; empty where it does not.
        exif: (N,) bool, whether the file has an EXIF block.
        turned: (N,) bool, whether EXIF turns the picture by a right angle, so that upright its
            width is ``height``.
    """

    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    bytes: npt.NDArray[np.int64]
    format: tuple[str, ...]
    mode: tuple[str, ...]
    camera: tuple[str, ...]
    exif: npt.NDArray[np.bool_]
    turned: npt.NDArray[np.bool_]


def columns(rows: Iterator[Row]) -> Facts:
    """Turn rows into columns; texts that are the same are held once."""
    numbers = [array("q") for _ in range(3)]
    texts: list[list[str]] = [[] for _ in range(3)]
    flags = bytearray(), bytearray()
    for row in rows:
        for column, number in zip(numbers, ("width", "height", "bytes"), strict=True):
            column.append(row[number])
        for words, text in zip(texts, ("format", "mode", "camera"), strict=True):
            words.append(sys.intern(row[text]))
        for flag, yes in zip(flags, ("exif", "turned"), strict=True):
            flag.append(row[yes])
    width, height, size = (np.array(column, np.int64) for column in numbers)
    kind, mode, camera = (tuple(words) for words in texts)
    return Facts(
        *(width.astype(np.int32), height.astype(np.int32), size),
        *(kind, mode, camera),
        *(np.array(flag, np.bool_) for flag in flags),
    )


def learn(
    paths: Sequence[Path],
    memory: FileMemory,
    read: Callable[[Path], Row],
    serves: Callable[[Row], bool],
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Row | str]:
    """Yield each file's row, or the reason why it can't be read, in order.

    Args:
        paths: Image files; one may be there twice and is read once.
        memory: Where rows come from and go to, a thousand at a time.
        read: Reads a row from a file, in threads; raises BadImage.
        serves: Whether a remembered row will do.
        progress: Called with the number of files done and of all files.
    """
    for start in range(0, len(paths), _AT_ONCE):
        chunk = paths[start : start + _AT_ONCE]
        rows: dict[Path, Row | str] = {
            path: row for path, row in memory.recall(chunk).items() if serves(row)
        }
        new = [path for path in dict.fromkeys(chunk) if path not in rows]
        learnt: dict[Path, Row] = {}
        started = time.time_ns()
        try:
            for path, row in zip(new, in_threads(_or_reason(read), new), strict=True):
                rows[path] = row
                if not isinstance(row, str):
                    learnt[path] = row
                if progress is not None:
                    progress(min(start + len(rows), start + len(chunk)), len(paths))
        finally:  # an interruption too leaves what it learnt
            if learnt:
                memory.remember(learnt, since=started)
        yield from (rows[path] for path in chunk)


def read_row(path: Path) -> Row:
    """Read what a file's header says, and the digest of its bytes.

    Raises:
        BadImage: Not an image, damaged in its header, or too large.
    """
    with opened(path) as (header, image):
        return row_of(path, header, image)


def row_of(path: Path, header: Header, image: Image.Image) -> dict[str, Any]:
    """Return the row of an opened image file, as plain JSON types."""
    exif, camera, turned = _exif(image)
    return {
        "version": _VERSION,
        "digest": source_digest(path),
        "notes": list(header.notes),
        "format": header.format,
        "mode": header.mode,
        "width": header.width,
        "height": header.height,
        "bytes": path.stat().st_size,
        "camera": camera,
        "exif": exif,
        "turned": turned,
    }


def usable(row: Row) -> bool:
    """Tell whether a remembered row is of this version."""
    return row.get("version") == _VERSION


def _or_reason(read: Callable[[Path], Row]) -> Callable[[Path], Row | str]:
    def attempt(path: Path) -> Row | str:
        try:
            return read(path)
        except BadImage as error:
            return error.reason

    return attempt


def _exif(image: Image.Image) -> tuple[bool, str, bool]:
    """Tell whether there is an EXIF block, its make and model, and whether it turns the picture.

    TIFF keeps them among its own tags, XMP may hold the orientation. A PNG without the block is not
    asked: Pillow would decode it in search of one behind the pixels.
    """
    there = "exif" in image.info
    if not there and image.format == "PNG":
        return False, "", False
    with suppress(Exception):  # an unreadable EXIF block is as good as none
        tags = image.getexif()
        words = [str(tags.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL)]
        camera = " ".join(word for word in words if word)
        return there or any(words), camera, tags.get(_ORIENTATION) in _ON_ITS_SIDE
    return there, "", False
