"""What was decided and why: the words and numbers that a plan is explained in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Decision", "Tried", "duration", "percent", "points"]


@dataclass(frozen=True, slots=True)
class Decision:
    """One thing that was decided, so that somebody who has never trained a network can follow.

    Attributes:
        question: What was to be decided, such as ``resize``.
        choice: What it was decided to be.
        reason: Why, in a sentence with numbers and their units.
        otherwise: What would change it.
        numbers: What the reason rests on, by name; plain JSON.
    """

    question: str
    choice: str
    reason: str
    otherwise: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return {
            "question": self.question,
            "choice": self.choice,
            "reason": self.reason,
            "otherwise": self.otherwise,
            "numbers": dict(self.numbers),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Decision:
        """Build a decision from ``to_dict``'s result."""
        return cls(**document)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a probe reached in one of several ways, against the first of them, image by image.

    Attributes:
        name: The way, such as ``squash``.
        accuracy: Share of the images that the cross-validated probe has right.
        n: How many images.
        difference: Of the accuracy, to the first way's.
        noise: The standard error of ``difference``, over the images.
        better: True or False where it is better or worse by more than noise; None where neither.
        knn: Share that their nearest neighbours have right; None where it was not asked.
        log_loss: The probe's mean log loss.
    """

    name: str
    accuracy: float
    n: int
    difference: float = 0.0
    noise: float = 0.0
    better: bool | None = None
    knn: float | None = None
    log_loss: float = 0.0

    @property
    def numbers(self) -> dict[str, Any]:
        """What was measured, as plain JSON."""
        return {
            "accuracy": round(self.accuracy, 4),
            "n": self.n,
            "difference": round(self.difference, 4),
            "noise": round(self.noise, 4),
            "log_loss": round(self.log_loss, 4),
            **({} if self.knn is None else {"knn": round(self.knn, 4)}),
        }


def percent(share: float) -> str:
    """Return a share as ``86.4 %``; no line breaks inside."""
    return f"{100 * share:.1f}\N{NO-BREAK SPACE}%"


def points(difference: float, *, sign: bool = True) -> str:
    """Return a difference of shares as ``+1.2 points``."""
    return f"{100 * difference:{'+' if sign else ''}.1f} points"


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``8 s``, ``3 min 20 s``, ``1 h 5 min``."""
    whole = max(1, round(seconds)) if seconds > 0 else 0
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(whole / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
