"""The eight symmetries of the square: what may be done to a picture that keeps its meaning.

Each is a view of the pixels: a mirror image or not, and a number of quarter turns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from headstart.errors import UnknownName, UsageError

__all__ = ["SYMMETRIES", "Pixels", "check_square", "symmetries", "symmetry", "turned"]

Pixels = npt.NDArray[np.uint8]

SYMMETRIES: tuple[str, ...] = ("none", "flip", "square")
_NUMBERS = {"none": (0,), "flip": (0, 1), "square": tuple(range(8))}


def symmetries(name: str) -> tuple[int, ...]:
    """Return the numbers of the symmetries that ``none``, ``flip`` or ``square`` allows.

    Raises:
        UnknownName: There is no such set of symmetries.
    """
    if name not in _NUMBERS:
        raise UnknownName("symmetry", name, _NUMBERS, field="symmetry")
    return _NUMBERS[name]


def symmetry(pixels: Pixels, number: int) -> Pixels:
    """Return pixels (..., H, W, 3) under one of the eight symmetries of the square.

    Args:
        pixels: One picture or many.
        number: 0 is the identity and 1 the horizontal mirror image; beyond, ``number // 2``
            quarter turns counter-clockwise, of the mirror image where ``number`` is odd.

    Returns:
        A contiguous array of the same shape, the caller's own.

    Raises:
        UsageError: There is no such number, or it is beyond 1 and H is not W.
    """
    if number not in range(8):
        raise UsageError(
            f"A symmetry's number must be in 0..7, not {number}.",
            field="symmetry",
            hint="0 is the picture itself, 1 its mirror image; symmetries(name) lists the allowed.",
        )
    if number > 1:
        check_square(pixels)
    return turned(pixels, number).copy()


def turned(pixels: Pixels, number: int) -> Pixels:
    """Return ``symmetry``'s pixels as a view, which costs nothing until it is read."""
    mirrored = pixels[..., ::-1, :] if number % 2 else pixels
    return np.rot90(mirrored, number // 2, axes=(-3, -2))


def check_square(pixels: Pixels) -> None:
    """Refuse pixels (..., H, W, 3) that not all eight symmetries keep in shape.

    Raises:
        UsageError: H is not W.
    """
    height, width = pixels.shape[-3:-1]
    if height != width:
        raise UsageError(
            f"The symmetries of the square need a square input, not {height} x {width}.",
            field="symmetry",
            hint="Use the symmetry flip, or an input size with equal sides.",
        )
