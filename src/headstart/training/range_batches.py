"""What a range test steps along: how many batches, which ones, and what guessing would cost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from headstart.strategy.phase import Train
from headstart.training.chance import chance
from headstart.training.examples import Examples, batches_of, epoch_order
from headstart.training.task import SingleLabel

__all__ = ["Batch", "first_batches", "guessing_loss", "planned_steps"]

STEPS = 100
FEWEST = 60
_EPOCHS = 5  # more rounds of a few images would show how fast they are learnt by heart


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's batch: the view of the images, the images, and the seed of what is drawn."""

    view: int
    positions: npt.NDArray[np.int64]
    seed: int


def planned_steps(examples: Examples, train: Train) -> int:
    """Return how many rates are tried: 100, or fewer where that were more than a few epochs."""
    each = math.ceil(len(examples.train) / train.batch_size)
    return min(STEPS, max(FEWEST, _EPOCHS * each))


def first_batches(
    examples: Examples, train: Train, count: int, seed: int, number: int
) -> list[Batch]:
    """Return the batches that the phase begins with, as the engine draws them."""
    found: list[Batch] = []
    epoch = 0
    while len(found) < count:
        shuffled = epoch_order(
            examples.train,
            examples.labels,
            balanced=train.sampling == "balanced",
            seed=chance(seed, number, epoch, "order"),
        )
        view = (examples.first_view + epoch + 1) % (examples.views + 1)
        found += [
            Batch(view, positions, chance(seed, number, epoch, step))
            for step, positions in enumerate(batches_of(shuffled, train.batch_size))
        ]
        epoch += 1
    return found[:count]


def guessing_loss(
    examples: Examples, task: SingleLabel, train: Train, class_weights: torch.Tensor | None
) -> float:
    """Return the loss of always answering with the shares of the classes in the training images."""
    given = None if examples.weights is None else examples.weights[examples.train]
    n = len(task.classes)
    counts = np.bincount(examples.labels[examples.train], given, minlength=n).astype(np.float64)
    if class_weights is not None:
        counts *= class_weights.cpu().numpy()
    if train.sampling == "balanced":
        counts = (counts > 0).astype(np.float64)
    shares = counts / counts.sum()
    smoothed = (1 - train.label_smoothing) * shares + train.label_smoothing / n
    present = smoothed[smoothed > 0]
    return float(-(present * np.log(present)).sum())
