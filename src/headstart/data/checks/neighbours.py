"""Pairs of pictures that may be copies, found by their descriptors among all pairs there are.

The eight symmetries of the square act on a descriptor by signs and a transposition, so none of
them needs a second decode. All pairs are first compared by numbers that no symmetry changes, a
matrix product a block of rows; the nearest few of each picture are then compared in every
symmetry.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt

from headstart.data.checks.look import FREQUENCIES

__all__ = ["MOST_PICTURES", "candidates", "invariants", "symmetries"]

Floats = npt.NDArray[np.float32]

MOST_PICTURES = 200_000  # above, comparing all pairs would take longer than decoding all files
_NEAREST = 12  # pictures that each is compared with in every symmetry
_CROWD = 6  # the different neighbour whose distance tells how crowded it is around a picture
_BLOCK = 1 << 20  # similarities held at a time, 4 MB, or
_ROWS = 64  # as many pictures' at least: fewer would make the products slow

# Distances between descriptors, which have length 1. Of 240 copies of each kind, re-encoded,
# resized, flipped or turned ones are at most 0.037 away, 5 % crops 0.2 (median) to 0.45.
_TIGHT = 0.045
_WIDE = 0.45
_STANDS_OUT = 0.6  # of the distance to the picture's sixth different neighbour


def candidates(descriptors: npt.NDArray[np.float16]) -> list[tuple[int, int]]:
    """Return the pairs that are worth being compared by their pixels, ascending.

    A pair is one where the two are all but the same, or where they are near and stand out: in a
    data set whose pictures are all alike, the next picture is as near as a crop is.

    Args:
        descriptors: (N, 64), of length 1 or, for pictures of one colour, all zeros; the latter
            are in no pair.
    """
    shown = np.flatnonzero(descriptors.any(axis=1))
    fixed = np.empty((len(shown), FREQUENCIES**2), np.float32)
    for start in range(0, len(shown), _BLOCK // fixed.shape[1]):
        block = slice(start, start + _BLOCK // fixed.shape[1])
        fixed[block] = invariants(_unit(descriptors[shown[block]]))
    found = set()
    for row, others, distances in _neighbours(descriptors, shown, fixed):
        crowd = _crowd(fixed[others], distances)
        reach = _WIDE if crowd > _WIDE else max(_TIGHT, _STANDS_OUT * crowd)
        for other in others[distances <= reach]:
            found.add((int(shown[min(row, other)]), int(shown[max(row, other)])))
    return sorted(found)


def symmetries(descriptors: Floats) -> Floats:
    """Return (8, N, 64): the descriptors of each picture in the eight symmetries of the square.

    Flipping a picture left to right changes the sign of every odd horizontal frequency, flipping
    it up and down of every odd vertical one, and transposing it transposes them. The order is
    that of the flags (transposed, flipped left to right, flipped up and down), where pictures are
    transposed first.
    """
    grids = descriptors.reshape(-1, FREQUENCIES, FREQUENCIES)
    signs = np.array([1, -1] * (FREQUENCIES // 2), np.float32)
    found = []
    for transposed, left_right, up_down in product((False, True), repeat=3):
        turned = grids.transpose(0, 2, 1) if transposed else grids
        turned = turned * signs if left_right else turned
        turned = turned * signs[:, None] if up_down else turned
        found.append(turned.reshape(-1, FREQUENCIES**2))
    return np.stack(found)


def invariants(descriptors: Floats) -> Floats:
    """Return (N, 64) numbers that are the same in all eight symmetries, of the same length.

    They are never further apart than the descriptors are in the best symmetry, so that looking
    for near ones misses none.
    """
    sizes = np.abs(descriptors).reshape(-1, FREQUENCIES, FREQUENCIES)
    upper = np.triu_indices(FREQUENCIES, 1)
    one, other = sizes[:, *upper], sizes.transpose(0, 2, 1)[:, *upper]
    parts = (np.diagonal(sizes, axis1=1, axis2=2), one + other, np.abs(one - other))
    return np.concatenate([parts[0], parts[1] * 0.5**0.5, parts[2] * 0.5**0.5], axis=1)


def _crowd(neighbours: Floats, distances: Floats) -> float:
    """Return the distance of the sixth different neighbour; infinite where there are fewer.

    Neighbours that are copies of each other count once, else an image with ten copies would be in
    a crowd of its own.

    Args:
        neighbours: (K, 64) invariants, the nearest first.
        distances: (K,).
    """
    if len(distances) < _CROWD:
        return np.inf
    copies = neighbours @ neighbours.T > 1 - _TIGHT**2 / 2
    different = ~np.tril(copies, -1).any(axis=1)
    return float(np.append(distances[different], [np.inf] * _CROWD)[_CROWD - 1])


def _neighbours(
    descriptors: npt.NDArray[np.float16], shown: npt.NDArray[np.int64], fixed: Floats
) -> Iterator[tuple[int, npt.NDArray[np.int64], Floats]]:
    """Yield each picture that has any: its position, its nearest ones and their distances."""
    least = 1 - _WIDE**2 / 2  # for vectors of length 1, the distance squared is 2 - 2 similarity
    step = max(_ROWS, _BLOCK // max(len(fixed), 1))
    for start in range(0, len(fixed), step):
        similar = fixed[start : start + step] @ fixed.T
        similar[np.arange(len(similar)), start + np.arange(len(similar))] = -1
        near = similar > least
        for offset in np.flatnonzero(near.any(axis=1)):
            others = np.flatnonzero(near[offset])
            if len(others) > _NEAREST:
                nearest = np.argpartition(-similar[offset, others], _NEAREST)[:_NEAREST]
                others = others[nearest]
            row = int(start + offset)
            turned = symmetries(_unit(descriptors[shown[row]][None]))[:, 0]  # (8, 64)
            squares = 2 - 2 * (turned @ _unit(descriptors[shown[others]]).T).max(axis=0)
            distances = np.sqrt(np.maximum(squares, 0))
            order = np.argsort(distances, kind="stable")
            yield row, others[order], distances[order]


def _unit(descriptors: npt.NDArray[np.float16]) -> Floats:
    """Return descriptors as exactly of length 1 as single precision can."""
    vectors = descriptors.astype(np.float32)
    scaled: Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled
