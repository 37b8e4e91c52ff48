"""A head solved on the features of a run's images, and what it says of val."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from headstart.images import Images, Labels
from headstart.plan import Plan
from headstart.strategy.phase import Solve
from headstart.training.features import Features
from headstart.training.heads import last_linear
from headstart.training.solve import Solved, solve

__all__ = ["put_in", "solution", "val_accuracy"]

Part = tuple[npt.NDArray[np.floating[Any]], Labels]


def solution(plan: Plan, images: Images, features: Features, fit: Solve) -> Solved:
    """Solve the head of a plan.

    Args:
        plan: What to do.
        images: Which of them are train's and val's, and their labels and weights.
        features: Theirs.
        fit: The penalties to try.
    """
    weights = images.weights
    return solve(
        _part(images, features, "train"),
        _part(images, features, "val"),
        fit,
        balanced=plan.options.class_weights == "balanced",
        refit=plan.refits,
        weights=None
        if weights is None
        else (weights[images.parts["train"]], weights[images.parts["val"]]),
    )


def val_accuracy(images: Images, features: Features, solved: Solved) -> dict[str, float] | None:
    """Return the accuracy on val of the head that has not seen it; None without val images."""
    rows, labels = _part(images, features, "val")
    if not len(labels):
        return None
    said = (rows @ solved.val_weight.T + solved.val_bias).argmax(axis=1)
    return {"accuracy": round(float((said == labels).mean()), 6)}


def put_in(head: nn.Module, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> None:
    """Let a head's last layer have this weight (C, D) and bias (C,)."""
    with torch.no_grad():
        layer = last_linear(head)
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))


def _part(images: Images, features: Features, part: str) -> Part:
    row_of = {int(position): row for row, position in enumerate(features.positions)}
    positions = images.parts[part]
    rows = features.rows.take([row_of[int(position)] for position in positions])
    return rows, images.labels[positions]
