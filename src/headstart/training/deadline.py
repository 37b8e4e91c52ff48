"""A phase that ends in time: how many of its epochs the seconds left have room for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headstart.training.position import Position

__all__ = ["Deadline", "Pace", "fit_in", "pace_of"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment by which training should be over.

    Attributes:
        at: The moment, by ``now``.
        now: The clock, in seconds.
    """

    at: float
    now: Callable[[], float] = time.monotonic

    def left(self) -> float:
        """Return the seconds left, below 0 where it is over."""
        return self.at - self.now()


@dataclass(frozen=True, slots=True)
class Pace:
    """What an epoch takes.

    Attributes:
        epoch: Seconds of its steps and of judging it.
        view: Seconds to compute its view of the images, as long as there is a new one.
    """

    epoch: float
    view: float = 0.0

    def fitting(self, left: float, epochs: int, views: int, begun: float = 0.0) -> int:
        """Return how many of the next epochs end in time.

        Args:
            left: Seconds left.
            epochs: How many are asked for.
            views: In how many of them, the next ones, there is a new view.
            begun: How much of the first of them is done, 0 to 1.
        """
        taken = -begun * self.epoch
        for number in range(epochs):
            taken += self.epoch + (self.view if number < views else 0.0)
            if taken > left:
                return number
        return epochs


def pace_of(position: Position, predicted: float | None = None) -> Pace | None:
    """Return the pace of a phase's slowest of the last two epochs.

    Args:
        position: Where it stands.
        predicted: Seconds an epoch that were predicted: what counts before the first one ended.

    Returns:
        None where nothing is known yet.
    """
    if not position.paces:
        return None if predicted is None else Pace(predicted)
    epochs, views = zip(*position.paces, strict=True)
    return Pace(max(epochs), max(views))


def fit_in(position: Position, left: float, pace: Pace, *, steps: int, views: int) -> str | None:
    """Cut the epochs of a phase to those that end in time, or stop it where none does.

    One epoch is begun in any case: what it comes to before the deadline is better than nothing.

    Args:
        position: Where it stands; changed in place.
        left: Seconds left.
        pace: What its epochs take.
        steps: Of an epoch.
        views: In how many of the next epochs there is a new view.

    Returns:
        What became of it: ``shortened``, ``stopped``, or None where all is as it was.
    """
    ahead = position.epochs - position.epoch
    fitting = pace.fitting(left, ahead, views, position.step / steps)
    if not (position.epoch or fitting):
        fitting = 1
    if fitting >= ahead:
        return None
    why: dict[str, Any] = {
        "epoch": position.epoch,
        "epochs": position.epoch + fitting,
        "pace": round(pace.epoch + (pace.view if views else 0.0), 3),
        "left": round(left, 3),
    }
    if fitting == 0:
        position.stopped = {"why": "budget"} | why | {"epochs": position.epochs}
        return "stopped"
    planned = (position.shortened or {}).get("planned", position.epochs)
    position.shortened = why | {"planned": planned}
    position.cut(position.epoch + fitting, steps)
    return "shortened"
