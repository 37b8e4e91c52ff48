"""One labelled image that was given as a Python object, and the stream of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Given", "GivenRows"]


@dataclass(frozen=True, slots=True)
class Given:
    """One labelled image as it was given.

    Attributes:
        image: A file's content, empty where there is no image; or the absolute path of a file
            that stays where it is.
        label: The class.
        split: ``train``, ``val`` or ``test``, or None.
        group: Images of one group belong on one side of a split.
        weight: How much the image counts in training; None is 1.
    """

    image: bytes | Path
    label: str
    split: str | None = None
    group: str | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class GivenRows:
    """The rows of a source, one at a time.

    Attributes:
        make: Begins a new pass over the rows.
        repeatable: Whether a second pass gives the same rows; a consumed iterator gives none.
    """

    make: Callable[[], Iterator[Given]]
    repeatable: bool
