"""Labels that are probably wrong: confident learning on out-of-fold probabilities.

The method is Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset
Labels", Journal of Artificial Intelligence Research 70, 2021. A class's threshold is the mean
probability its own images give it (eq. 2), so that a class the probe is unsure of is not full of
suspects. An image belongs confidently to the class whose threshold its probability reaches, the
most probable of these where there are several (eq. 1). Counted by given and confident class, that
is the confident joint; what lies off its diagonal is in doubt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.data.checks.findings import Finding

__all__ = [
    "Suspect",
    "candidates",
    "confident_joint",
    "estimated_errors",
    "finding",
    "normalised_margin",
    "self_confidence",
    "suspects",
    "thresholds",
]

Probabilities = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]

_EPSILON = 1e-6  # as cleanlab: what is this near to a threshold reaches it
_MOST_FILES = 100
_MOST_PAIRS = 3  # of classes that the message lists


@dataclass(frozen=True, slots=True)
class Suspect:
    """An image that the probe would have labelled otherwise.

    Attributes:
        position: Of the image.
        given: Its label.
        suggested: The class the probe finds most probable.
        confidence: How sure the probe is that the label is wrong, 0..1: what it gives to all
            other classes together.
        candidate: Whether confident learning counts it among the label errors; the others are
            images the probe errs on, hard ones for the most part.
    """

    position: int
    given: str
    suggested: str
    confidence: float
    candidate: bool


def thresholds(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """Return each class's mean self-confidence (C,); infinity for a class without images."""
    own = self_confidence(labels, probabilities)
    n_classes = probabilities.shape[1]
    counts = np.bincount(labels, minlength=n_classes)
    sums = np.bincount(labels, own, minlength=n_classes)
    means = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    return np.maximum(means, 2 * _EPSILON)


def confident_joint(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.int64]:
    """Count images by given and confident class (eq. 1); those confident of no class are not in it.

    Args:
        labels: (N,) in 0..C-1.
        probabilities: (N, C), out of fold.

    Returns:
        (C, C), given classes down and confident ones across. The diagonal is at least 1, so that
        a class of doubtful images alone can still be scaled to its size.
    """
    n_classes = probabilities.shape[1]
    confident = _confident(labels, probabilities)
    sure = confident >= 0
    flat = np.bincount(labels[sure] * n_classes + confident[sure], minlength=n_classes**2)
    joint = flat.reshape(n_classes, n_classes)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    return joint


def estimated_errors(labels: Labels, joint: npt.NDArray[np.int64]) -> float:
    """Estimate how many labels are wrong: the joint's rows scaled to the classes' sizes (eq. 3)."""
    counts = np.bincount(labels, minlength=len(joint))
    scaled = joint / joint.sum(axis=1, keepdims=True) * counts[:, None]
    scaled *= len(labels) / max(scaled.sum(), 1e-12)
    return float(scaled.sum() - np.trace(scaled))


def candidates(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.bool_]:
    """Tell which images confident learning holds for label errors, (N,).

    They lie off the diagonal of the confident joint, and their own class is not the most probable.
    """
    confident = _confident(labels, probabilities)
    own = self_confidence(labels, probabilities)
    # ``>=`` with a margin for a tie: an image that may as well be what it is labelled is let be.
    likely = own + _EPSILON >= _best_other(labels, probabilities)
    found: npt.NDArray[np.bool_] = (confident >= 0) & (confident != labels) & ~likely
    return found


def self_confidence(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """Return the probability of each image's own label, (N,); low is suspicious."""
    own = probabilities[np.arange(len(labels)), labels]
    return own.astype(np.float64)


def normalised_margin(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """Return how far the label is ahead of the best other class, within 0..1; low is suspicious."""
    margin = self_confidence(labels, probabilities) - _best_other(labels, probabilities)
    half: npt.NDArray[np.float64] = (margin + 1) / 2
    return half


def suspects(
    labels: Labels,
    probabilities: Probabilities,
    classes: Sequence[str],
    judged: npt.NDArray[np.bool_] | None = None,
) -> tuple[Suspect, ...]:
    """List the images whose most probable class is not their label, least self-confident first.

    Args:
        labels: (N,) in 0..C-1.
        probabilities: (N, C), out of fold.
        classes: Names of the C classes.
        judged: (N,) which images to consider; all by default.
    """
    own = self_confidence(labels, probabilities)
    doubted = own + _EPSILON < _best_other(labels, probabilities)
    kept = np.ones(len(labels), bool) if judged is None else judged
    marked = np.zeros(len(labels), bool)
    marked[kept] = candidates(labels[kept], probabilities[kept])
    positions = np.flatnonzero(doubted & kept)
    ranked = positions[np.lexsort((positions, own[positions]))]
    best = probabilities.argmax(axis=1)
    return tuple(
        Suspect(
            position=int(one),
            given=classes[labels[one]],
            suggested=classes[best[one]],
            confidence=float(1 - own[one]),
            candidate=bool(marked[one]),
        )
        for one in ranked
    )


def finding(found: Sequence[Suspect], names: Sequence[str], estimate: float) -> Finding | None:
    """Return one finding about all candidates, the surest files first; None where there is none.

    Args:
        found: From :func:`suspects`.
        names: Names of all images.
        estimate: From :func:`estimated_errors`.
    """
    doubtful = [suspect for suspect in found if suspect.candidate]
    if not doubtful:
        return None
    pairs = Counter((one.given, one.suggested) for one in doubtful).most_common(_MOST_PAIRS)
    listed = ", ".join(f"{given} that looks like {other} ({n})" for (given, other), n in pairs)
    message = (
        f"{len(doubtful)} of {len(names)} labels are in doubt; the probe's estimate is that "
        f"{100 * estimate / max(len(names), 1):.1f} % of all are wrong. Most: {listed}."
    )
    hint = (
        "Look at them, the surest first: the first ones are mostly wrong labels, the last ones "
        "mostly hard images. Correct what is wrong; don't drop what is only hard."
    )
    files = tuple(names[suspect.position] for suspect in doubtful[:_MOST_FILES])
    return Finding("label", "warning", files, message, hint)


def _confident(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.int64]:
    """Return the class that each image confidently is, (N,), or -1."""
    reached = probabilities >= thresholds(labels, probabilities) - _EPSILON
    n_reached = reached.sum(axis=1)
    # Of several classes eq. 1 takes the most probable one that is reached; like cleanlab, the
    # most probable of all, which differs only where that one has not reached a high threshold.
    guess = np.where(n_reached > 1, probabilities.argmax(axis=1), reached.argmax(axis=1))
    return np.where(n_reached > 0, guess, -1)


def _best_other(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.float64]:
    others = np.array(probabilities, dtype=np.float64)
    others[np.arange(len(labels)), labels] = -np.inf
    best: npt.NDArray[np.float64] = others.max(axis=1)
    return best
