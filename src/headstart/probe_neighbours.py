"""What an image's nearest neighbours take it for: the simplest probe, with nothing to choose."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["NEIGHBOURS", "vote"]

Floats = npt.NDArray[np.floating[Any]]
Ints = npt.NDArray[np.int64]

NEIGHBOURS = 5
"""So many vote; of classes with a handful of images more would mostly be of others."""


def vote(known: Floats, asked: Floats, labels: Ints, groups: Ints) -> Ints:
    """Return the class that the nearest known images name for each asked one.

    Neighbours are those of the highest cosine around the known features' mean, in which all images
    share a large part; images of the asked one's group have no vote. Of classes with as many votes
    the one whose voters are nearer wins.

    Args:
        known: Features (N, D), finite.
        asked: Features (n, D) of the first n known images, or of views of them.
        labels: (N,) in 0..C-1, of the known.
        groups: (N,) numbers of the known's groups; each image is at least in its own.

    Returns:
        (n,) numbers of classes; 0 where nobody has a vote.
    """
    mean = known.mean(axis=0, dtype=np.float64).astype(np.float32)
    n = len(asked)
    nearness = _unit(asked - mean) @ _unit(known - mean).T  # (n, N)
    nearness[groups[:n, None] == groups[None, :]] = -np.inf
    k = min(NEIGHBOURS, nearness.shape[1])
    nearest = np.argsort(-nearness, axis=1, kind="stable")[:, :k]
    votes = np.zeros((n, int(labels.max()) + 1))
    row = np.arange(n)
    for column in nearest.T:
        near = nearness[row, column]
        some = np.isfinite(near)
        # Nearness is within -1..1: all of it together is less than a vote.
        votes[row[some], labels[column[some]]] += 1 + near[some] / (4 * k)
    winner: Ints = votes.argmax(axis=1)
    return winner


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    scaled: Floats = rows / np.maximum(length, np.finfo(np.float32).tiny)
    return scaled
