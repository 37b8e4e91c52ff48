"""Whether a phase made the network better, by more than the noise of val.

Both networks judge the same val images, so they are compared image by image: what both get right
or both get wrong says nothing, and the noise is that of the images on which they differ (McNemar
1947). A network that was fine-tuned is surer of itself than it should be, and its log loss can rise
while it gets more images right; log losses are therefore compared after one temperature for each
(Guo 2017, arXiv:1706.04599), which changes no prediction.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LEAST_PUT_RIGHT", "Verdict", "compare"]

Shares = npt.NDArray[np.floating[Any]]
Labels = npt.NDArray[np.int64]

LEAST_PUT_RIGHT = 2
"""So many val images must be put right, none being spoilt, for more than the noise."""
_TWICE = 2.0  # noises of the log loss, beyond which it counts
_COLDEST, _HOTTEST = 1 / 20, 20.0  # temperatures
_LEAST = 1e-12  # of a probability, before its logarithm
_HALVINGS = 40  # of the temperature's interval: to 1e-11 of its logarithm


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a phase's weights stay, and why.

    Attributes:
        kept: Whether they do.
        n: How many val images there were.
        accuracy_before: Of the weights that the phase started from; None where not measured.
        accuracy_after: Of the phase's best epoch.
        difference: Of the accuracies, after less before.
        noise: Standard error of the difference if both were equally good, at least an image.
        log_loss_difference: Mean over the images, after less before, each with its temperature:
            below 0 is better.
        log_loss_noise: Its standard error, at least ``log(2) / 2 n``.
        reason: Why, in words with numbers.
    """

    kept: bool
    n: int
    accuracy_before: float | None
    accuracy_after: float | None
    difference: float | None
    noise: float | None
    log_loss_difference: float | None
    log_loss_noise: float | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types, numbers to six digits."""
        return {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


def compare(before: Shares | None, after: Shares | None, labels: Labels) -> Verdict:
    """Decide whether the weights after a phase stay.

    They do in either of two cases:

    - More val images are right than before, by more than the noise, and the log loss is not worse
      by more than two of its noises. The noise is what chance would do if both were equally good:
      with ``b`` images put right and ``c`` spoilt, ``sqrt(b + c)`` images. So 2 to 0 is enough;
      1 to 0 and 3 to 1 are not.
    - No fewer are right, and the log loss is better by more than two of its noises: where val is
      small, probabilities tell earlier than counts.

    How often it is kept, simulated (benchmarks/keeping_power.py): 86 % right before, the best of
    ten epochs after, 6 % of the images decided otherwise, by the true gain in points of accuracy:

    ======  ===  ===  ===  ===  ===
    n val    -3   -1    0   +1   +3
    ======  ===  ===  ===  ===  ===
    50      13%  29%  36%  49%  72%
    300      0%  21%  44%  76%  99%
    1,000    0%   8%  45%  90% 100%
    ======  ===  ===  ===  ===  ===

    A phase that does nothing is kept too often for a test of significance, because the best epoch
    was chosen on the same images; it costs nothing. One that harms is what must not stay.

    Args:
        before: (n, C) probabilities of the n val images by the weights before the phase; None
            where they were not finite.
        after: The same by the weights of its best epoch.
        labels: (n,) which class each image is of.
    """
    n = len(labels)
    if n == 0:
        return _unmeasured(n, "there are no val images to tell whether it helped")
    if before is None or after is None:
        when = "before" if before is None else "after"
        return _unmeasured(n, f"the outputs on val {when} it were not finite")
    was, now = before.argmax(axis=1) == labels, after.argmax(axis=1) == labels
    right, spoilt = int((now & ~was).sum()), int((was & ~now).sum())
    losses = _losses(after, labels) - _losses(before, labels)
    loss, loss_noise = float(losses.mean()), _noise(losses)
    kept, why = _decide(right - spoilt, right + spoilt, loss, loss_noise)
    noise = math.sqrt(max(1, right + spoilt)) / n
    changed = (
        f"of {n} val image{'' if n == 1 else 's'} it put {right} right and spoilt {spoilt}: "
        f"accuracy {100 * (right - spoilt) / n:+.1f} points (noise {100 * noise:.1f} points), {why}"
    )
    same = np.array_equal(before, after)
    return Verdict(
        kept=kept,
        n=n,
        accuracy_before=float(was.mean()),
        accuracy_after=float(now.mean()),
        difference=(right - spoilt) / n,
        noise=noise,
        log_loss_difference=loss,
        log_loss_noise=loss_noise,
        reason="no epoch was better on val than the weights before it" if same else changed,
    )


def _decide(gain: int, changed: int, loss: float, noise: float) -> tuple[bool, str]:
    """Return whether the weights stay, and what decided.

    Args:
        gain: How many more images are right.
        changed: How many are right in one and wrong in the other.
        loss: Difference of the log losses, below 0 is better.
        noise: Its standard error.
    """
    told = f"log loss {loss:+.3f}, noise {noise:.3f}"
    surely = gain > 0 and gain**2 > changed
    if surely and loss > _TWICE * noise:
        return False, f"but its probabilities are worse ({told})"
    if surely:
        return True, "more than the noise"
    if gain >= 0 and loss < -_TWICE * noise:
        return True, f"and its probabilities are better by more than twice their noise ({told})"
    return False, f"not more than the noise, nor are its probabilities clearly better ({told})"


def _unmeasured(n: int, reason: str) -> Verdict:
    return Verdict(False, n, None, None, None, None, None, None, reason)


def _noise(losses: npt.NDArray[np.float64]) -> float:
    """Return the standard error of the mean of differences of log losses (n,).

    At least half an image's way from undecided between two classes to certain: where every image
    moves alike, by next to nothing, that is no improvement to speak of.
    """
    n = len(losses)
    error = float(losses.std(ddof=1)) / math.sqrt(n) if n > 1 else abs(float(losses[0]))
    return max(error, math.log(2) / 2 / n)


def _losses(shares: Shares, labels: Labels) -> npt.NDArray[np.float64]:
    """Return each image's log loss (n,) at the temperature that suits all of them best."""
    logits = np.log(np.maximum(shares.astype(np.float64), _LEAST))
    logits -= logits[np.arange(len(labels)), labels][:, None]
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(_HALVINGS):  # the loss is convex in 1 / temperature: its slope has one zero
        middle = (low + high) / 2
        if _slope(logits, math.exp(-middle)) > 0:
            low = middle
        else:
            high = middle
    losses: npt.NDArray[np.float64] = np.logaddexp.reduce(logits * math.exp(-low), axis=1)
    return losses


def _slope(logits: npt.NDArray[np.float64], scale: float) -> float:
    """Return how the mean log loss rises with ``scale``, one by the temperature.

    Args:
        logits: (n, C) less that of the image's own class.
        scale: What they are multiplied with.
    """
    scaled = logits * scale
    shares = np.exp(scaled - np.logaddexp.reduce(scaled, axis=1, keepdims=True))
    return float((shares * logits).sum(axis=1).mean())
