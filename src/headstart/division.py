"""How the images of a run are divided: the split that was asked for, thinned, and its classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from headstart.data.items import Item
from headstart.data.quoting import listed
from headstart.data.splits.asked_split import asked_split
from headstart.data.splits.split import Split
from headstart.data.splits.thinning import limit
from headstart.errors import DataError
from headstart.options import Options

__all__ = ["learnable_classes", "planned_split"]


def planned_split(items: Sequence[Item], digests: Sequence[str], options: Options) -> Split:
    """Split the images, then thin the training part as asked.

    Args:
        items: All usable images.
        digests: Their image digests, in the same order.
        options: What was asked for.

    Raises:
        UsageError: The split can't be had.
        DataError: Nothing would be left to test on, or a class to learn from.
    """
    seed = options.seed if options.split_seed is None else options.split_seed
    split = asked_split(items, digests, split=options.split, fold=options.fold, seed=seed)
    if options.limit is not None or options.limit_per_class is not None:
        split = limit(
            split,
            [item.label for item in items],
            digests,
            seed=seed,
            n=options.limit,
            per_class=options.limit_per_class,
            groups=[item.group for item in items],
        )
    if not split.test:
        given = isinstance(options.split, Path)
        raise DataError(
            f"{options.split} puts no image into test."
            if given
            else "There are too few images to hold any out for a test.",
            field="split",
            hint="Write test into the column split of some rows."
            if given
            else "Give at least one class 2 different images, or a test folder beside train.",
        )
    return split


def learnable_classes(
    classes: Iterable[str], items: Sequence[Item], split: Split, options: Options
) -> tuple[str, ...]:
    """Return the classes that are to be learnt, each of which must have a training image.

    Args:
        classes: The classes, in the order of their ids.
        items: What the split was made of.
        split: Which of them are to learn from.
        options: What was asked for: they decide what can be done about it.

    Raises:
        DataError: Some have none.
    """
    asked = tuple(classes)
    learnt = {items[index].label for index in split.train}
    without = [name for name in asked if name not in learnt]
    if without:
        if isinstance(options.split, Path):
            raise DataError(
                f"{options.split} puts no image of these classes into train: {listed(without)}.",
                field="split",
                hint="Write train into the column split of some of their rows.",
            )
        raise DataError(
            f"These classes have no readable training image: {listed(without)}.",
            field="classes",
            hint="Repair their images, or remove their folders.",
        )
    return asked
