"""Whether one set of features is better than another, by what a probe said of the same images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from headstart.errors import UsageError
from headstart.probe_score import ProbeScore, standard_error

__all__ = ["Difference", "compare", "preferred"]

_LEAST_LOSS = 0.01  # nats


@dataclass(frozen=True, slots=True)
class Difference:
    """How one score differs from another, paired by image.

    Most images are easy or hard for both, so that the difference is known much better than either
    score.

    Attributes:
        accuracy: The first's accuracy less the second's, -1 to 1.
        accuracy_noise: Its standard error if the two were equal, as McNemar's test takes it: images
            that change sides would come as often as they go, and one that does is no evidence.
        log_loss: The first's log loss less the second's, in nats; below 0 the first is better.
        log_loss_noise: Its standard error.
        n: How many images both judged.
        better: True where the first is better beyond noise, False where it is worse, else None.
    """

    accuracy: float
    accuracy_noise: float
    log_loss: float
    log_loss_noise: float
    n: int
    better: bool | None

    def worse(self, errors: float = 1.0) -> bool:
        """Tell whether accuracy or log loss is worse by more than so many standard errors."""
        noise = errors * self.log_loss_noise
        return self.accuracy < -errors * self.accuracy_noise or self.log_loss > max(
            noise, _LEAST_LOSS
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def compare(first: ProbeScore, second: ProbeScore) -> Difference:
    """Compare two scores by the images that both have judged.

    One is better where its accuracy or its log loss is better by more than one standard error of
    the difference, and the other of the two is not worse by more than that. A log loss that differs
    by less than 0.01 nats counts as the same: of features by which all is told it differs by next
    to nothing, and surely.

    Raises:
        UsageError: They have no image in common.
    """
    shared, one, other = np.intersect1d(first.images, second.images, return_indices=True)
    if not len(shared):
        raise UsageError(
            f"Scores are compared by images that both judged; of {first.n} and {second.n} images "
            "none is in both.",
            field="images",
            hint="Score both on the same sample.",
        )
    right = first.right[one].astype(np.float64) - second.right[other]
    loss = first.loss[one] - second.loss[other]
    groups = first.groups[one]
    accuracy, accuracy_noise = float(right.mean()), standard_error(right, groups, about=0.0)
    log_loss, log_loss_noise = float(loss.mean()), standard_error(loss, groups)
    verdicts = (
        _verdict(accuracy, accuracy_noise),
        _verdict(-log_loss, max(log_loss_noise, _LEAST_LOSS)),
    )
    return Difference(
        accuracy=accuracy,
        accuracy_noise=accuracy_noise,
        log_loss=log_loss,
        log_loss_noise=log_loss_noise,
        n=len(shared),
        better=None if sum(verdicts) == 0 else sum(verdicts) > 0,
    )


def preferred(scores: Mapping[str, ProbeScore], default: str) -> str:
    """Return the name of the best score: the default's, unless others are better beyond noise.

    Of several better ones it is that of the lowest log loss.

    Args:
        scores: By name, the default's among them.
        default: What is taken where the evidence does not say otherwise.
    """
    better = [
        name
        for name, score in scores.items()
        if name != default and compare(score, scores[default]).better
    ]
    return min(better, key=lambda name: scores[name].log_loss, default=default)


def _verdict(gain: float, noise: float) -> int:
    """Return 1 for a gain beyond noise, -1 for a loss beyond it, else 0."""
    return int(gain > noise) - int(gain < -noise)
