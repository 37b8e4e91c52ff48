"""Whether a difference between two classifiers on the same images is more than chance.

Pure functions on arrays of right and wrong: McNemar's exact test where there is one seed, a paired
bootstrap over images and seeds where there are more, Holm's correction where there are many pairs.

A bootstrap over three seeds alone is too sure of itself: three values resampled show two thirds
of their variance and nothing of how uncertain that variance is. Where seeds matter, the plain
percentile interval called 11 to 23 % of equal pairs different in our simulations (docs/compare.md
has the table). So it is expanded as Hesterberg does (The American Statistician 69, 2015, section
5.3): deviations between seeds by sqrt(S / (S - 1)), and all of it by Student's t over the normal
quantile, with the degrees of freedom that Hillis (Statistics in Medicine 26, 2007) gives for the
same design in radiology: some readers, all of whom read the same cases.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from headstart.intervals import wilson

__all__ = ["Difference", "Interval", "holm", "mcnemar", "mean_accuracy", "paired_bootstrap"]

Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]

_LEVEL = 0.05
_DRAWS_AT_ONCE = 1 << 21  # counts held in memory at a time
_HALVINGS = 40


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Difference:
    """How much more of the images the first classifier gets right, as a share of all.

    Attributes:
        value: Accuracy of the first minus accuracy of the second, from -1 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: Two-sided: how often chance alone would show as much between equal classifiers.
    """

    value: float
    low: float
    high: float
    p_value: float


def mcnemar(a_right: Bools, b_right: Bools) -> float:
    """Return the two-sided p-value of McNemar's exact test.

    Only the images that one classifier gets right and the other wrong tell of a difference; were
    the two equal, each of these would be either's with a chance of one half.

    Args:
        a_right: (N,), whether the first classifier is right on each image.
        b_right: (N,), whether the second is, on the same images in the same order.

    Raises:
        ValueError: The shapes differ.
    """
    from scipy.stats import binomtest

    a, b = np.asarray(a_right, dtype=bool), np.asarray(b_right, dtype=bool)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"Need two arrays of the same length; got {a.shape} and {b.shape}.")
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(b & ~a))
    if only_a + only_b == 0:
        return 1.0
    return float(binomtest(only_a, only_a + only_b).pvalue)


def paired_bootstrap(a: Bools, b: Bools, *, samples: int = 10_000, seed: int = 0) -> Difference:
    """Return the difference of two classifiers' mean accuracies, with interval and p-value.

    Images and seeds are resampled together, the same for both classifiers. The interval holds the
    middle 95 % of the resampled differences, expanded as the module's text says; the p-value is
    the level at which the interval's end comes to lie on zero, at least 1 / ``samples``. With one
    seed, or seeds that change no answer, the p-value is McNemar's exact one.

    Args:
        a: (S, N), whether the first classifier, trained with each seed, is right on each image.
        b: (S, N), likewise for the second, on the same images in the same order.
        samples: Number of resamples.
        seed: Seeds the resampling; the same seed gives the same result.

    Raises:
        ValueError: The shapes differ, or there is no seed or no image.
    """
    a, b = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if a.ndim != 2 or a.shape != b.shape or not a.size:
        raise ValueError(f"Need two arrays of the same shape (S, N); got {a.shape} and {b.shape}.")
    differences = a.astype(np.int64) - b  # integers: sums are exact in any order
    value = float(differences.mean())
    if not differences.any():  # what no image has shown may still be as much as this
        reach = float(wilson(0, a.shape[1])[1])
        return Difference(0.0, -reach, reach, 1.0)
    sign = -1 if value < 0 else 1  # so that exchanging the two just changes the sign
    expanded = _bootstrap(sign * differences, samples, seed)
    ends = sign * np.clip(expanded(_LEVEL), -1.0, 1.0)
    one_seed = bool((a == a[0]).all() and (b == b[0]).all())
    p_value = mcnemar(a[0], b[0]) if one_seed else _level_at_zero(expanded, samples)
    return Difference(value, float(ends.min()), float(ends.max()), p_value)


def mean_accuracy(right: Bools, *, samples: int = 10_000, seed: int = 0) -> Interval:
    """Return the accuracy over seeds with a 95 % interval over images and seeds.

    With one seed, or seeds that change no answer, the interval is Wilson's, as everywhere else;
    otherwise it is made as ``paired_bootstrap`` makes its own.

    Args:
        right: (S, N), whether the classifier, trained with each seed, is right on each image.
        samples: Number of resamples.
        seed: Seeds the resampling.

    Raises:
        ValueError: It is not of two dimensions, or there is no seed or no image.
    """
    right = np.asarray(right, dtype=bool)
    if right.ndim != 2 or not right.size:
        raise ValueError(f"Need an array (S, N); got {right.shape}.")
    value = float(right.mean())
    if (right == right[0]).all():
        low, high = wilson(right[0].sum(), right.shape[1])
    else:
        low, high = np.clip(_bootstrap(right.astype(np.int64), samples, seed)(_LEVEL), 0.0, 1.0)
    return Interval(value, float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for their number, so that 5 % bounds the chance of any false alarm.

    Holm (Scandinavian Journal of Statistics 6, 1979): the smallest of m is multiplied by m, the
    next by m - 1, and so on, none falling below one before it.
    """
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def _bootstrap(values: Ints, samples: int, seed: int) -> Callable[[float], tuple[float, float]]:
    """Return a function from a level, such as 0.05, to the ends of the expanded interval."""
    from scipy.stats import norm, t

    centre = float(values.mean())
    resampled = np.sort(_resampled(values, samples, np.random.default_rng(seed)))
    freedom = _freedom(values)

    def interval(level: float) -> tuple[float, float]:
        factor = t.isf(level / 2, freedom) / norm.isf(level / 2)
        low, high = centre + factor * (np.quantile(resampled, [level / 2, 1 - level / 2]) - centre)
        return float(low), float(high)

    return interval


def _resampled(values: Ints, samples: int, rng: np.random.Generator) -> Floats:
    """Return (samples,) means of ``values`` (S, N) over resampled seeds and images.

    Images that are alike for every seed are interchangeable, so it is enough to draw how many of
    each kind a resample holds: of three seeds' differences there are 27 kinds at most.
    """
    n_seeds, n_items = values.shape
    kinds, counts = np.unique(values, axis=1, return_counts=True)  # (S, K), (K,)
    between = values.mean(axis=1) - values.mean()  # (S,)
    stretch = np.sqrt(n_seeds / (n_seeds - 1)) - 1 if n_seeds > 1 else 0.0
    rows = max(1, _DRAWS_AT_ONCE // len(counts))
    parts = []
    for first in range(0, samples, rows):
        size = min(rows, samples - first)
        seeds = rng.multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), size=size)  # (b, S)
        items = rng.multinomial(n_items, counts / n_items, size=size)  # (b, K)
        means = np.einsum("bk,bk->b", seeds @ kinds, items) / values.size
        parts.append(means + stretch * (seeds @ between) / n_seeds)
    return np.concatenate(parts)


def _freedom(values: Ints) -> float:
    """Return Hillis's degrees of freedom for the mean of ``values`` (S, N) over both."""
    n_seeds, n_items = values.shape
    if n_seeds == 1:
        return math.inf
    by_seed, by_item = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_item + values.mean()
    seeds = n_items * by_seed.var(ddof=1)  # mean squares of the two-way table
    items = n_seeds * by_item.var(ddof=1) if n_items > 1 else 0.0
    noise = np.square(rest).sum() / ((n_seeds - 1) * max(n_items - 1, 1))
    if seeds == 0:
        return math.inf
    whole = seeds + max(items - noise, 0.0)
    return float((n_seeds - 1) * (whole / seeds) ** 2)


def _level_at_zero(interval: Callable[[float], tuple[float, float]], samples: int) -> float:
    """Return the level at which an end of the interval lies on zero, by bisection."""

    def clear(level: float) -> bool:
        low, high = interval(level)
        return low > 0 or high < 0

    lowest, highest = 1 / samples, 1 - 1e-6
    if clear(lowest):
        return lowest
    if not clear(highest):
        return 1.0
    for _ in range(_HALVINGS):
        middle = (lowest + highest) / 2
        lowest, highest = (lowest, middle) if clear(middle) else (middle, highest)
    return float(highest)
