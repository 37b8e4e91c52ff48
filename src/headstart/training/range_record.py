"""What a range test found, as a run and a figure take it. Loads no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["RangeTest"]


@dataclass(frozen=True, slots=True)
class RangeTest:
    """What happened to the loss while the rate of a group grew.

    Attributes:
        group: ``all``, or the pattern of the rate that grew alone, such as ``head``.
        planned: The group's rate in the phase; of all groups, the highest.
        rates: (S,) the rate of each step; of all groups, the highest, the others in proportion.
        losses: (S,) the loss of the next batch after each step.
        before: (S,) the loss of that batch before anything was learnt.
        guessing: The loss of a model that knows how common the classes are in train, and no more.
        smoothed: (S,) the mean of ``before`` and, upon it, the smoothed difference of the two.
        suggestion: A rate to train with; None where the test gives none.
        highest_good_rate: The highest rate at which the loss is not yet hurt; None where even the
            lowest rate hurts, or where the test ended before any did.
        reason: Why this suggestion, or why none, in a sentence with numbers.
        rules: What each of the usual rules would suggest, by its name.
        stopped: Why the test ended before its last rate: ``diverged``, ``not-finite``,
            ``deadline``; None where it did not.
        seconds: How long it took.
    """

    group: str
    planned: float
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    before: tuple[float, ...]
    guessing: float
    smoothed: tuple[float, ...]
    suggestion: float | None
    highest_good_rate: float | None
    reason: str
    rules: dict[str, float]
    stopped: str | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }
