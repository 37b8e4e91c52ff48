"""How well a simple probe tells classes apart by features: what frozen features are worth.

Two probes: a logistic regression and the nearest neighbours. Each image is judged by the others
alone, its copies and its group left out, so that nothing is held back and no image vouches for
itself. The penalty is the one of the lowest out-of-fold loss, a choice of one in nine that flatters
all features alike: scores are for comparing, not for promising.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.errors import DataError
from headstart.out_of_fold import deal, predict_out_of_fold
from headstart.probe_neighbours import vote

__all__ = ["Dealt", "ProbeScore", "able", "score", "standard_error"]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

_TINY = 1e-12  # the least probability that a loss is taken of: 28 nats


@dataclass(frozen=True, eq=False)
class ProbeScore:
    """What a cross-validated probe makes of features, image by image.

    Attributes:
        images: (n,) which images were judged, ascending, as positions in what was scored. An image
            is left out where no fold's probe could know its class.
        groups: (n,) their groups' numbers.
        right: (n,) whether the probe named the right class.
        loss: (n,) -log of the probability it gave to the right class, in nats.
        knn_right: (n,) whether the nearest neighbours named the right class.
        penalty: The probe's L2 penalty; a larger one needs less of the features.
    """

    images: Ints
    groups: Ints
    right: Bools
    loss: Doubles
    knn_right: Bools
    penalty: float

    @property
    def n(self) -> int:
        """How many images were judged."""
        return len(self.images)

    @property
    def accuracy(self) -> float:
        """Share of images that the probe was right about, 0 to 1."""
        return float(self.right.mean())

    @property
    def accuracy_noise(self) -> float:
        """Standard error of ``accuracy``."""
        return standard_error(self.right, self.groups)

    @property
    def log_loss(self) -> float:
        """Mean loss, in nats; what does no better than chance has log(number of classes)."""
        return float(self.loss.mean())

    @property
    def log_loss_noise(self) -> float:
        """Standard error of ``log_loss``."""
        return standard_error(self.loss, self.groups)

    @property
    def knn_accuracy(self) -> float:
        """Share of images that the five nearest neighbours were right about, 0 to 1."""
        return float(self.knn_right.mean())

    def to_dict(self) -> dict[str, Any]:
        """Return the summary, without what was said of each image, as plain JSON types."""
        return {
            "n": self.n,
            "accuracy": self.accuracy,
            "accuracy_noise": self.accuracy_noise,
            "log_loss": self.log_loss,
            "log_loss_noise": self.log_loss_noise,
            "knn_accuracy": self.knn_accuracy,
            "penalty": self.penalty,
        }


def standard_error(values: npt.NDArray[Any], groups: Ints, *, about: float | None = None) -> float:
    """Return the standard error of the mean of values (n,) that are alike within groups.

    The cluster-robust estimate: deviations are summed within each group before they are squared
    (Liang and Zeger, 1986). Where every image is a group of its own it is the usual one.

    Args:
        values: One number, or yes or no, an image.
        groups: (n,) the group of each.
        about: The mean that is supposed; by default the values' own.
    """
    _, group = np.unique(groups, return_inverse=True)
    values = values.astype(np.float64)
    sums = np.bincount(group, weights=values - (values.mean() if about is None else about))
    return float(np.sqrt((sums**2).sum()) / len(values))


def able(labels: Ints, groups: Ints) -> bool:
    """Tell whether a probe can be cross-validated: two classes lie in two groups each, or more.

    Args:
        labels: (n,) numbers of classes.
        groups: (n,) numbers.
    """
    pairs = np.unique(np.stack([labels, groups], axis=1), axis=0)
    _, parts = np.unique(pairs[:, 0], return_counts=True)
    return bool((parts > 1).sum() > 1)


@dataclass(frozen=True, eq=False)
class Dealt:
    """Images that are dealt into folds, to be judged by the probes of the others.

    Attributes:
        labels: (n,) their classes, in 0..C-1.
        groups: (n,) their groups' numbers.
        images: (n,) what to call them.
        fold: (n,) the fold of each.
    """

    labels: Ints
    groups: Ints
    images: Ints
    fold: Ints

    @classmethod
    def of(cls, labels: Ints, groups: Ints, *, images: Ints | None = None, seed: int = 0) -> Dealt:
        """Deal images into five folds.

        Args:
            labels: (n,) numbers of classes.
            groups: (n,) numbers; images of one are dealt together.
            images: (n,) what to call the images; by default their positions.
            seed: Another seed, other folds.

        Raises:
            DataError: Fewer than two classes lie in two groups or more.
        """
        _require(able(labels, groups))
        _, labels = np.unique(labels, return_inverse=True)
        images = np.arange(len(labels)) if images is None else images
        return cls(labels, groups, images, deal(labels, groups, seed=seed))

    def scored(
        self, probabilities: Doubles, judged: Bools, votes: Ints, penalty: float
    ) -> ProbeScore:
        """Return the score of what probes said.

        Args:
            probabilities: (n, C).
            judged: (n,) whether a probe that knew the image's class judged it.
            votes: (n,) the classes that the nearest neighbours named.
            penalty: The probes' penalty.

        Raises:
            DataError: No image was judged.
        """
        _require(judged.any())
        rows = np.flatnonzero(judged)
        own = probabilities[rows, self.labels[rows]]
        return ProbeScore(
            images=self.images[rows],
            groups=self.groups[rows],
            right=probabilities[rows].argmax(axis=1) == self.labels[rows],
            loss=-np.log(np.maximum(own, _TINY)),
            knn_right=votes[rows] == self.labels[rows],
            penalty=penalty,
        )


def score(
    features: Floats, labels: Ints, groups: Ints, *, images: Ints | None = None, seed: int = 0
) -> ProbeScore:
    """Score features by probes, cross-validated in five folds.

    Args:
        features: (n, D), finite.
        labels: (n,) numbers of classes.
        groups: (n,) numbers; images of one are judged without each other.
        images: (n,) what to call the images; by default their positions.
        seed: Deals the folds.

    Raises:
        DataError: Fewer than two classes lie in two groups or more.
    """
    dealt = Dealt.of(labels, groups, images=images, seed=seed)
    found = predict_out_of_fold(features, dealt.labels, dealt.fold, seed=seed)
    votes = vote(features, features, dealt.labels, groups)
    return dealt.scored(found.probabilities, found.judged, votes, found.penalty)


def _require(judgeable: bool | np.bool_) -> None:
    if not judgeable:
        raise DataError(
            "A probe can be judged where two classes have images in two groups each, or more; "
            "there are fewer.",
            field="data",
            hint="Add images, or choose the options by hand.",
        )
