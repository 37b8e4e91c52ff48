"""Zip files, opened without trust: what could do harm is refused before anything is written.

Nothing here knows what the files are about.
"""

from __future__ import annotations

import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from headstart.data.quoting import quoted
from headstart.data.taken_paths import TakenPaths
from headstart.errors import DataError, HeadstartError, ResourceError

__all__ = ["Entry", "Refusal", "entries", "extract"]

MOST_ENTRIES = 500_000
_MOST_RATIO = 200  # unpacked to packed; photos have 1, and deflate can't pass 1,032
_UNSUSPICIOUS = 1 << 20  # bytes: a small file may be as empty as it likes
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_LONGEST = 255  # bytes of a name, on all usual file systems
_LONGEST_PATH = 2_048  # bytes; systems end at 4,096, and the folder's own name comes before it
_DEEPEST = 100  # names in a path
_CHUNK = 1 << 20
_ENTRY = b"PK\1\2"  # how an entry of the directory begins
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError),
    *(ValueError, OverflowError),  # of names and numbers that are none
)


Refusal = type[HeadstartError]
"""What a refusal is raised as: the error for data, or that for models."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or folder in a zip file that may be unpacked.

    Attributes:
        name: Its path with forward slashes; relative, never upwards.
        is_folder: Whether it is one.
        bytes: Its size when it is unpacked.
        info: How zipfile finds it.
    """

    name: str
    is_folder: bool
    bytes: int
    info: zipfile.ZipInfo


def entries(path: Path, *, error: Refusal = DataError) -> tuple[Entry, ...]:
    """List what is in a zip file, if all of it may be unpacked; nothing is.

    Args:
        path: The file.
        error: What a refusal is raised as.

    Raises:
        HeadstartError: It is no zip file, or an entry leads out of the folder it is unpacked in
            (``..``, absolute, a drive, a backslash), is a link, is encrypted, has the name of
            another (case and form of the letters ignored), is longer than 2,048 bytes or deeper
            than 100 folders, overlaps another; an entry, or all of them, would unpack to more than
            200 times their size; or there are more than 500,000 entries, or folders that they lie
            in. An instance of ``error``.
        ResourceError: The file can't be read.
    """
    with _opened(path, error) as archive:
        return tuple(_checked(path, archive, error))


def extract(path: Path, folder: Path, *, error: Refusal = DataError) -> tuple[Entry, ...]:
    """Unpack a zip file into a folder that is not there yet, all of it or nothing.

    Args:
        path: The file.
        folder: Made here, and removed again on an error.
        error: What a refusal is raised as.

    Raises:
        HeadstartError: As ``entries``; or the bytes are not those the directory promised.
        ResourceError: There is no room, or the folder can't be written.
    """
    with _opened(path, error) as archive:
        found = tuple(_checked(path, archive, error))
        try:
            folder.mkdir(parents=True)
        except OSError as problem:  # one that was there is not ours to remove
            raise unwritable(folder, problem) from problem
        try:
            _require_room(path, folder, sum(entry.bytes for entry in found))
            for entry in found:
                target = folder / entry.name
                if entry.is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if fault := _copy(archive, entry, target):
                        raise _refused(path, f"its entry {quoted(entry.name)}: {fault}", error)
        except OSError as problem:
            shutil.rmtree(folder, ignore_errors=True)
            raise unwritable(folder, problem) from problem
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return found


@contextmanager
def _opened(path: Path, error: Refusal) -> Iterator[zipfile.ZipFile]:
    """Open a zip file that has not too many entries to be listed."""
    try:
        count = _count(path)
        if count > MOST_ENTRIES:
            raise _refused(path, f"it has {count:,} entries, more than {MOST_ENTRIES:,}", error)
        archive = zipfile.ZipFile(path)
    except _BROKEN as problem:
        raise error(
            f"{path} can't be read as a zip file: {problem}.",
            field=str(path),
            hint="Make it anew, or fetch it again: it may have been cut short.",
        ) from problem
    except OSError as problem:
        raise unreadable(path, problem) from problem
    with archive:
        yield archive


def _count(path: Path) -> int:
    """Count the entries, and perhaps a few that are none, without keeping any.

    Whatever the file says of itself, nobody can find more entries in it than it has marks of one.
    """
    count, rest = 0, b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            chunk = rest + chunk
            count += chunk.count(_ENTRY)
            rest = chunk[-3:]
    return count


def _checked(path: Path, archive: zipfile.ZipFile, error: Refusal) -> Iterator[Entry]:
    """Yield the entries; raise at the first that may not be unpacked."""
    taken = TakenPaths()
    end = packed = whole = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        name = _name(info)
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        is_folder = name.endswith("/") or not parts
        fault = _fault(info, name) or taken.fault(parts, is_folder)
        if taken.folders > MOST_ENTRIES:
            fault = f"more than {MOST_ENTRIES:,} folders would be made"
        if fault is None and info.header_offset < end:
            fault = "it overlaps another"
        if fault is not None:
            raise _refused(path, f"its entry {quoted(name)}: {fault}", error)
        end = info.header_offset + 30 + info.compress_size  # 30 bytes stand before each
        packed, whole = packed + info.compress_size, whole + info.file_size
        if parts:
            yield Entry("/".join(parts), is_folder, info.file_size, info)
    if _is_suspicious(whole, packed):
        times = f"{whole / max(packed, 1):,.0f} times their size"
        raise _refused(path, f"its entries together would unpack to {times}", error)


def _is_suspicious(whole: int, packed: int) -> bool:
    """Tell whether so many bytes from so few are more than images make."""
    return whole > _UNSUSPICIOUS and whole > _MOST_RATIO * packed


def _name(info: zipfile.ZipInfo) -> str:
    """Return an entry's path, its letters as they were meant.

    Where no flag says UTF-8, zipfile reads the letters of old DOS; most of today's programs write
    UTF-8 all the same.
    """
    if info.flag_bits & 0x800:
        return info.orig_filename
    try:
        return info.orig_filename.encode("cp437").decode("utf-8")
    except ValueError:
        return info.orig_filename


def _fault(info: zipfile.ZipInfo, name: str) -> str | None:
    """Say why an entry may not be unpacked, looking at nothing but itself."""
    mode = info.external_attr >> 16
    parts = name.split("/")
    sizes = [len(part.encode("utf-8", "surrogateescape")) for part in parts]
    ratio = info.file_size / max(info.compress_size, 1)
    faults = {
        "its path is absolute": name.startswith("/"),
        "its path names a drive": re.match("[A-Za-z]:", name) is not None,
        "its path has a backslash": "\\" in name,
        "its path has a zero byte": "\0" in name,
        "its path leads out of the archive": ".." in parts,
        f"its name is longer than {_LONGEST} bytes": max(sizes) > _LONGEST,
        f"its path is longer than {_LONGEST_PATH:,} bytes": (
            sum(sizes) + len(sizes) - 1 > _LONGEST_PATH
        ),
        f"its path is deeper than {_DEEPEST} folders": len(parts) > _DEEPEST,
        "it is a link": stat.S_ISLNK(mode),
        "it is no plain file": stat.S_IFMT(mode)
        not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK),
        "it is encrypted": bool(info.flag_bits & 0x41),
        f"it is packed in a way that is not known (method {info.compress_type})": (
            info.compress_type not in _METHODS
        ),
        f"it would unpack to {ratio:,.0f} times its size": _is_suspicious(
            info.file_size, info.compress_size
        ),
    }
    return next((fault for fault, found in faults.items() if found), None)


def _copy(archive: zipfile.ZipFile, entry: Entry, target: Path) -> str | None:
    """Unpack a file; say what is wrong with its bytes, if anything."""
    written = 0
    info = copy(entry.info)
    info.file_size += 1  # zipfile stops there, and says nothing of what would come
    try:
        with archive.open(info) as source, target.open("xb") as file:
            while chunk := source.read(_CHUNK):
                written += len(chunk)
                file.write(chunk)
    except _BROKEN as problem:
        return f"its bytes are not what they should be ({problem})"
    if written != entry.bytes:
        what = "more" if written > entry.bytes else "fewer"
        return f"it has {what} bytes than the {entry.bytes:,} that were promised"
    return None


def _require_room(path: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise ResourceError(
            f"{path} needs {needed / 1e9:.1f} GB unpacked; the disk of {folder} has "
            f"{free / 1e9:.1f} GB left.",
            field=str(path),
            hint="Set HEADSTART_CACHE to a folder on a disk with room, or unpack it yourself.",
        )


def _refused(path: Path, why: str, error: Refusal) -> HeadstartError:
    return error(
        f"{path} is refused: {why}.",
        field=str(path),
        hint="Nothing of it was kept. Make it anew from plain files and folders.",
    )


def unreadable(path: Path, problem: OSError) -> ResourceError:
    return ResourceError(
        f"{path} can't be read: {problem.strerror or problem}.",
        field=str(path),
        hint="Make the file readable.",
    )


def unwritable(folder: Path, problem: OSError) -> ResourceError:
    return ResourceError(
        f"{folder} can't be written: {problem.strerror or problem}.",
        field=str(folder),
        hint="Set HEADSTART_CACHE to a folder on a disk with room, or run: headstart cache clear",
    )
