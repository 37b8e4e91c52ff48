"""From any pixel mode to 8 bits: one rule a mode, the same everywhere.

==========================  ==============================================================
1, L                        L
RGB                         RGB
P                           RGB, through its palette
anything with transparency  laid over white (L where it is grey)
CMYK, YCbCr, HSV            RGB, by Pillow's conversion
16-bit integers             L, ``v >> 8``
32-bit integers (I)         L; all within 0..65535: ``v >> 8``; larger: ``v >> 23``
float (F)                   L; all within 0..1: times 255, rounded; within 0..255: rounded;
                            within 0..65535: ``v >> 8``
==========================  ==============================================================
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["to_8_bit"]


def to_8_bit(image: Image.Image) -> Image.Image:
    """Return a loaded image in mode ``L`` or ``RGB``; the same object where it already is.

    Raises:
        ValueError: Values outside the ranges above, or a mode without a rule.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        return Image.fromarray((_from_integers if image.mode == "I" else _from_floats)(values))
    if image.has_transparency_data:
        return _over_white(image)
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _over_white(image: Image.Image) -> Image.Image:
    colours = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(colours, mask=colours.getchannel("A"))
    return canvas.convert("L") if image.mode in ("1", "L", "LA") else canvas


def _from_integers(values: npt.NDArray[np.int32]) -> npt.NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise ValueError(f"integer values from {low} to {high}; must not be negative")
    return (values >> (8 if high <= 0xFFFF else 23)).astype(np.uint8)


def _from_floats(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 0xFFFF):  # so that not-a-number fails too
        raise ValueError(f"float values from {low:g} to {high:g}; must be within 0 to 65535")
    if high <= 1:
        return (values * 255).round().astype(np.uint8)
    if high <= 255:
        return values.round().astype(np.uint8)
    return (values.astype(np.uint16) >> 8).astype(np.uint8)
