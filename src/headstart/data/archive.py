"""Zip files, opened without trust: what could do harm is refused before anything is written.

Nothing here knows what the files are about.
"""

from __future__ import annotations

import re
import shutil
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path

from headstart.errors import DataError, HeadstartError, ResourceError

__all__ = ["Entry", "Refusal", "entries", "extract"]

MOST_ENTRIES = 500_000
_MOST_RATIO = 200  # unpacked to packed; photos have 1, and deflate can't pass 1,032
_UNSUSPICIOUS = 1 << 20  # bytes: a small file may be as empty as it likes
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_LONGEST = 255  # bytes of a name, on all usual file systems
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
            another (case and form of the letters ignored), overlaps another, or would unpack to
            more than 200 times its size; or there are more than 500,000. An instance of ``error``.
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
            _require_room(path, folder, sum(entry.bytes for entry in found))
            for entry in found:
                target = folder / entry.name
                if entry.is_folder:
                    target.mkdir(parents=True, exist_ok=True)
                else:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    if fault := _copy(archive, entry, target):
                        raise _refused(path, f"its entry {_shown(entry.name)}: {fault}", error)
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
    taken = _Taken()
    end = 0
    for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
        name = _name(info)
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        is_folder = name.endswith("/") or not parts
        fault = _fault(info, name) or taken.fault(parts, is_folder)
        if fault is None and info.header_offset < end:
            fault = "it overlaps another"
        if fault is not None:
            raise _refused(path, f"its entry {_shown(name)}: {fault}", error)
        end = info.header_offset + 30 + info.compress_size  # 30 bytes stand before each
        if parts:
            yield Entry("/".join(parts), is_folder, info.file_size, info)


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
    ratio = info.file_size / max(info.compress_size, 1)
    faults = {
        "its path is absolute": name.startswith("/"),
        "its path names a drive": re.match("[A-Za-z]:", name) is not None,
        "its path has a backslash": "\\" in name,
        "its path has a zero byte": "\0" in name,
        "its path leads out of the archive": ".." in parts,
        f"its name is longer than {_LONGEST} bytes": any(
            len(part.encode("utf-8", "surrogateescape")) > _LONGEST for part in parts
        ),
        "it is a link": stat.S_ISLNK(mode),
        "it is no plain file": stat.S_IFMT(mode)
        not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK),
        "it is encrypted": bool(info.flag_bits & 0x41),
        f"it is packed in a way that is not known (method {info.compress_type})": (
            info.compress_type not in _METHODS
        ),
        f"it would unpack to {ratio:,.0f} times its size": (
            info.file_size > _UNSUSPICIOUS and ratio > _MOST_RATIO
        ),
    }
    return next((fault for fault, found in faults.items() if found), None)


class _Taken:
    """The paths that are taken, for a file system to which A and a are the same."""

    def __init__(self) -> None:
        self._spelt: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._files: set[tuple[str, ...]] = set()
        self._folders: set[tuple[str, ...]] = set()

    def fault(self, parts: tuple[str, ...], is_folder: bool) -> str | None:
        """Take a path, or say what keeps it from being taken."""
        key = tuple(unicodedata.normalize("NFC", part).casefold() for part in parts)
        above = {key[:depth] for depth in range(1, len(parts))}
        for depth in range(1, len(parts) + 1):
            known = self._spelt.setdefault(key[:depth], parts[:depth])
            if known != parts[:depth]:
                return f"{_shown('/'.join(known))} has the same letters, but for their case or form"
        if key in self._files and not is_folder:
            return "there are two of that name"
        if (above | {key} if is_folder else above) & self._files or (
            key in self._folders and not is_folder
        ):
            return "it would be both a file and a folder"
        self._folders |= above | ({key} if is_folder else set())
        self._files |= set() if is_folder else {key}
        return None


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


def _shown(name: str) -> str:
    return repr(name if len(name) <= 100 else f"{name[:100]}…")


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
