"""What a phase is trained on and judged by, and in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.training.pixels import Stream

__all__ = ["Examples", "batches_of", "epoch_order"]

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """What is trained on and judged by.

    Attributes:
        stream: Where batches come from.
        labels: (N,) encoded labels of all images of the stream.
        names: (N,) what to call them.
        train: Positions to train on.
        val: Positions to judge on; may be empty.
        views: How many augmented views there are; 0 is the plain image only.
        first_view: How many views earlier phases have shown, so that later ones go on from there.
        weights: (N,) how much each image counts in the loss; None is all alike.
    """

    stream: Stream
    labels: Labels
    names: Sequence[str]
    train: npt.NDArray[np.int64]
    val: npt.NDArray[np.int64]
    views: int
    first_view: int = 0
    weights: npt.NDArray[np.float32] | None = None


def epoch_order(
    train: npt.NDArray[np.int64], labels: Labels, *, balanced: bool, seed: int
) -> npt.NDArray[np.int64]:
    """Return the positions to train on in an epoch's order.

    Args:
        train: The positions of the training images.
        labels: (N,) labels of all images.
        balanced: Draw each class as often as any other, with repetitions, instead of each image
            once.
        seed: Of this epoch.
    """
    generator = np.random.default_rng(seed)
    if not balanced:
        shuffled: npt.NDArray[np.int64] = generator.permutation(train)
        return shuffled
    theirs = labels[train]
    shares = 1 / np.bincount(theirs)[theirs]
    drawn: npt.NDArray[np.int64] = generator.choice(train, size=len(train), p=shares / shares.sum())
    return drawn


def batches_of(positions: npt.NDArray[np.int64], size: int) -> list[npt.NDArray[np.int64]]:
    """Split positions into the fewest batches of at most ``size``, none smaller by more than 1.

    A last batch of a few images would blur a batch norm's statistics.
    """
    return np.array_split(positions, max(1, math.ceil(len(positions) / size)))
