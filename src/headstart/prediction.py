"""What a classifier says of an image, and of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.data.read import Failure

__all__ = ["Prediction", "Predictions"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the classifier says of one image.

    Attributes:
        path: The file, or a description of an image in memory.
        label: The most probable class.
        probability: Its probability.
        probabilities: The probability of every class, in the order of the classes.
    """

    path: str
    label: str
    probability: float
    probabilities: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Return the object of the commands' JSON."""
        return {
            "path": self.path,
            "label": self.label,
            "probability": self.probability,
            "probabilities": self.probabilities,
        }


class Predictions(list[Prediction]):
    """Predictions in the order of the images, and the images that could not be read."""

    def __init__(self, items: Sequence[Prediction], failed: Sequence[Failure] = ()) -> None:
        super().__init__(items)
        self.failed = tuple(failed)
