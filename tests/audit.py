"""What the process does to the machine, as the interpreter itself reports it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass
class Deeds:
    """What was done while it was watched.

    Attributes:
        written: Files opened for writing, folders made, in order.
        renamed: Targets of renames, in order.
        sockets: How many sockets were made.
    """

    written: list[Path] = field(default_factory=list)
    renamed: list[Path] = field(default_factory=list)
    sockets: int = 0

    def outside(self, *folders: Path) -> list[Path]:
        """Return what was written to neither these folders nor the interpreter's own caches."""
        return [
            path
            for path in self.written
            if not any(path.is_relative_to(folder) for folder in folders)
            and "__pycache__" not in path.parts
            and path != Path(os.devnull)
        ]


_watchers: list[Deeds] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watchers:
        return
    for deeds in _watchers:
        if event == "open" and isinstance(arguments[0], str | bytes):
            if arguments[2] & _WRITING:
                deeds.written.append(_absolute(arguments[0]))
        elif event in ("os.mkdir", "sqlite3.connect"):
            deeds.written.append(_absolute(arguments[0]))
        elif event == "os.rename":
            deeds.renamed.append(_absolute(arguments[1]))
        elif event == "socket.__new__":
            deeds.sockets += 1


def _absolute(path: str | bytes | os.PathLike[str]) -> Path:
    return Path.cwd() / os.fsdecode(path)


@contextmanager
def watched() -> Iterator[Deeds]:
    """Note what is done in a block. A hook can't be taken out again, so there is one for all."""
    if _hook not in _installed:
        sys.addaudithook(_hook)
        _installed.append(_hook)
    deeds = Deeds()
    _watchers.append(deeds)
    try:
        yield deeds
    finally:
        _watchers.remove(deeds)


_installed: list[Any] = []
