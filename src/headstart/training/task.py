"""What labels mean: how they are encoded, which head predicts them and how it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from headstart.errors import DataError, ModelError
from headstart.metrics import Evaluation, evaluate
from headstart.training.heads import HeadSpec

__all__ = ["SingleLabel", "from_dict"]


@dataclass(frozen=True)
class SingleLabel:
    """Each image has exactly one of ``classes``.

    Attributes:
        classes: The names, in the order of the head's outputs.
    """

    classes: tuple[str, ...]
    name: ClassVar[str] = "single-label"

    def encode(self, labels: Sequence[str]) -> npt.NDArray[np.int64]:
        """Turn class names into their positions, an array (N,).

        Raises:
            DataError: A label is not among the classes.
        """
        position = {name: index for index, name in enumerate(self.classes)}
        unknown = sorted(set(labels) - set(self.classes))
        if unknown:
            raise DataError(
                f"These labels are unknown to the classifier: {', '.join(unknown[:10])}.",
                field="label",
                hint=f"It knows: {', '.join(self.classes[:20])}.",
            )
        return np.array([position[label] for label in labels], dtype=np.int64)

    def head(self, feature_dim: int, form: str = "linear", seed: int = 0) -> nn.Module:
        """Make the head: (B, feature_dim) -> logits (B, C).

        Args:
            feature_dim: Length of a feature vector.
            form: As ``HeadSpec.parse`` reads it.
            seed: Decides the weights.
        """
        return HeadSpec.parse(form).build(feature_dim, len(self.classes), seed)

    def probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Turn logits (B, C) into probabilities (B, C), in double precision for exact sums."""
        return logits.double().softmax(dim=1)

    def evaluate(
        self, probabilities: npt.NDArray[np.floating[Any]], labels: npt.NDArray[np.int64]
    ) -> Evaluation:
        """Judge probabilities (N, C) against encoded labels (N,)."""
        return evaluate(probabilities, labels, self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return {"name": self.name, "classes": list(self.classes)}


def from_dict(document: dict[str, Any]) -> SingleLabel:
    """Build a task from its ``to_dict``.

    Raises:
        ModelError: It is of a kind this version does not know.
    """
    if document.get("name") != SingleLabel.name:
        raise ModelError(
            f"This version of headstart has no task {document.get('name')!r}.", field="task"
        )
    return SingleLabel(tuple(document["classes"]))
