"""Geometry of pictures: one affine map, resampled once; what lies outside is the reflection."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["Matrix", "rotation", "warped", "window"]

Pixels = npt.NDArray[np.uint8]
Pair = tuple[float, float]
Matrix = npt.NDArray[np.float64] | tuple[Pair, Pair]


def rotation(degrees: float) -> npt.NDArray[np.float64]:
    """Return the matrix (2, 2) of a rotation."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def warped(pixels: Pixels, linear: Matrix = ((1, 0), (0, 1)), shift: Pair = (0.0, 0.0)) -> Pixels:
    """Resample pixels (H, W, 3) bilinearly, once, by an affine map about the centre.

    The output's point p shows the input's ``centre + shift * (W, H) + linear @ (p - centre)``;
    beyond the border the picture is reflected.

    Args:
        pixels: The picture.
        linear: Matrix (2, 2) on (x, y) in pixels.
        shift: (x, y) as shares of width and height.
    """
    height, width = pixels.shape[:2]
    size = np.array([width, height], np.float64)
    matrix = np.asarray(linear, np.float64)
    origin = size / 2 + size * shift - matrix @ size / 2  # what the output's corner (0, 0) shows
    corners = origin + np.array([[0, 0], [0, 1], [1, 0], [1, 1]]) * size @ matrix.T
    # Pillow leaves black what it looks up outside; one pixel more covers the rounding.
    left, top = (math.floor(value) - 1 for value in corners.min(0))
    right, bottom = (math.ceil(value) + 1 for value in corners.max(0))
    seen = window(pixels, range(top, bottom), range(left, right))
    coefficients = (*matrix[0], origin[0] - left, *matrix[1], origin[1] - top)
    image = Image.fromarray(seen).transform(
        (width, height), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    return np.array(image)


def window(pixels: Pixels, rows: range, columns: range) -> Pixels:
    """Return a copy of pixels (H, W, 3) at rows and columns, reflected beyond the border."""
    height, width = pixels.shape[:2]
    return pixels[_reflected(rows, height)].take(_reflected(columns, width), axis=1)


def _reflected(places: range, side: int) -> npt.NDArray[np.intp]:
    period = max(1, 2 * side - 2)  # the border pixel itself is not repeated
    place = np.arange(places.start, places.stop) % period
    return np.minimum(place, period - place)
