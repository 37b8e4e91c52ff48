"""What a range test suggests: rules on a curve of losses over growing rates, and their reasons.

Losses are compared as ratios, by their logarithms: a phase may begin at a loss of 0.3 or of 30.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Suggestion", "diverged", "rules", "smooth", "suggest"]

KEEP = 0.8
"""Of the average so far in each step of the smoothing."""
LAG = 4
"""By so many steps the smoothed loss lags: KEEP / (1 - KEEP)."""

_DIVERGED = 4.0  # times the best, as fastai stops
_LEAST = 0.02  # a fall or a rise by less is none, whatever its noise
_LOST = 2.0  # times the loss of guessing: a start that is only to be repaired
_SURE = 3.0  # standard errors: each of a hundred steps is looked at
_ENDS = {
    "diverged": "the loss diverged",
    "not-finite": "the loss or a gradient was not finite",
    "deadline": "the time was up",
}
_FLOOR = 1e-6  # of a loss; its logarithm must be finite

RULE = "steepest"
"""The rule whose rate is suggested: docs/rate.md has the comparison."""

Curve = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A rate to train with, if the test gives one.

    Attributes:
        rate: The rate; None for none.
        highest_good_rate: The highest rate at which the loss was not yet hurt; None where even the
            lowest hurts, or where the start is so bad that nothing hurts.
        reason: Why, in a sentence with numbers.
        rules: What each rule would suggest, by its name: ``steepest``, ``minimum/10``, ``valley``;
            empty where the loss never falls.
    """

    rate: float | None
    highest_good_rate: float | None
    reason: str
    rules: dict[str, float]


def smooth(losses: Sequence[float], before: Sequence[float]) -> list[float]:
    """Return the losses as they would be if all batches were alike: an average that follows them.

    It is an exponential moving average, corrected for its start, of the logarithm of what each
    batch's loss is to the same batch's before anything was learnt; upon the mean of the latter.

    Args:
        losses: (n,) losses while training.
        before: (S,) losses before it of the same batches, and of those that were to come.
    """
    smoothed: list[float] = np.exp(_level(before) + _averaged(_changes(losses, before))).tolist()
    return smoothed


def diverged(losses: Sequence[float], before: Sequence[float]) -> bool:
    """Tell whether the smoothed loss is above four times its best, the start included.

    Args:
        losses: (n,) losses so far.
        before: (S,) losses before it of the same batches, and of those to come.
    """
    if not len(losses):
        return False
    averaged = _averaged(_changes(losses, before))
    return bool(averaged[-1] > math.log(_DIVERGED) + min(0.0, averaged.min()))


def suggest(
    rates: Sequence[float],
    losses: Sequence[float],
    before: Sequence[float],
    *,
    stopped: str | None = None,
    guessing: float = math.inf,
) -> Suggestion:
    """Read a range test.

    Args:
        rates: (n,) rates, growing by equal factors.
        losses: (n,) the loss after the step at each.
        before: (S,) losses before anything was learnt, of the same batches and of those to come.
        stopped: Why the test ended early; ``deadline`` ended it before it said what it could.
        guessing: The loss of a model that knows how common the classes are and nothing else.
    """
    if len(losses) < 2:
        why = _ENDS.get(stopped or "", "there are too few steps")
        return Suggestion(None, None, f"no suggestion: {why} at the lowest rate", {})
    changes = _changes(losses, before)
    averaged = _averaged(changes)
    noise = np.maximum(_LEAST, _SURE * _errors(changes, averaged))
    hurt = _first_hurt(averaged, noise)
    if hurt is None and stopped in ("diverged", "not-finite"):
        hurt = len(losses) - 1  # the next loss was beyond any measure
    lowest = int(averaged[: hurt if hurt else None].argmin())
    falls = hurt != 0 and -averaged[lowest] > noise[lowest]
    last = -1 if hurt is None else max(lowest, hurt - 1 - LAG)
    highest = None if hurt == 0 else float(rates[last])
    fall = 1 - math.exp(averaged[lowest])
    if not falls:
        least = 1 - math.exp(-noise[lowest])
        reason = (
            f"no suggestion: the loss never falls by more than its noise ({_percent(least)}), "
            f"{_end(rates, hurt)}"
        )
        return Suggestion(None, highest, reason, {})
    if hurt is None and stopped == "deadline":
        reason = (
            f"no suggestion: the time was up at {_rate(rates[-1])}, when the loss had fallen by "
            f"{_percent(fall)}, {_end(rates, hurt)}"
        )
        return Suggestion(None, highest, reason, {})
    found = rules(rates, averaged, lowest)
    reason = (
        f"the loss falls fastest at {_rate(found['steepest'])}, by {_percent(fall)} until "
        f"{_rate(rates[lowest])}, {_end(rates, hurt)}"
    )
    start = math.exp(_level(before))
    if start > _LOST * guessing:  # almost anything is better, and nothing tells what it destroys
        highest = None
        reason += f"; but it starts at {start:.3g}, and guessing would give {guessing:.2g}"
    return Suggestion(found[RULE], highest, reason, found)


def rules(rates: Sequence[float], averaged: Curve, lowest: int) -> dict[str, float]:
    """Return what each of the usual rules suggests.

    ``steepest`` is the middle of the half decade in which the curve falls most, ``minimum/10`` a
    tenth of the rate at which it is lowest, ``valley`` the middle of its longest fall (fastai's
    default): of the longest subsequence of falling values.

    Args:
        rates: (S,) rates, growing by equal factors.
        averaged: (S,) the smoothed logarithm of the loss.
        lowest: The step at which it is lowest, before it is hurt.
    """
    each = math.log10(rates[1] / rates[0])  # decades a step
    half = max(1, round(0.25 / each))
    earlier = np.pad(averaged[: lowest + 1], (2 * half, 0), mode="edge")[: lowest + 1]
    falls = earlier - averaged[: lowest + 1]  # over the half decade that ends at each step
    start, end = _longest_fall(averaged[: lowest + 1])
    return {
        "steepest": float(rates[max(0, int(falls.argmax()) - half)]),
        "minimum/10": float(rates[lowest]) / 10,
        "valley": float(rates[(start + end) // 2]),
    }


def _longest_fall(values: Curve) -> tuple[int, int]:
    """Return where the longest strictly falling subsequence starts and ends."""
    lengths = np.ones(len(values), dtype=np.int64)
    starts = np.arange(len(values))
    for end in range(1, len(values)):
        higher = np.flatnonzero(values[:end] > values[end])
        if len(higher):
            before = higher[lengths[higher].argmax()]
            lengths[end], starts[end] = lengths[before] + 1, starts[before]
    last = int(lengths.argmax())
    return int(starts[last]), last


def _level(before: Sequence[float]) -> float:
    """Return the mean logarithm of the losses before anything was learnt."""
    return float(np.log(np.maximum(before, _FLOOR)).mean()) if len(before) else 0.0


def _changes(losses: Sequence[float], before: Sequence[float]) -> Curve:
    """Return the logarithm of what each batch's loss became, for the batches that there are."""
    same = before[: len(losses)]
    ratios: Curve = np.log(np.maximum(losses, _FLOOR)) - np.log(np.maximum(same, _FLOOR))
    return ratios


def _averaged(values: Curve) -> Curve:
    """Return the exponential moving average, corrected for its start at 0."""
    total, found = 0.0, np.empty(len(values))
    for step, value in enumerate(values):
        total = KEEP * total + (1 - KEEP) * value
        found[step] = total / (1 - KEEP ** (step + 1))
    return found


def _errors(values: Curve, averaged: Curve) -> Curve:
    """Return the standard error of each average, from how far the values are from it."""
    spread = np.sqrt(_averaged((values - averaged) ** 2))
    left = KEEP ** np.arange(1, len(values) + 1)  # of the first average, after each step
    errors: Curve = spread * np.sqrt((1 - KEEP) / (1 + KEEP) * (1 + left) / (1 - left))
    return errors


def _first_hurt(averaged: Curve, noise: Curve) -> int | None:
    """Return from which step on the average is above its lowest until then by more than noise.

    It stays so for as long as an average takes to forget a batch, or to the end.
    """
    best = np.minimum(0.0, np.minimum.accumulate(averaged))
    high = averaged - best > noise
    lasting = (step for step in np.flatnonzero(high) if high[step : step + LAG + 1].all())
    return next(map(int, lasting), None)


def _end(rates: Sequence[float], hurt: int | None) -> str:
    """Say what became of the loss at the highest rates."""
    if hurt is None:
        return f"and does not rise up to {_rate(rates[-1])}"
    return f"and is above that from {_rate(rates[hurt])} on"


def _rate(rate: float) -> str:
    return f"{rate:.1e}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
