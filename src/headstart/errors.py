"""The whole error tree of headstart.

::

    HeadstartError                     exit code, id
    ├── UsageError                     2  usage            a wrong name, option or combination
    │   ├── UnknownName                2  unknown-name     "did you mean …"
    │   └── MissingExtra               2  missing-extra    an optional package: a pip line
    ├── DataError                      3  data             the images or labels can't be used
    │   └── BadImage                   3  bad-image        one image can't be read
    ├── ModelError                     4  model            weights, model or run folder not usable
    │   └── UnsafeFile                 4  unsafe-file      refused: reading it could run code
    ├── ResourceError                  5  resource         memory, disk, lock, device, port
    ├── MissingWeights                 6  missing-weights  not in a cache, and not to be downloaded
    └── GateMissed                     7  gate-missed      a result below what ``--min`` asks for

An exception that is not in this tree and reaches the command line is a bug of headstart's own
(exit code 1). Every error says what must hold, what was found and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

__all__ = [
    "BadImage",
    "DataError",
    "GateMissed",
    "HeadstartError",
    "MissingExtra",
    "MissingWeights",
    "ModelError",
    "ResourceError",
    "UnknownName",
    "UnsafeFile",
    "UsageError",
]


class HeadstartError(Exception):
    """Base of every error that headstart raises on purpose.

    Args:
        message: What must hold and what was found, naming the file or value.
        field: The option, column or file the message is about, if there is one.
        hint: The next step, if the message does not already say it.
    """

    id: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, field: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def to_dict(self) -> dict[str, str | None]:
        """Return the ``error`` object of the commands' JSON."""
        return {"id": self.id, "message": self.message, "field": self.field, "hint": self.hint}


class UsageError(HeadstartError):
    """An option, a name or a combination of options that can't be used."""

    id = "usage"
    exit_code = 2


class UnknownName(UsageError):
    """A name that is not among the known ones.

    Args:
        kind: What the name is for, such as ``"strategy"``.
        name: What was given.
        known: The names that could have been given.
        field: The option it came from.
        hint: The next step; by default the nearest known names.
    """

    id = "unknown-name"

    def __init__(
        self,
        kind: str,
        name: str,
        known: Iterable[str],
        *,
        field: str | None = None,
        hint: str | None = None,
    ) -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        if hint is None and close:
            hint = f"Did you mean {' or '.join(close)}?"
        elif hint is None and len(names) <= 12:
            hint = f"Known: {', '.join(names)}."
        super().__init__(f"There is no {kind} named {name!r}.", field=field, hint=hint)


class MissingExtra(UsageError):
    """A package of one of headstart's extras is needed and not installed.

    Args:
        what: What needs it, in the user's words.
        extra: The extra that brings it.
        field: The option or value that asked for it.
    """

    id = "missing-extra"

    def __init__(self, what: str, extra: str, *, field: str | None = None) -> None:
        super().__init__(
            f"{what} needs the extra [{extra}], which is not installed.",
            field=field,
            hint=f'Install it with: pip install "headstart[{extra}]"',
        )


class DataError(HeadstartError):
    """Images or labels that can't be used as they are."""

    id = "data"
    exit_code = 3


class BadImage(DataError):
    """One image that can't be read; ``reason`` is short enough for a list of files.

    ``lasting`` tells whether it is the image's bytes that are at fault, so that reading them again
    is in vain.
    """

    id = "bad-image"

    def __init__(self, source: str, reason: str, *, lasting: bool = True) -> None:
        super().__init__(f"{source}: {reason}", field=source)
        self.source = source
        self.reason = reason
        self.lasting = lasting


class ModelError(HeadstartError):
    """Weights, a model folder, a checkpoint or a run folder that can't be used."""

    id = "model"
    exit_code = 4


class UnsafeFile(ModelError):
    """A file that could run code when read, or that is not what it claims to be."""

    id = "unsafe-file"


class ResourceError(HeadstartError):
    """Memory, disk, a lock, a device or a port that is not to be had."""

    id = "resource"
    exit_code = 5


class MissingWeights(HeadstartError):
    """Pre-trained weights that are not on this machine and can't be downloaded."""

    id = "missing-weights"
    exit_code = 6


class GateMissed(HeadstartError):
    """A finished run whose result is below what ``--min`` asked for."""

    id = "gate-missed"
    exit_code = 7
