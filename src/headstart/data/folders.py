"""Listing folders: what is an image, what is junk, and each real file once.

Junk is what systems leave behind: names that begin with a dot, ``__MACOSX``, ``Thumbs.db``,
``desktop.ini``. Linked folders are followed, but never into a folder that was visited or that
holds the link, so no loop and no detour through the whole tree is possible.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from headstart.data.read import SUFFIXES
from headstart.data.signatures import SNIFF, image_format
from headstart.errors import DataError

__all__ = [
    "files_below",
    "files_by_folder",
    "files_in",
    "holds_images",
    "is_folder",
    "is_image",
    "real_paths",
    "subfolders",
]

_JUNK = {"__macosx", "thumbs.db", "desktop.ini"}


def subfolders(folder: Path) -> list[Path]:
    """Return the folders directly in ``folder``, sorted by name; no junk, no loops."""
    real = os.path.realpath(folder)
    return [path for path, target in _entries(folder, real)[0] if target not in _lineage(real)]


def files_in(folder: Path) -> list[Path]:
    """Return the files directly in ``folder``, sorted by name; no junk."""
    return [path for path, _ in _entries(folder, os.path.realpath(folder))[1]]


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the files in ``folder`` and its subfolders, each real file once; no junk."""
    seen: set[str] = set()
    for _, files in _walk(folder):
        yield from (path for path, target in files if _is_new(target, seen))


def files_by_folder(folder: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Yield ``folder`` and each real folder below it once, with the files directly in it; no junk.

    A real file comes once in each folder that holds it or a link to it.
    """
    for inner, files in _walk(folder):
        seen: set[str] = set()
        yield inner, [path for path, target in files if _is_new(target, seen)]


def real_paths(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the real path of each file; where many lie in one folder, that is looked up once."""
    folders: dict[str, str] = {}
    for path in paths:
        folder, name = os.path.split(path)
        if name == ".." or os.path.islink(path):  # noqa: PTH114 - many times faster
            yield os.path.realpath(path)
            continue
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        yield os.path.join(folders[folder], name)  # noqa: PTH118


def is_folder(path: Path) -> bool:
    """Tell whether a path leads to a folder; not where that may not be looked up."""
    try:
        return path.is_dir()
    except OSError:  # no permission, or too long for a name
        return False


def _walk(folder: Path) -> Iterator[tuple[Path, list[tuple[Path, str]]]]:
    """Yield ``folder`` and each real folder below it once, with its files and their real paths."""
    real = os.path.realpath(folder)
    visited = _lineage(real) | _lineage(os.path.realpath(folder.parent))
    waiting = [(folder, real)]
    while waiting:
        inner, target = waiting.pop()
        folders, files = _entries(inner, target)
        yield inner, files
        new = [(path, target) for path, target in folders if _is_new(target, visited)]
        waiting += reversed(new)  # the last one waiting is the next


def _is_new(target: str, visited: set[str]) -> bool:
    known = target in visited
    visited.add(target)
    return not known


def is_image(path: Path) -> bool:
    """Tell whether a file is to be read as an image: by its extension, else by its content.

    A file with an image's extension is one even if broken; it is reported, not passed over.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        with path.open("rb") as file:
            return image_format(file.read(SNIFF)) is not None
    except OSError:
        return False


def holds_images(folder: Path) -> bool:
    """Tell whether there is an image in ``folder`` or below it."""
    return any(is_image(path) for path in files_below(folder))


def _lineage(real: str) -> set[str]:
    return {real, *map(str, Path(real).parents)}


def _entries(folder: Path, real: str) -> tuple[list[tuple[Path, str]], list[tuple[Path, str]]]:
    """Return the folders and the files in ``folder``, each with its real path."""
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(
            f"{folder} can't be listed: {error.strerror}.",
            field=str(folder),
            hint="Make the folder readable, or move it out of the data.",
        ) from error
    folders, files = [], []
    for entry in entries:
        if entry.name.startswith(".") or entry.name.lower() in _JUNK:
            continue
        path, linked = folder / entry.name, entry.is_symlink()
        target = os.path.realpath(path) if linked else os.path.join(real, entry.name)  # noqa: PTH118
        if is_folder(path) if linked else entry.is_dir():
            folders.append((path, target))
        elif _is_listed(path) if linked else entry.is_file():
            files.append((path, target))
    return folders, files


def _is_listed(link: Path) -> bool:
    """Tell whether a link that leads to no folder counts as a file: not to a pipe or a socket.

    But one to nothing, or to where nobody may look, does, so that it is reported as unreadable.
    """
    try:
        return link.is_file() or not link.exists()
    except OSError:
        return True
