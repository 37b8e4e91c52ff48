"""Pixels made without files, for tests of what is done to them."""

from __future__ import annotations

import numpy as np


def picture(height: int = 32, width: int = 32) -> np.ndarray:
    """Return a smooth picture that no symmetry and no exchange of channels keeps."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    return np.stack([40 + 170 * x, 30 + 90 * y, 60 + 50 * x * y], -1).astype(np.uint8)


def noisy(height: int = 32, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(*colour: int, side: int = 24) -> np.ndarray:
    return np.full((side, side, 3), colour, np.uint8)
