"""What probes say of other views of the images: mirror images and turns of them.

Either the probes have learnt from plain images and are shown a view, or they have learnt from both
and are shown plain images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from headstart.out_of_fold import Fold, predict_out_of_fold
from headstart.probe_neighbours import vote
from headstart.probe_score import Dealt, ProbeScore

__all__ = ["Probes", "score_together"]

Floats = npt.NDArray[np.floating[Any]]


class Probes:
    """Probes that have learnt from plain images, each to judge those it has not seen.

    Args:
        features: (n, D), finite, of the plain images.
        dealt: The images and their folds.
        seed: As ``predict_out_of_fold`` takes it.
    """

    def __init__(self, features: Floats, dealt: Dealt, *, seed: int = 0) -> None:
        self._features = features
        self._dealt = dealt
        plain = predict_out_of_fold(features, dealt.labels, dealt.fold, seed=seed)
        self._judged = plain.judged
        self._penalty = plain.penalty
        self._shape = plain.probabilities.shape
        with threadpool_limits(limits=1):  # as in training.solve: too small to share
            self._probes = [
                (held, Fold(features, dealt.labels, train, held).probe().at(plain.penalty))
                for train, held in self._folds()
            ]

    def _folds(self) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
        """Return the positions that each fold's probe learns from, and those that it judges."""
        fold = self._dealt.fold
        parts = [
            (np.flatnonzero(fold != number), np.flatnonzero(fold == number))
            for number in np.unique(fold)
        ]
        return [(train, held) for train, held in parts if self._judged[held].any()]

    def score(self, view: Floats) -> ProbeScore:
        """Score a view of the images.

        Args:
            view: Features (n, D) of the same images; the plain ones are a view too.

        Raises:
            DataError: No probe knows the class of an image that it has not learnt from.
        """
        found = np.zeros(self._shape)
        with threadpool_limits(limits=1):
            for held, probe in self._probes:
                found[np.ix_(held, probe.classes)] = probe.predict(view[held])
            votes = vote(self._features, view, self._dealt.labels, self._dealt.groups)
        return self._dealt.scored(found, self._judged, votes, self._penalty)


def score_together(features: Floats, view: Floats, dealt: Dealt, *, seed: int = 0) -> ProbeScore:
    """Score plain images by probes that have learnt from both views of the other images.

    What a view is worth as augmentation: where a mirror image means something else, its label is
    wrong and the probe learns it.

    Args:
        features: (n, D), finite, of the plain images.
        view: Features (n, D) of the same images, seen in another way.
        dealt: The images and their folds.
        seed: As ``predict_out_of_fold`` takes it.

    Raises:
        DataError: No probe knows the class of an image that it has not learnt from.
    """
    n = len(features)
    both, labels = np.concatenate([features, view]), np.tile(dealt.labels, 2)
    found = predict_out_of_fold(both, labels, np.tile(dealt.fold, 2), seed=seed)
    votes = vote(both, features, labels, np.tile(dealt.groups, 2))
    return dealt.scored(found.probabilities[:n], found.judged[:n], votes, found.penalty)
