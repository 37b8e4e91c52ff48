"""The images that a network finds most alike: each image's nearest others by their features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Neighbours", "nearest"]

_BLOCK_BYTES = 64 << 20  # of similarities held at a time
# Every image is compared with every other. Of many images in many dimensions only the directions
# are taken in which they vary most: a fifth of the work, and the nearest stay the nearest.
_MANY = 10_000
_DIRECTIONS = 256


@dataclass(frozen=True)
class Neighbours:
    """The k images most like each image.

    Attributes:
        index: (N, k) int64, nearest first; an image is not its own neighbour.
        similarity: (N, k) float32, cosine of the features around their mean, -1..1.
    """

    index: npt.NDArray[np.int64]
    similarity: npt.NDArray[np.float32]


def nearest(features: npt.NDArray[np.floating[Any]], k: int) -> Neighbours:
    """Find each image's k nearest others, exactly, in blocks of bounded memory.

    Pooled features share a large common part, the mean, which would make every two images look
    alike; it is taken away before the cosine. Up to 10,000 images are compared in all dimensions,
    more of them in their first 256 principal directions.

    Args:
        features: (N, D), finite, of one image or more.
        k: How many; N - 1 where there are fewer.
    """
    n = len(features)
    k = min(k, n - 1)
    unit = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    if n > _MANY and unit.shape[1] > _DIRECTIONS:
        unit = unit @ _directions(unit)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    index = np.empty((n, k), dtype=np.int64)
    similarity = np.empty((n, k), dtype=np.float32)
    rows = max(1, _BLOCK_BYTES // (4 * n))
    for start in range(0, n if k else 0, rows):
        block = unit[start : start + rows] @ unit.T  # (rows, N)
        own = np.arange(len(block))
        block[own, start + own] = -np.inf
        some = np.argpartition(-block, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(block, some, axis=1)
        order = np.lexsort((some, -values))  # equals by position, so that the result is one
        index[start : start + rows] = np.take_along_axis(some, order, axis=1)
        similarity[start : start + rows] = np.take_along_axis(values, order, axis=1)
    return Neighbours(index, np.clip(similarity, -1, 1))


def _directions(centred: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the principal directions (D, 256) of features (N, D) around their mean."""
    some = centred[np.linspace(0, len(centred) - 1, _MANY).astype(np.int64)]
    _, vectors = np.linalg.eigh(some.T @ some)  # ascending
    directions: npt.NDArray[np.float32] = vectors[:, -_DIRECTIONS:].astype(np.float32)
    return directions
