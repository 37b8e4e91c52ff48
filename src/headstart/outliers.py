"""Images unlike all others, of their class and of the whole set.

An image's distance is that to its k-th nearest other by the network's features: Ramaswamy,
Rastogi and Shim, "Efficient Algorithms for Mining Outliers from Large Data Sets", SIGMOD 2000;
that so simple a score is hard to beat on a network's features: Kuan and Mueller, "Back to the
Basics: Revisiting Out-of-Distribution Detection Baselines", 2022. Where it begins to be strange is
told by the fence of the adjusted boxplot: Hubert and Vandervieren, "An Adjusted Boxplot for Skewed
Distributions", Computational Statistics & Data Analysis 52, 2008. A few outliers can't move it, and
it allows for the skew of distances; a z-score of median and absolute deviations does not, and
missed every picture of another kind that was put into three real sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.data.checks.findings import Finding
from headstart.feature_neighbours import Neighbours

__all__ = ["NEIGHBOUR", "Outlier", "finding", "outliers"]

NEIGHBOUR = 5  # k: four copies of a strange image don't make it ordinary
_LEAST_IMAGES = 20
_FENCE = 1.5  # interquartile ranges, as Tukey's
_MOST_PAIRED = 1000  # values that the skew is taken from, since it pairs each with each
_MOST_SHARE = 0.01
_MOST = 50


@dataclass(frozen=True, slots=True)
class Outlier:
    """An image unlike all others.

    Attributes:
        position: Of the image.
        score: How far it lies beyond the upper quartile of distances, in units of the fence's
            way, among its class or the whole set, whichever is less; above 1.
    """

    position: int
    score: float


def outliers(neighbours: Neighbours, labels: npt.NDArray[np.int64]) -> tuple[Outlier, ...]:
    """Find the images unlike all others, the strangest first; at most 1 % of all, and 50.

    Args:
        neighbours: Each image's nearest others, at least :data:`NEIGHBOUR` of them.
        labels: (N,), classes 0..C-1. A class of fewer than 20 images has no usual distance of its
            own; its images are compared with the whole set's.
    """
    n = len(labels)
    if n < _LEAST_IMAGES or neighbours.similarity.shape[1] < NEIGHBOUR:
        return ()
    distance = 1 - neighbours.similarity[:, NEIGHBOUR - 1].astype(np.float64)
    score = _beyond(distance)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) >= _LEAST_IMAGES:
            score[members] = np.minimum(score[members], _beyond(distance[members]))
    ranked = np.lexsort((np.arange(n), -score))[: min(_MOST, max(1, round(_MOST_SHARE * n)))]
    return tuple(Outlier(int(one), float(score[one])) for one in ranked if score[one] > 1)


def finding(found: Sequence[Outlier], names: Sequence[str]) -> Finding | None:
    """Return one finding about all outliers; None where there is none.

    Args:
        found: From :func:`outliers`.
        names: Names of all images.
    """
    if not found:
        return None
    some = "1 image is" if len(found) == 1 else f"{len(found)} images are"
    message = f"{some} unlike all others, of their class and of the whole set."
    hint = "Look whether they belong here: a wrong file, a broken picture, or a rare case to keep."
    files = tuple(names[outlier.position] for outlier in found)
    return Finding("outlier", "note", files, message, hint)


def _beyond(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return where each value lies between the upper quartile, 0, and the fence, 1, or beyond."""
    low, high = np.quantile(values, (0.25, 0.75))
    skew = _medcouple(values)
    way = _FENCE * np.exp((3 if skew >= 0 else 4) * skew) * (high - low)
    # Where half the values are equal nothing is usual enough to be strange beside it.
    result: npt.NDArray[np.float64] = (values - high) / way if way > 0 else 0 * values
    return result


def _medcouple(values: npt.NDArray[np.float64]) -> float:
    """Return the skew, -1..1: Brys, Hubert and Struyf, "A Robust Measure of Skewness", 2004."""
    some = np.sort(values)
    if len(some) > _MOST_PAIRED:
        some = some[np.linspace(0, len(some) - 1, _MOST_PAIRED).round().astype(np.int64)]
    centred = some - np.median(some)
    above, below = centred[centred >= 0][:, None], centred[centred <= 0][None, :]
    apart = above - below
    kernel = (above + below)[apart > 0] / apart[apart > 0]
    return float(np.median(kernel)) if len(kernel) else 0.0
