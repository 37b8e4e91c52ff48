"""The paths that entries of an archive take, for a file system to which A and a are the same."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from headstart.data.quoting import quoted

__all__ = ["TakenPaths"]


@dataclass(frozen=True, slots=True)
class _Name:
    """A name in a path that is taken: its number, how it is spelt, and whether it is a folder."""

    number: int
    spelt: str
    is_folder: bool


class TakenPaths:
    """The files and folders that are there once all paths so far are unpacked.

    A name is found by the number of the one above it, so that memory and time grow with the names
    and not with the square of their depth.

    Attributes:
        folders: How many folders there are, those that nobody named by themselves included.
    """

    def __init__(self) -> None:
        self.folders = 0
        self._names: dict[tuple[int, str], _Name] = {}

    def fault(self, parts: tuple[str, ...], is_folder: bool) -> str | None:
        """Take a path, given as its names, or say what keeps it from being taken."""
        above = 0  # the number of the archive itself
        for depth, part in enumerate(parts, start=1):
            key = above, unicodedata.normalize("NFC", part).casefold()
            holds = is_folder or depth < len(parts)
            known = self._names.get(key)
            if known is None:
                known = self._names[key] = _Name(len(self._names) + 1, part, holds)
                self.folders += holds
            elif known.spelt != part:
                other = quoted("/".join((*parts[: depth - 1], known.spelt)))
                return f"{other} has the same letters, but for their case or form"
            elif known.is_folder != holds:
                return "it would be both a file and a folder"
            elif not holds:
                return "there are two of that name"
            above = known.number
        return None
