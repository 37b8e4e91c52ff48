"""The images that a plan measures facts on: some of the training images, never val's or test's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.data.splits.split import Split
from headstart.data.splits.thinning import limit
from headstart.data.splits.units import units_of
from headstart.errors import UsageError
from headstart.files import digest
from headstart.plan import Plan
from headstart.probe_score import able

__all__ = ["MOST", "Sample", "take_sample"]

Ints = npt.NDArray[np.int64]

MOST = 600
"""So many images tell two resize rules apart that differ by three points, in ten seconds each."""

_LEAST_OF_CLASS = 5  # of a class, on the average: one in each fold of a cross-validation


@dataclass(frozen=True, eq=False)
class Sample:
    """Some of the training images of a plan, stratified by class.

    Attributes:
        indices: (n,) their positions in the plan's items, ascending.
        paths: Their n files.
        names: Their n names.
        digests: Their n image digests.
        labels: (n,) their classes' numbers, as the plan's task encodes them.
        groups: (n,) a number that an image shares with its copies and with its group, and with no
            other: what must not be parted by a cross-validation.
        n_train: How many training images there are to take from.
        n_classes: How many classes the training images have; the sample may have fewer.
    """

    indices: Ints
    paths: tuple[Path, ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    labels: Ints
    groups: Ints
    n_train: int
    n_classes: int

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def digest(self) -> str:
        """SHA-256 over the digests and labels of its images."""
        return digest(*(f"{a} {b}" for a, b in zip(self.digests, self.labels, strict=True)))

    @property
    def able(self) -> bool:
        """Whether a probe can be cross-validated on it: two classes in two groups each."""
        return able(self.labels, self.groups)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Sample:
        """Return the sample of some of its images.

        Args:
            rows: Positions among its own n, ascending.
        """
        return replace(
            self,
            indices=self.indices[rows],
            paths=tuple(self.paths[row] for row in rows),
            names=tuple(self.names[row] for row in rows),
            digests=tuple(self.digests[row] for row in rows),
            labels=self.labels[rows],
            groups=self.groups[rows],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return its size and its digest, as plain JSON types."""
        return {
            "n": len(self),
            "n_train": self.n_train,
            "n_classes": len(np.unique(self.labels)),
            "digest": self.digest,
        }


def take_sample(plan: Plan, most: int = MOST) -> Sample:
    """Take a stratified sample of a plan's training images; the same plan, the same sample.

    Images are taken in the order that the split's seed gives them, second images of a group and
    copies last, as a limited training set is (:mod:`headstart.data.splits.thinning`): a smaller
    sample's images are among a larger one's. Where there are so many classes that each would have
    fewer than five images, only the most frequent are taken.

    Args:
        plan: Whose training images.
        most: How many images at most.

    Raises:
        UsageError: ``most`` is below 10.
    """
    least = 2 * _LEAST_OF_CLASS
    if most < least:
        raise UsageError(
            f"A sample must have room for {least} images or more; got {most}.",
            field="most",
            hint=f"{MOST} are usual; fewer tell less apart.",
        )
    items, digests = plan.checked.items, plan.checked.digests
    labels = [item.label for item in items]
    kept = _frequent(plan.labels(plan.split.train), most // _LEAST_OF_CLASS)
    split = replace(plan.split, train=tuple(i for i in plan.split.train if labels[i] in kept))
    options = plan.options
    thin = limit(
        split,
        labels,
        digests,
        n=min(most, len(split.train)),
        seed=options.seed if options.split_seed is None else options.split_seed,
        groups=[item.group for item in items],
    )
    return _sample(plan, thin)


def _frequent(labels: Sequence[str], most: int) -> set[str]:
    """Return the labels that are there most often; of equals, those first by name."""
    counts = Counter(labels)
    return set(sorted(counts, key=lambda label: (-counts[label], label))[:most])


def _sample(plan: Plan, split: Split) -> Sample:
    taken, all_items = split.train, plan.checked.items
    items = [all_items[index] for index in taken]
    number = {
        index: unit
        for unit, members in enumerate(units_of(taken, all_items, plan.checked.digests))
        for index in members
    }
    return Sample(
        indices=np.array(taken, dtype=np.int64),
        paths=tuple(item.path for item in items),
        names=tuple(item.name for item in items),
        digests=tuple(plan.checked.digests[index] for index in taken),
        labels=plan.task.encode([item.label for item in items]),
        groups=np.array([number[index] for index in taken], dtype=np.int64),
        n_train=len(plan.split.train),
        n_classes=len(set(plan.labels(plan.split.train))),
    )
