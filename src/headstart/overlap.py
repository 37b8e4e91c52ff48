"""Classes that overlap: what a probe takes for each other far more often than chance would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.data.checks.findings import Finding
from headstart.intervals import wilson

__all__ = ["Overlap", "balanced_accuracy", "finding", "overlaps"]

Probabilities = npt.NDArray[np.floating[Any]]

_LEAST_SHARE = 0.05  # confused, for a pair to be worth a word
_TIMES_EVEN = 2.0  # what errors would give that fell evenly over all pairs
_CLOSE = 0.6  # of a pair's images put right, below which the two are as good as one
_LEAST_IMAGES = 10  # of either class
_TINY = 1e-12
_MOST = 10
_MOST_FILES = 100


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two classes that the probe confuses.

    Attributes:
        a: One class.
        b: The other.
        n: Images of the two.
        share: The share of these that is taken for the other class.
        low: Lower end of its 95 % interval (Wilson).
        high: Upper end.
        even: What it would be if all errors fell evenly over all pairs of classes.
        apart: Balanced accuracy where only the two are to be chosen from; 0.5 is guessing.
        apart_low: Lower end of its 95 % interval.
        apart_high: Upper end.
        positions: The images taken for the other class.
    """

    a: str
    b: str
    n: int
    share: float
    low: float
    high: float
    even: float
    apart: float
    apart_low: float
    apart_high: float
    positions: tuple[int, ...]

    @property
    def same(self) -> bool:
        """Whether the two can't be told apart: no better than guessing, or hardly."""
        return self.apart_low <= 0.5 or self.apart < _CLOSE


def overlaps(
    labels: npt.NDArray[np.int64],
    probabilities: Probabilities,
    classes: Sequence[str],
    judged: npt.NDArray[np.bool_] | None = None,
) -> tuple[Overlap, ...]:
    """Find the pairs of classes that are confused far more than others, the worst first.

    A pair counts where at least 5 % of its images are taken for the other class and, with three
    classes or more, the interval's lower end is above twice the share that errors would make up
    if they fell evenly over all pairs; or where the two can't be told apart at all. Classes of
    fewer than 10 images are not judged.

    Args:
        labels: (N,) in 0..C-1.
        probabilities: (N, C), out of fold.
        classes: Names of the C classes.
        judged: (N,) which images to consider; all by default.
    """
    kept = np.ones(len(labels), bool) if judged is None else judged
    positions = np.flatnonzero(kept)
    y, p = labels[positions], probabilities[positions]
    predicted = p.argmax(axis=1)
    n_classes = len(classes)
    members = [np.flatnonzero(y == label) for label in range(n_classes)]
    sizes = np.array([len(some) for some in members])
    confusion = np.bincount(y * n_classes + predicted, minlength=n_classes**2)
    confusion = confusion.reshape(n_classes, n_classes)
    taken = confusion / np.maximum(sizes, 1)[:, None]  # (C, C) of each class, for each other
    found = []
    for a, b in np.argwhere(np.triu(np.maximum(taken, taken.T) >= _LEAST_SHARE, k=1)):
        both = np.concatenate([members[a], members[b]])
        if min(sizes[[a, b]]) < _LEAST_IMAGES:
            continue  # a handful of images says nothing about two classes
        n = len(both)
        wrong = np.sort(both[np.isin(predicted[both], (a, b)) & (y[both] != predicted[both])])
        low, high = wilson(len(wrong), n)
        errors = sizes[[a, b]] - confusion.diagonal()[[a, b]]
        pair = Overlap(
            *(classes[a], classes[b], n, len(wrong) / n, float(low), float(high)),
            float(errors.sum() / (n_classes - 1) / n),
            *_apart(p[members[a]][:, [a, b]], p[members[b]][:, [a, b]]),
            tuple(positions[wrong].tolist()),
        )
        if _worth_telling(pair, n_classes):
            found.append(pair)
    return tuple(sorted(found, key=lambda pair: (-pair.share, pair.a, pair.b))[:_MOST])


def finding(pair: Overlap, names: Sequence[str]) -> Finding:
    """Return the finding about a pair of classes.

    Args:
        pair: From :func:`overlaps`.
        names: Names of all images.
    """
    message = "".join(_sentences(pair))
    files = tuple(names[position] for position in pair.positions[:_MOST_FILES])
    if pair.same:
        hint = (
            "Are they one class, or is their difference too small to see at this size? Merge them, "
            "define them more sharply, or try a larger --size and a strategy that trains the "
            "network itself."
        )
        return Finding("overlap", "warning", files, message, hint)
    hint = (
        "Look at what is taken for the other: labels by different rules, or pictures that hold "
        "both. A probe on frozen features judges; fine-tuning may tell them apart better."
    )
    return Finding("overlap", "note", files, message, hint)


def _worth_telling(pair: Overlap, n_classes: int) -> bool:
    often = pair.share >= _LEAST_SHARE
    if n_classes == 2:
        return pair.same or (often and pair.low >= 2 * _LEAST_SHARE)
    return (often and pair.low > _TIMES_EVEN * pair.even) or pair.same


def _sentences(pair: Overlap) -> Iterator[str]:
    yield (
        f"{pair.a} and {pair.b} overlap: {100 * pair.share:.0f} % "
        f"({100 * pair.low:.0f} to {100 * pair.high:.0f}) of their {pair.n} images are taken for "
        "the other"
    )
    if pair.share != pair.even:
        yield f", {100 * pair.even:.1f} % if errors fell evenly"
    yield (
        f". Between the two alone the probe is right in {100 * pair.apart:.0f} % "
        f"({100 * pair.apart_low:.0f} to {100 * pair.apart_high:.0f}; guessing 50)"
    )
    yield ": they can't be told apart." if pair.same else "."


def _apart(of_a: Probabilities, of_b: Probabilities) -> tuple[float, float, float]:
    """Return the balanced accuracy between two classes, and its interval.

    Args:
        of_a: (n, 2), the probabilities of a and of b that a's images have.
        of_b: The same of b's images.
    """
    # An image goes to the class that is ahead of its usual share, so that a rare class beside a
    # common one is not at a disadvantage.
    usual = np.log(len(of_a) / len(of_b))
    leads = [np.diff(np.log(np.maximum(some, _TINY)))[:, 0] + usual for some in (of_a, of_b)]
    hits = [int((leads[0] < 0).sum()), int((leads[1] > 0).sum())]
    return balanced_accuracy(hits, [len(of_a), len(of_b)])


def balanced_accuracy(hits: Sequence[float], sizes: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of the classes' recalls, and the ends of its 95 % interval.

    The recalls' Wilson intervals are joined by square-and-add (Zou, Huang and Zhang,
    Computational Statistics & Data Analysis 53, 2009).

    Args:
        hits: Of each class, how many are right.
        sizes: Of how many, each above 0; neither need be whole numbers.
    """
    shares = np.asarray(hits, dtype=np.float64) / np.asarray(sizes)
    low, high = wilson(hits, sizes)
    value = float(shares.mean())
    down = float(np.sqrt(np.square(shares - low).sum())) / len(shares)
    up = float(np.sqrt(np.square(high - shares).sum())) / len(shares)
    return value, max(value - down, 0.0), min(value + up, 1.0)
