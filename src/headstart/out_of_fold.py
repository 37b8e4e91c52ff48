"""What a simple probe thinks of each image when it has learnt from the others alone.

A probe is a logistic regression on frozen features. It sees each image from outside: the images
are dealt into folds, and a fold is judged by the probe of all the others. Images of one group,
and copies of one image, are dealt together, or a copy would vouch for its copy's wrong label.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

__all__ = ["FOLDS", "Fold", "OutOfFold", "deal", "predict_out_of_fold"]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

FOLDS = 5
# The best penalty differs little from fold to fold: beyond so many images one fold chooses it.
_CHOOSE_ON_ALL = 1000
_PENALTIES = (10_000.0, 3000.0, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
# A probe of so many images knows nearly what one of all would know, in a bounded time.
_MOST_TRAIN = 10_000
_LEAST_OF_CLASS = 20  # that a class keeps there, if it has them
# Ten times looser than scikit-learn's own: a ranking of images does not feel it.
_TOLERANCE = 1e-3
_MOST_ITERATIONS = 300
_CONSTANT = 1e-6  # as in training.solve: what varies less than this share of its mean is rounding


@dataclass(frozen=True)
class OutOfFold:
    """Probabilities of each image's classes by a probe that has not seen it.

    Attributes:
        probabilities: (N, C) float64, rows that sum to 1.
        judged: (N,) whether the probe knew the image's own class; what it says of others means
            nothing for a label.
        penalty: The probes' L2 penalty, chosen by held-out log loss.
        folds: How many there were.
    """

    probabilities: npt.NDArray[np.float64]
    judged: npt.NDArray[np.bool_]
    penalty: float
    folds: int


@dataclass(frozen=True)
class Fold:
    """One fold's probe: which images it learns from and which it judges.

    Attributes:
        features: (N, D), of all images.
        labels: (N,) in 0..C-1, of all images.
        train: Positions it learns from.
        held: Positions it judges.
    """

    features: Floats
    labels: Ints
    train: Ints
    held: Ints

    def probe(self) -> _Probe:
        """Return the probe, not yet fitted."""
        return _Probe(self.features[self.train], self.labels[self.train])


def deal(labels: Ints, units: Ints, *, seed: int, folds: int = FOLDS) -> Ints:
    """Deal images into folds, each class evenly, each unit into one.

    Args:
        labels: (N,) in 0..C-1.
        units: (N,) a number each image shares with those it must not be parted from.
        seed: Another seed, other folds.
        folds: How many.

    Returns:
        (N,) in 0..folds-1.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    first = np.full(len(sizes), len(labels))
    np.minimum.at(first, unit, np.arange(len(labels)))
    kind = labels[first]  # a unit of several classes is dealt as its first image's
    shuffled = np.random.default_rng([seed, len(labels)]).permutation(len(sizes))
    order = shuffled[np.lexsort((-sizes[shuffled], kind[shuffled]))]  # by class, large units first
    of_class = np.zeros((int(labels.max(initial=0)) + 1, folds), dtype=np.int64)
    of_all = np.zeros(folds, dtype=np.int64)
    chosen = np.empty(len(sizes), dtype=np.int64)
    for one in order:
        fold = np.lexsort((of_all, of_class[kind[one]]))[0]
        chosen[one] = fold
        of_class[kind[one], fold] += sizes[one]
        of_all[fold] += sizes[one]
    return chosen[unit]


def predict_out_of_fold(features: Floats, labels: Ints, fold: Ints, *, seed: int) -> OutOfFold:
    """Predict every image by a probe of the other folds.

    Of more than 10,000 images a fold's probe learns from a stratified 10,000, so that time and
    memory stay bounded.

    Args:
        features: (N, D), finite.
        labels: (N,) in 0..C-1, at least two different.
        fold: (N,) from :func:`deal`.
        seed: Chooses the 10,000.
    """
    import sklearn.linear_model  # noqa: F401  # its libraries are loaded before they are limited

    rng = np.random.default_rng([seed, len(labels), 1])
    every = (_part(features, labels, fold == number, rng) for number in np.unique(fold))
    parts = [part for part in every if part is not None]
    with threadpool_limits(limits=1):  # the products are too small to share, as in training.solve
        penalty = _choose(parts if len(labels) <= _CHOOSE_ON_ALL else parts[:1])
        probabilities = np.full((len(labels), int(labels.max()) + 1), np.nan)
        judged = np.zeros(len(labels), dtype=bool)
        for part in parts:
            probe = part.probe().at(penalty)
            columns = np.zeros(probabilities.shape[1])
            columns[probe.classes] = 1
            probabilities[part.held] = 0
            probabilities[np.ix_(part.held, probe.classes)] = probe.predict(features[part.held])
            judged[part.held] = columns[labels[part.held]] > 0
    probabilities[np.isnan(probabilities[:, 0])] = 1 / probabilities.shape[1]
    return OutOfFold(probabilities, judged, penalty, len(parts))


def _part(
    features: Floats, labels: Ints, out: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Fold | None:
    """Return a fold, or None where less than two classes are left to learn from."""
    train = np.flatnonzero(~out)
    if len(np.unique(labels[train])) < 2:
        return None
    if len(train) > _MOST_TRAIN:
        share = _MOST_TRAIN / len(train)
        kept = []
        for label in np.unique(labels[train]):
            members = rng.permutation(train[labels[train] == label])
            kept.append(members[: max(_LEAST_OF_CLASS, round(share * len(members)))])
        train = np.sort(np.concatenate(kept))
    return Fold(features, labels, train, np.flatnonzero(out))


def _choose(parts: Sequence[Fold]) -> float:
    """Return the penalty of the lowest held-out loss, which falls and then rises along the grid."""
    if not parts:
        return _PENALTIES[0]
    probes = [part.probe() for part in parts]
    best, lowest = _PENALTIES[0], np.inf
    for penalty in _PENALTIES:
        loss = np.concatenate(
            [
                probe.at(penalty).losses(part.features[part.held], part.labels[part.held])
                for probe, part in zip(probes, parts, strict=True)
            ]
        ).mean()
        if loss >= lowest:
            break
        best, lowest = penalty, loss
    return best


class _Probe:
    """A logistic regression on standardised features, moved from penalty to penalty."""

    def __init__(self, features: Floats, labels: Ints) -> None:
        from sklearn.linear_model import LogisticRegression

        self._mean = features.mean(axis=0, dtype=np.float64)
        std = features.std(axis=0, dtype=np.float64)
        self._std = np.where(std > _CONSTANT * np.abs(self._mean), std, np.inf)
        self._features = ((features - self._mean) / self._std).astype(np.float32)
        self._labels = labels
        self._model = LogisticRegression(tol=_TOLERANCE, max_iter=_MOST_ITERATIONS, warm_start=True)

    @property
    def classes(self) -> Ints:
        """The classes it knows, ascending."""
        return np.unique(self._labels)

    def at(self, penalty: float) -> _Probe:
        """Fit at a penalty, starting from the last fit."""
        self._model.C = 1 / penalty
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a fit that stops early ranks as well
            self._model.fit(self._features, self._labels)
        return self

    def predict(self, features: Floats) -> npt.NDArray[np.float64]:
        """Return the probabilities (n, classes known) of raw features (n, D)."""
        weight, bias = self._model.coef_, self._model.intercept_
        if len(weight) == 1:  # two classes: one sigmoid is a softmax over 0 and z
            weight, bias = np.vstack([0 * weight, weight]), np.concatenate([0 * bias, bias])
        weight = weight / self._std  # (classes, D), for raw features
        logits = (features @ weight.T + (bias - weight @ self._mean)).astype(np.float64)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: npt.NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
        return probabilities

    def losses(self, features: Floats, labels: Ints) -> npt.NDArray[np.float64]:
        """Return -log p(label) of those images whose class it knows."""
        place = np.searchsorted(self.classes, labels)
        known = np.isin(labels, self.classes)
        own = self.predict(features)[known, place[known]]
        losses: npt.NDArray[np.float64] = -np.log(np.maximum(own, np.finfo(np.float64).tiny))
        return losses
