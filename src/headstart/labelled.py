"""Labelled images for an own training loop: checked, split, and read as torch Datasets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.utils.data import Dataset

from headstart.cache import Cache
from headstart.data.augment import Augment, augmented
from headstart.data.checks.check import check
from headstart.data.items import Item
from headstart.data.objects.in_memory import as_source
from headstart.data.read import decode
from headstart.data.reading import Reading
from headstart.data.sources import open_dataset
from headstart.data.splits.asked_split import asked_split
from headstart.data.splits.split import Fractions, Split
from headstart.data.transforms import least_side, resize
from headstart.errors import UnknownName
from headstart.inputspec import InputSpec
from headstart.memory import FileMemory

__all__ = ["ImageFiles", "LabelledImages", "dataset"]

Progress = Callable[[int, int], None]
Part = Literal["train", "val", "test"]
PARTS = ("train", "val", "test")


def dataset(
    data: object,
    input_spec: InputSpec,
    *,
    reading: Reading | None = None,
    split: Fractions | str | Path | None = None,
    fold: str | None = None,
    seed: int = 0,
    max_bad: float = 0.01,
    cache: Cache | None = None,
    progress: Progress | None = None,
) -> LabelledImages:
    """List, check and split labelled images, as ``headstart.fit`` does.

    Args:
        data: A folder, a table, a zip file, the name of a data set, or labelled images as Python
            objects (``docs/data.md``).
        input_spec: How a network wants them: ``model.input_spec``.
        reading: How ``data`` is read, and what is chosen of it.
        split: Shares of train, val and test, for what the data itself gives no split; or a CSV file
            with the columns name and split.
        fold: Which fold is test, as ``2/5``: the data is dealt into five by the seed.
        seed: Decides the split.
        max_bad: Share of unreadable images above which the data is refused.
        cache: Where what was learnt of files is remembered; the user's cache by default.
        progress: Called with (done, total) images checked.

    Raises:
        DataError: The images can't be used.
    """
    cache = cache or Cache()
    found = open_dataset(as_source(data, cache.given, reading), reading, cache=cache)
    memory = FileMemory(cache.files)
    checked = check(found, memory, max_bad=max_bad, progress=progress)
    parts = asked_split(checked.items, checked.digests, split=split, fold=fold, seed=seed)
    return LabelledImages(input_spec, found.classes, checked.items, checked.digests, parts)


@dataclass(frozen=True)
class LabelledImages:
    """Images that were checked and split.

    Attributes:
        input_spec: Their size and resize rule.
        classes: The labels; a label's position is its number.
        items: All readable images.
        digests: Their digests.
        split: Positions of train, val and test in ``items``; its digest names it.
    """

    input_spec: InputSpec
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    digests: tuple[str, ...]
    split: Split

    def torch(
        self, part: Part, *, augment: str = "none", symmetry: str = "flip", seed: int = 0
    ) -> ImageFiles:
        """Return a part as a torch Dataset of (pixels, label).

        Args:
            part: ``train``, ``val`` or ``test``.
            augment: What is done to the images: ``none``, ``light``, ``standard``, ``strong`` or
                ``shear-zoom``; a fresh view after each ``set_epoch``.
            symmetry: Which mirror images mean the same: ``none``, ``flip`` or ``square``.
            seed: Of the augmentation.

        Raises:
            UnknownName: No such part, augmentation or symmetry.
        """
        if part not in PARTS:
            raise UnknownName("part of the split", part, PARTS, field="part")
        indices = getattr(self.split, part)
        position = {name: number for number, name in enumerate(self.classes)}
        return ImageFiles(
            tuple(self.items[index] for index in indices),
            tuple(self.digests[index] for index in indices),
            tuple(position[self.items[index].label] for index in indices),
            self.input_spec,
            Augment(augment, symmetry),
            seed,
        )


class ImageFiles(Dataset[tuple[torch.Tensor, int]]):
    """Image files as a torch Dataset: pixels (H, W, 3) uint8 and a label's number.

    What a view looks like is a function of (seed, epoch, image), whatever the number of workers
    and the order. Made by ``LabelledImages.torch``.
    """

    def __init__(
        self,
        items: tuple[Item, ...],
        digests: tuple[str, ...],
        labels: tuple[int, ...],
        input_spec: InputSpec,
        augment: Augment,
        seed: int,
    ) -> None:
        self.items = items
        self.digests = digests
        self.labels = labels
        self.input_spec = input_spec
        self.augment = augment
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the view: epoch 0 is the plain image, every other number another view.

        With workers, call it before the epoch's iterator is made.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return the pixels (H, W, 3) uint8 of an image, and its label's number.

        Raises:
            BadImage: The file can't be read any more.
        """
        at_least = least_side(self.input_spec)
        plain: Any = resize(decode(self.items[index].path, at_least=at_least), self.input_spec)
        pixels = augmented(plain, self.augment, self.seed, self.epoch, self.digests[index])
        return torch.from_numpy(pixels), self.labels[index]
