"""Where a phase of training stands: plain JSON, the half of a checkpoint that is no tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Position"]


@dataclass
class Position:
    """Where a phase stands.

    Attributes:
        epoch: The epoch that runs, from 0.
        step: Steps of it that are done.
        loss: Sum of this epoch's losses so far, weighted by images.
        seconds: Of the phase so far.
        epoch_seconds: Of this epoch so far.
        rates: Of the last step, by group.
        history: One record an epoch; epoch 0 is the start.
        parts: Into how many parts a batch is split, for want of memory.
        stopped: Why the phase ended before its last epoch.
        epochs: How many there are to be: those asked for, or what the time has room for.
        since: The moment, in epochs, from which the schedule goes straight to its end.
        share: How much of the schedule was done at that moment.
        view_seconds: Of this epoch so far, to have its view and val's ready.
        paces: Of the last two epochs: seconds without that, and with nothing but that.
        shortened: How ``epochs`` came to be less than was asked for.
        adapted: What was estimated and solved anew before the first step.
    """

    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    rates: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    parts: int = 1
    stopped: dict[str, Any] | None = None
    epochs: int = 0
    since: float = 0.0
    share: float = 0.0
    view_seconds: float = 0.0
    paces: list[list[float]] = field(default_factory=list)
    shortened: dict[str, Any] | None = None
    adapted: dict[str, Any] | None = None

    def done(self, steps: int) -> float:
        """Return how much of the schedule is done, 0 to 1, where an epoch has so many steps.

        Where epochs were cut, what was left of the schedule is spread over those that remain: it
        goes on from where it was, and still comes to its end.
        """
        ahead = self.epoch + self.step / steps - self.since
        return self.share + (1 - self.share) * ahead / (self.epochs - self.since)

    def cut(self, epochs: int, steps: int) -> None:
        """Let there be only so many epochs, of so many steps."""
        done = self.done(steps)
        self.since, self.share = self.epoch + self.step / steps, done
        self.epochs = epochs

    def end_epoch(self) -> None:
        """Begin to count the next epoch's seconds; the start is no epoch."""
        if self.epoch:
            pace = [self.epoch_seconds - self.view_seconds, self.view_seconds]
            self.paces = [*self.paces[-1:], pace]
        self.epoch_seconds = self.view_seconds = 0.0

    def scores(self, monitor: str) -> list[tuple[float, float]]:
        """Return the monitored metric of each epoch, turned so that more is better.

        Where a small val set gives two epochs the same accuracy, the log loss decides.
        """
        sign = -1.0 if monitor == "log_loss" else 1.0
        return [
            (sign * record["val"][monitor], -record["val"]["log_loss"])
            if record["val"] is not None
            else (-math.inf, -math.inf)
            for record in self.history
            if monitor != "none"
        ]

    def waited(self, monitor: str) -> int:
        """Return how many epochs ago the best one was."""
        scores = self.scores(monitor)
        return len(scores) - 1 - scores.index(max(scores))

    def kept(self, monitor: str, judged: bool) -> tuple[int | None, str]:
        """Return which epoch is the best, if val tells, and in words which weights are kept.

        Args:
            monitor: The metric that decides; ``none`` keeps the last epoch.
            judged: Whether there are val images, so that an epoch without metrics was not finite.
        """
        scores = self.scores(monitor) if judged else []
        if scores and max(scores)[0] > -math.inf:
            best: int = self.history[scores.index(max(scores))]["epoch"]
            return best, f"epoch {best}, best {monitor}"
        good = [r["epoch"] for r in self.history if r["val"] is not None or not judged]
        if not good:
            part = (self.stopped or {}).get("partial", False)
            return None, "its last step" if part else "the start"
        broken = (self.stopped or {}).get("why") == "not-finite"
        return None, f"epoch {good[-1]}, the last that was finite" if broken else "last epoch"
