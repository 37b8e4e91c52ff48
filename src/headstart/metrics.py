"""Metrics: probabilities and labels become numbers, each with a 95 % interval and its n.

How each interval is made, and why not by the plain percentile bootstrap alone, is argued in
headstart.intervals and measured in docs/metrics.md.

The values come from scikit-learn where it has them. Classes that no label names have no recall,
so balanced accuracy and macro F1 are means over the classes that are present in the labels (what
scikit-learn's ``balanced_accuracy_score`` does, and ``f1_score`` with ``labels=`` those present).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from headstart.intervals import Floats, Ints, Items, intervals

__all__ = ["ClassScore", "Evaluation", "Metric", "evaluate", "point_values"]

_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")
_ROW_SUM_TOLERANCE = 1e-3


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
    items = Items.of(p, y)
    if items.n == 0:
        nothing = Metric(None, None, None, 0)
        metrics = dict.fromkeys(_METRICS, nothing)
    else:
        values = _values(items)
        ends = intervals(items, values, np.random.default_rng(seed), resamples)
        metrics = {name: Metric(values[name], *ends[name], items.n) for name in _METRICS}
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
    return _values(Items.of(*_checked(probabilities, labels, n_classes)))


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


def _confusion(items: Items) -> tuple[tuple[int, ...], ...]:
    from sklearn.metrics import confusion_matrix

    if items.n == 0:
        return ((0,) * len(items.support),) * len(items.support)
    every = np.arange(len(items.support))
    return tuple(map(tuple, confusion_matrix(items.label, items.predicted, labels=every).tolist()))


def _per_class(items: Items, classes: Sequence[str]) -> tuple[ClassScore, ...]:
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


def _values(items: Items) -> dict[str, float]:
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
