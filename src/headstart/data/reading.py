"""How a source of labelled images is to be read, where the source itself does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["COLUMNS", "Reading"]

COLUMNS = ("path", "label", "split", "group", "weight")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How to read a source; the defaults suit most.

    Attributes:
        columns: The table's own names for some of :data:`COLUMNS`, as ``{"label": "species"}``.
        root: The folder that a table's paths are relative to, and must lie in; None is the folder
            the table lies in. For a named data set, the folder where it is kept.
        nested: In a folder, every folder that holds images directly is a class, named by its path
            (``birds/owl``); else the first folders are, with all below them.
        classes: The classes to use, in this order; all others are left out. None is all, sorted.
        group_by: A regular expression that is searched in each item's name; what its first group
            matches (all that it matches, where it has none) is the item's group.
        test: Another source, whose images are the test part.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    root: Path | None = None
    nested: bool = False
    classes: tuple[str, ...] | None = None
    group_by: str | None = None
    test: str | Path | None = None
