"""Where the files are that a table names: below one folder, however the path is spelled.

A path is relative to a folder and must lie in a root; ``..`` and absolute paths may be in it as
long as they stay there. That is judged by the text alone, before any file is looked for. Links are
followed wherever they lead, as in folders of images: whoever made them could read their target.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headstart.data.folders import subfolders
from headstart.data.read import SUFFIXES
from headstart.errors import DataError

__all__ = ["ADDRESS", "NO_FILE", "OUTSIDE", "UNWRITABLE", "Location", "Locator", "missing_hint"]

OUTSIDE = "the path leads out of the root"
ADDRESS = "an address and not the path of a file"
NO_FILE = "a folder or a device and not a file"
UNWRITABLE = "text that no file can be named by"

_BACKSLASHES = "backslashes read as slashes"
_FORM = "accents in another Unicode form, as the file's name has them"
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:[\\/]", re.IGNORECASE)
_MOST_FOLDERS = 1000  # that are searched for files which are not where the table says
_TRIED = 20  # missing paths that are searched for, from all over the table


@dataclass(frozen=True, slots=True)
class Location:
    """Where a table's path leads.

    Attributes:
        name: The path relative to the root, with forward slashes.
        real: The path without links: the same for two names of one file.
        there: Whether there is a file.
        remark: How the path was understood, where not to the letter.
    """

    name: str
    real: str
    there: bool
    remark: str | None = None


class Locator:
    """Finds files by the paths of a table.

    Args:
        folder: What relative paths are relative to.
        root: The folder that all must lie in.
    """

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = os.path.normpath(folder.absolute())
        self._root = os.path.normpath(root.absolute())
        # Absolute paths may be written with or without the links on the way to the root.
        self._prefixes = [_as_prefix(self._root), _as_prefix(os.path.realpath(root))]
        self._real: dict[str, str] = {}

    def locate(self, text: str) -> Location | str:
        """Find the file that a path means.

        Returns:
            Its location, or what is wrong with the path: one of the constants of this module.
        """
        if _ADDRESS.match(text):
            return ADDRESS
        try:
            os.fsencode(text)
        except UnicodeEncodeError:
            return UNWRITABLE
        if "\0" in text:
            return UNWRITABLE
        for spelled, remark in _spellings(text):
            name = self._name(spelled)
            if name is None:
                return OUTSIDE
            found = self._found(name, remark)
            if found is not None:
                return found
        name = self._name(_with_slashes(text))
        if name is None or (_DRIVE.match(text) and os.name != "nt"):
            return OUTSIDE
        return Location(name, self._real_path(name), there=False)

    def _name(self, text: str) -> str | None:
        """Return the path relative to the root, or None where it leads out."""
        path = os.path.normpath(os.path.join(self._folder, text))  # noqa: PTH118
        path = "/" + path.lstrip("/") if path.startswith("//") else path
        for prefix in self._prefixes:
            if path.startswith(prefix) and path != prefix:
                return path[len(prefix) :].replace(os.sep, "/")
        return None

    def _found(self, name: str, remark: str | None) -> Location | str | None:
        path = os.path.join(self._root, name)  # noqa: PTH118
        try:
            state = os.lstat(path)
            linked = stat.S_ISLNK(state.st_mode)
            if linked:
                state = os.stat(path)  # noqa: PTH116
        except PermissionError:  # the check says so
            return Location(name, self._real_path(name), there=True, remark=remark)
        except OSError:
            return None
        if not stat.S_ISREG(state.st_mode):
            return NO_FILE
        real = os.path.realpath(path) if linked else self._real_path(name)
        return Location(name, real, there=True, remark=remark)

    def _real_path(self, name: str) -> str:
        """Return the path with the links of its folders resolved, each folder's only once."""
        folder, _, file = name.rpartition("/")
        if folder not in self._real:
            self._real[folder] = os.path.realpath(os.path.join(self._root, folder))  # noqa: PTH118
        return f"{self._real[folder]}/{file}"


def _as_prefix(folder: str) -> str:
    return folder.rstrip(os.sep) + os.sep


def _with_slashes(text: str) -> str:
    return text.replace("\\", "/") if os.sep == "/" else text


def _spellings(text: str) -> Iterator[tuple[str, str | None]]:
    """Yield a path as it is written, and then as it may have been meant."""
    yield text, None
    if not text.isascii():
        for form in ("NFC", "NFD"):
            other = unicodedata.normalize(form, text)
            if other != text:
                yield other, _FORM
    if _with_slashes(text) != text:
        yield _with_slashes(text), _BACKSLASHES


def missing_hint(folder: Path, paths: Sequence[str]) -> str:
    """Return what can be done about files that are not there, if they can be found elsewhere.

    Args:
        folder: Where they are not.
        paths: Their paths relative to it; at least one.
    """
    tried = [path.replace("\\", "/") for path in paths[:: 1 + (len(paths) - 1) // _TRIED]]
    for suffix in SUFFIXES:
        if _exists(folder, tried[0] + suffix):
            return f"The paths lack {suffix}: write it, as in {tried[0] + suffix!r}."
    best: Path | None = None
    most = 0
    for other in _elsewhere(folder):
        held = sum(_exists(other, path) for path in tried)
        if held > most:
            best, most = other, held
    if best is None:
        return "Give the folder that the paths are relative to: --root FOLDER"
    told = shlex.quote(str(best))
    if 2 * most < len(tried):  # they are in several folders, and no root is that of all
        return f"Some are in {told}: write the folders before the names of the files."
    return f"Did you mean --root {told}? Of {len(tried)} that were looked for, {most} are there."


def _exists(folder: Path, path: str) -> bool:
    try:
        return (folder / path).is_file()
    except (OSError, ValueError):
        return False


def _elsewhere(folder: Path) -> Iterator[Path]:
    """Yield folders that the paths may be relative to: below, above, and beside; not all there are.

    The nearest come first.
    """
    waiting = [folder]
    for place in waiting:
        if len(waiting) < _MOST_FOLDERS:
            waiting += _folders(place)
    yield from waiting[1:]
    above = Path(os.path.normpath(folder.absolute())).parents
    yield from above[:3]
    if above:
        yield from _folders(above[0])[:_MOST_FOLDERS]


def _folders(folder: Path) -> list[Path]:
    try:
        return subfolders(folder)
    except DataError:  # a folder that can't be listed
        return []
