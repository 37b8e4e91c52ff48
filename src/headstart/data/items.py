"""One image with its label, and the table of them that every source becomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Dataset", "Item"]


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a data set.

    Attributes:
        path: Where the file is.
        name: The path relative to the data set's root, with forward slashes. Unique in its data
            set; what predictions.csv and the findings show. A name may hold bytes that are not
            UTF-8 (``surrogateescape``).
        label: The class, as the source names it. What labels mean is the task's business.
        split: ``train``, ``val`` or ``test`` where the source says so, else None.
        group: Images of one group (one patient, one module) belong on one side of a split.
        weight: How much the image counts in training.
    """

    path: Path
    name: str
    label: str
    split: str | None = None
    group: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Dataset:
    """A source of labelled images, whatever its form, as one table.

    Attributes:
        name: Short name, used for the run's folder.
        root: The folder that item names are relative to.
        items: The images, sorted by name.
        classes: The labels, sorted; a label's position is its class id.
        notes: What was understood or left out on the way, one sentence each.
        licence: The licence of the images, where the source states one.
    """

    name: str
    root: Path
    items: tuple[Item, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    licence: str | None = None
