"""Intervals: how sure a metric is that was measured on n items, at 95 %.

A proportion has Wilson's score interval. The other metrics have those of a stratified bootstrap,
which alone would be too sure of itself; why, and what is done about it, is argued where each is
computed and measured in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Floats", "Ints", "Items", "intervals", "resampled", "statistics", "wilson"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.intp]

_ECE_BINS = 15
_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
_TAILS = (0.025, 0.975)
_DRAWS_AT_ONCE = 1 << 20  # resampled items held in memory at a time


def wilson(hits: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Return the ends of the 95 % score interval of a proportion (Wilson, 1927), elementwise.

    Unlike value ± 1.96 standard errors it has a width when all or none of the n >= 1 trials hit.
    """
    n = np.asarray(n, dtype=np.float64)
    share = np.asarray(hits, dtype=np.float64) / n
    centre = share + _Z**2 / (2 * n)
    reach = _Z * np.sqrt(share * (1 - share) / n + (_Z / (2 * n)) ** 2)
    scale = 1 + _Z**2 / n
    low = np.where(share == 0, 0.0, (centre - reach) / scale)  # exact where rounding would not be
    high = np.where(share == 1, 1.0, (centre + reach) / scale)
    return low, high


@dataclass(frozen=True, slots=True)
class Items:
    """What the metrics need of each of N items, sorted by label so that a class is a slice.

    Attributes:
        label: (N,) true classes in 0..C-1, ascending.
        predicted: (N,) most probable classes.
        true_probability: (N,) probability of the true class.
        loss: (N,) log loss in nats.
        confidence: (N,) probability of the predicted class.
        gap: (N,) right (0 or 1) minus the confidence.
        bin: (N,) the confidence's bin of the expected calibration error.
        support: (C,) number of items of each class.
    """

    label: Ints
    predicted: Ints
    true_probability: Floats
    loss: Floats
    confidence: Floats
    gap: Floats
    bin: Ints
    support: Ints

    @property
    def n(self) -> int:
        """Number of items."""
        return len(self.label)

    @classmethod
    def of(cls, probabilities: Floats, labels: Ints) -> Items:
        """Take them from probabilities (N, C), rows that sum to 1, and labels (N,)."""
        order = np.argsort(labels, kind="stable")
        p, y = probabilities[order], labels[order]
        predicted = p.argmax(axis=1)
        confidence = p.max(axis=1)
        true_probability = p[np.arange(len(y)), y]
        epsilon = np.finfo(np.float64).eps
        bins = np.ceil(confidence * _ECE_BINS).astype(np.intp) - 1
        return cls(
            label=y,
            predicted=predicted,
            true_probability=true_probability,
            loss=-np.log(np.clip(true_probability, epsilon, 1 - epsilon)),
            confidence=confidence,
            gap=(predicted == y) - confidence,
            bin=np.minimum(bins, _ECE_BINS - 1),
            support=np.bincount(y, minlength=p.shape[1]),
        )


def intervals(
    items: Items, values: Mapping[str, float], rng: np.random.Generator, resamples: int
) -> dict[str, tuple[float, float]]:
    """Return the 95 % interval of each metric; each holds its value.

    Args:
        items: At least one.
        values: The metrics of the items by name: ``accuracy``, ``balanced_accuracy``,
            ``macro_f1``, ``log_loss`` and ``ece``.
        rng: The source of the bootstrap's draws.
        resamples: How often the items are redrawn.
    """
    drawn = [statistics(items, draws) for draws in resampled(items, rng, resamples)]
    ends = {
        name: np.quantile(np.concatenate([chunk[name] for chunk in drawn]), _TAILS)
        for name in drawn[0]
    }
    low, high = wilson(np.sum(items.predicted == items.label), items.n)
    unseen = _unseen(items)
    return {
        "accuracy": (float(low), float(high)),
        "balanced_accuracy": _widened(
            values["balanced_accuracy"], ends["balanced_accuracy"], unseen
        ),
        "macro_f1": _widened(values["macro_f1"], ends["macro_f1"], unseen),
        "log_loss": _around(values["log_loss"], *ends["log_loss"]),
        "ece": _ece_interval(items, values["ece"], ends["ece"][1], rng, resamples),
    }


def resampled(items: Items, rng: np.random.Generator, resamples: int) -> Iterator[Ints]:
    """Yield chunks (b, N) of a stratified bootstrap: each class redrawn from its own items."""
    sizes = np.repeat(items.support, items.support)  # (N,) of the item's class
    starts = np.repeat(np.cumsum(items.support) - items.support, items.support)
    rows = max(1, _DRAWS_AT_ONCE // items.n)
    for first in range(0, resamples, rows):
        uniform = rng.random((min(rows, resamples - first), items.n))
        draws = (uniform * sizes).astype(np.intp)
        draws += starts
        yield draws


def statistics(items: Items, draws: Ints) -> dict[str, Floats]:
    """Compute the bootstrapped metrics of each resample; ``draws`` is (b, N), results are (b,)."""
    b = len(draws)
    n_classes = len(items.support)
    row = np.arange(b)[:, None]
    present = np.flatnonzero(items.support)
    support = items.support[present]
    starts = np.cumsum(support) - support
    right = (items.predicted == items.label)[draws]
    hits = np.add.reduceat(right, starts, axis=1, dtype=np.intp)  # (b, classes present)
    named_at = (row * n_classes + items.predicted[draws]).ravel()
    named = np.bincount(named_at, minlength=b * n_classes).reshape(b, n_classes)[:, present]
    gap_at = (row * _ECE_BINS + items.bin[draws]).ravel()
    gaps = np.bincount(gap_at, items.gap[draws].ravel(), minlength=b * _ECE_BINS)
    return {
        "balanced_accuracy": (hits / support).mean(axis=1),
        "macro_f1": (2 * hits / (support + named)).mean(axis=1),
        "log_loss": items.loss[draws].mean(axis=1),
        "ece": np.abs(gaps.reshape(b, _ECE_BINS)).sum(axis=1) / items.n,
    }


def _unseen(items: Items) -> tuple[float, float]:
    """Return how far down and up a mean over classes may be for reasons no resample can show.

    A class whose n items are all right is all right in every resample, as if its recall were
    known exactly; for a perfect classifier the bootstrap's interval has no width at all. What is
    known of such a recall is its Wilson interval. Its distances from the value are added up over
    the classes by the square-and-add rule for a mean of independent proportions (Zou, Huang and
    Zhang, Computational Statistics & Data Analysis 53, 2009); likewise for the classes that are
    all wrong, upwards. An error lowers macro F1 about as it lowers balanced accuracy: half where
    it is missed, half where it is a false alarm.
    """
    present = np.flatnonzero(items.support)
    support = items.support[present]
    hits = np.bincount(items.label[items.predicted == items.label], minlength=len(items.support))
    low, high = wilson(hits[present], support)
    down = np.square(1 - low)[hits[present] == support].sum()
    up = np.square(high)[hits[present] == 0].sum()
    return float(np.sqrt(down)) / len(present), float(np.sqrt(up)) / len(present)


def _widened(value: float, ends: Floats, unseen: tuple[float, float]) -> tuple[float, float]:
    down = np.hypot(max(value - ends[0], 0.0), unseen[0])
    up = np.hypot(max(ends[1] - value, 0.0), unseen[1])
    return max(value - float(down), 0.0), min(value + float(up), 1.0)


def _around(value: float, low: float, high: float) -> tuple[float, float]:
    return min(float(low), value), max(float(high), value)


def _ece_interval(
    items: Items, value: float, high: float, rng: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """Return an interval that allows for ECE's upward bias.

    Chance alone makes a bin's accuracy differ from its confidence, and the absolute value counts
    that as error; a resample adds more of it. So the bootstrap's upper quantile is high enough,
    but its lower one can lie above the true value for certain (a calibrated classifier's zero was
    never inside in our simulations). The lower end is therefore the upper one's mirror image, and
    zero where a perfectly calibrated classifier with these confidences would show as much ECE in
    one of forty samples: each bin's sum of gaps is then normal, with variance sum of c (1 - c).
    """
    spread = np.sqrt(np.bincount(items.bin, items.confidence * (1 - items.confidence)))
    by_chance = np.abs(rng.standard_normal((resamples, len(spread))) * spread).sum(axis=1)
    high = max(float(high), value)
    if value * items.n <= np.quantile(by_chance, _TAILS[1]):
        return 0.0, high
    return max(2 * value - high, 0.0), high
