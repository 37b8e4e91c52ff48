"""How the images of a run are divided: the split that was asked for, thinned, and its classes."""

from __future__ import annotations

from pathlib import Path

from headstart.data.checks.check import Checked
from headstart.data.items import Dataset
from headstart.data.splits.asked_split import asked_split
from headstart.data.splits.split import Split
from headstart.data.splits.thinning import limit
from headstart.errors import DataError
from headstart.options import Options

__all__ = ["learnable_classes", "planned_split"]


def planned_split(checked: Checked, options: Options) -> Split:
    """Split the images, then thin the training part as asked.

    Raises:
        UsageError: The split can't be had.
        DataError: Nothing would be left to test on, or a class to learn from.
    """
    items = checked.items
    seed = options.seed if options.split_seed is None else options.split_seed
    split = asked_split(items, checked.digests, split=options.split, fold=options.fold, seed=seed)
    if options.limit is not None or options.limit_per_class is not None:
        split = limit(
            split,
            [item.label for item in items],
            checked.digests,
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
    dataset: Dataset, checked: Checked, split: Split, options: Options
) -> tuple[str, ...]:
    """Return the classes of a data set, each of which must have a training image.

    Raises:
        DataError: Some have none.
    """
    train = {checked.items[index].label for index in split.train}
    without = [name for name in dataset.classes if name not in train]
    if without:
        listed = ", ".join(without[:10])
        if isinstance(options.split, Path):
            raise DataError(
                f"{options.split} puts no image of these classes into train: {listed}.",
                field="split",
                hint="Write train into the column split of some of their rows.",
            )
        raise DataError(
            f"These classes have no readable training image: {listed}.",
            field="classes",
            hint="Repair their images, or remove their folders.",
        )
    return dataset.classes
