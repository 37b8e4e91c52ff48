"""Metrics: probabilities and labels become numbers, each with a 95 % interval and its n.

How each interval is made, and why not by the plain percentile bootstrap alone, is argued where it
is computed and measured in docs/metrics.md.

The values come from scikit-learn where it has them. Classes that no label names have no recall,
so balanced accuracy and macro F1 are means over the classes that are present in the labels (what
scikit-learn's ``balanced_accuracy_score`` does, and ``f1_score`` with ``labels=`` those present).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ClassScore", "Evaluation", "Metric", "evaluate", "point_values", "wilson"]

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.intp]

_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")
_ECE_BINS = 15
_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
_TAILS = (0.025, 0.975)
_ROW_SUM_TOLERANCE = 1e-3
_DRAWS_AT_ONCE = 1 << 20  # resampled items held in memory at a time


@dataclass(frozen=True, slots=True)
class Metric:
    """A measured value and its 95 % interval.

    Attributes:
        value: The value on the n items; None when there are none.
        low: Lower end of the interval, at most ``value``.
        high: Upper end of the interval, at least ``value``.
        n: Number of items it was measured on.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Metric:
        """Build a metric from ``to_dict``'s result."""
        return cls(**document)


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How one class fared; a ratio without a denominator is None.

    Attributes:
        name: The class.
        precision: Share of the items predicted as this class that are of it.
        recall: Share of the class's items that were predicted as it.
        f1: Harmonic mean of the two; None where the labels don't contain the class.
        support: Number of the class's items.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that is measured on one set of items.

    Attributes:
        metrics: ``accuracy``, ``balanced_accuracy``, ``macro_f1``, ``log_loss`` (nats) and
            ``ece``, in this order.
        confusion: Counts; a row is a true class, a column a predicted one.
        per_class: One score a class, in the order of the classes.
    """

    metrics: dict[str, Metric]
    confusion: tuple[tuple[int, ...], ...]
    per_class: tuple[ClassScore, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return {
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "confusion": [list(row) for row in self.confusion],
            "per_class": [asdict(score) for score in self.per_class],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Evaluation:
        """Build an evaluation from ``to_dict``'s result."""
        return cls(
            metrics={name: Metric.from_dict(m) for name, m in document["metrics"].items()},
            confusion=tuple(tuple(row) for row in document["confusion"]),
            per_class=tuple(ClassScore(**score) for score in document["per_class"]),
        )


def evaluate(
    probabilities: ArrayLike,
    labels: ArrayLike,
    classes: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 1000,
) -> Evaluation:
    """Score predicted probabilities against the true labels.

    The predicted class is the most probable one, the first of equals. ``ece`` is the expected
    calibration error of Guo et al. (2017, https://arxiv.org/abs/1706.04599): the predicted
    class's probability in 15 bins of equal width, closed on the right. A probability of zero
    counts as 2.2e-16 in ``log_loss``, as in scikit-learn.

    Args:
        probabilities: (N, C), rows that sum to 1 within 0.001; scaled to do so exactly.
        labels: (N,) integers in 0..C-1.
        classes: The C names, C >= 2.
        seed: Seeds the bootstrap; the same seed gives the same intervals.
        resamples: Number of bootstrap resamples.

    Raises:
        ValueError: Shapes that don't fit each other, labels out of range, or rows that are no
            probabilities.
    """
    p, y = _checked(probabilities, labels, len(classes))
    items = _Items.of(p, y)
    if items.n == 0:
        nothing = Metric(None, None, None, 0)
        metrics = dict.fromkeys(_METRICS, nothing)
    else:
        values = _values(items)
        intervals = _intervals(items, values, np.random.default_rng(seed), resamples)
        metrics = {name: Metric(values[name], *intervals[name], items.n) for name in _METRICS}
    return Evaluation(metrics, _confusion(items), _per_class(items, classes))


def point_values(probabilities: ArrayLike, labels: ArrayLike, n_classes: int) -> dict[str, float]:
    """Return the metrics of ``evaluate`` by name, without intervals: what training looks at.

    Args:
        probabilities: (N, C), rows that sum to 1 within 0.001; N at least 1.
        labels: (N,) integers in 0..C-1.
        n_classes: C, at least 2.

    Raises:
        ValueError: As ``evaluate``.
    """
    return _values(_Items.of(*_checked(probabilities, labels, n_classes)))


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
class _Items:
    """What the metrics need of each item, sorted by label so that a class is a slice.

    ``gap`` is right (0 or 1) minus the predicted class's probability, ``bin`` that probability's
    ECE bin; ``support`` counts the items of each of the C classes.
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
        return len(self.label)

    @classmethod
    def of(cls, probabilities: Floats, labels: Ints) -> _Items:
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


def _checked(probabilities: ArrayLike, labels: ArrayLike, n_classes: int) -> tuple[Floats, Ints]:
    p = np.asarray(probabilities, dtype=np.float64)
    y = np.asarray(labels)
    if n_classes < 2 or p.ndim != 2 or p.shape[1] != n_classes or y.shape != p.shape[:1]:
        raise ValueError(
            f"Need probabilities (N, C), labels (N,) and C >= 2 classes; "
            f"got {p.shape}, {y.shape} and {n_classes}."
        )
    if not len(y):
        return p, y.astype(np.intp)
    if not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= n_classes:
        raise ValueError(f"Labels must be integers in 0..{n_classes - 1}.")
    sums = p.sum(axis=1, keepdims=True)
    # Written so that NaN, which compares as false, is caught too.
    if not (p.min() >= 0 and np.abs(sums - 1).max() <= _ROW_SUM_TOLERANCE):
        raise ValueError("Each row of probabilities must be finite, at least 0 and sum to 1.")
    return p / sums, y.astype(np.intp)


def _confusion(items: _Items) -> tuple[tuple[int, ...], ...]:
    from sklearn.metrics import confusion_matrix

    if items.n == 0:
        return ((0,) * len(items.support),) * len(items.support)
    every = np.arange(len(items.support))
    return tuple(map(tuple, confusion_matrix(items.label, items.predicted, labels=every).tolist()))


def _per_class(items: _Items, classes: Sequence[str]) -> tuple[ClassScore, ...]:
    from sklearn.metrics import precision_recall_fscore_support

    if items.n == 0:
        return tuple(ClassScore(name, None, None, None, 0) for name in classes)
    precisions, recalls, f1s, supports = precision_recall_fscore_support(
        items.label, items.predicted, labels=np.arange(len(classes)), zero_division=np.nan
    )
    rows = zip(classes, precisions, recalls, f1s, supports, strict=True)
    return tuple(
        ClassScore(name, _or_none(p), _or_none(r), _or_none(f) if n else None, int(n))
        for name, p, r, f, n in rows
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _values(items: _Items) -> dict[str, float]:
    from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score

    label, predicted = items.label, items.predicted
    mean = {"labels": np.flatnonzero(items.support), "average": "macro", "zero_division": 0}
    # Log loss looks at the true class's probability only: a problem of two columns, however many
    # classes there are. Recall's mean is balanced_accuracy_score, without its warning where a
    # class is predicted that no label names.
    true = items.true_probability
    values = {
        "accuracy": accuracy_score(label, predicted),
        "balanced_accuracy": recall_score(label, predicted, **mean),
        "macro_f1": f1_score(label, predicted, **mean),
        "log_loss": log_loss(np.ones(items.n), np.column_stack([1 - true, true]), labels=[0, 1]),
        "ece": np.abs(np.bincount(items.bin, items.gap)).sum() / items.n,
    }
    return {name: float(value) for name, value in values.items()}


def _intervals(
    items: _Items, values: Mapping[str, float], rng: np.random.Generator, resamples: int
) -> dict[str, tuple[float, float]]:
    drawn = [_statistics(items, draws) for draws in _draws(items, rng, resamples)]
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


def _draws(items: _Items, rng: np.random.Generator, resamples: int) -> Iterator[Ints]:
    """Yield chunks (b, N) of a stratified bootstrap: each class redrawn from its own items."""
    sizes = np.repeat(items.support, items.support)  # (N,) of the item's class
    starts = np.repeat(np.cumsum(items.support) - items.support, items.support)
    rows = max(1, _DRAWS_AT_ONCE // items.n)
    for first in range(0, resamples, rows):
        uniform = rng.random((min(rows, resamples - first), items.n))
        draws = (uniform * sizes).astype(np.intp)
        draws += starts
        yield draws


def _statistics(items: _Items, draws: Ints) -> dict[str, Floats]:
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


def _unseen(items: _Items) -> tuple[float, float]:
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
    items: _Items, value: float, high: float, rng: np.random.Generator, resamples: int
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
