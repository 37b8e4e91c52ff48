"""From any pixel mode to 8 bits: one rule a mode, the same everywhere.

==========================  ==============================================================
1, L                        L
RGB                         RGB
P                           RGB, through its palette
anything with transparency  laid over white (L where it is grey)
CMYK, YCbCr, HSV            RGB, by Pillow's conversion
16-bit integers             L, ``v >> 8``; signed ones (TIFF) ``v >> 7``
32-bit integers (I)         L; all within 0..255: as they are; all within 0..65535: ``v >> 8``;
                            larger: the top 8 bits, ``v >> 23``, of unsigned ones ``v >> 24``
float (F)                   L; all within 0..1: times 255, rounded; within 0..255: rounded;
                            within 0..65535: ``v >> 8``
==========================  ==============================================================

Where the file says how many bits its values have, only that counts. Numbers of 32 bits and floats
are containers that nobody fills, and the files don't say how far: there the image's largest value
tells which of the usual ranges is meant.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image, TiffImagePlugin

from headstart.errors import BadImage

__all__ = ["to_8_bit"]

_UNSIGNED = 1  # TIFF's sample format; 2 is signed


def to_8_bit(image: Image.Image) -> Image.Image:
    """Return a loaded image in mode ``L`` or ``RGB``; the same object where it already is.

    Raises:
        BadImage: Values outside the ranges above.
    """
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "I":
        return _from_integers(image)
    if image.mode == "F":
        return _from_floats(image)
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


def _from_integers(image: Image.Image) -> Image.Image:
    values: npt.NDArray[np.int32 | np.uint32] = np.asarray(image)
    bits, signed = _bits(image)
    if not signed:
        values = values.view(np.uint32)
    low, high = int(values.min()), int(values.max())
    if low < 0:
        _refuse(image, f"integer values from {low} to {high}; must not be negative")
    if bits == 16:
        shift = 7 if signed else 8
    elif high <= 0xFFFF:
        shift = 0 if high <= 0xFF else 8
    else:
        shift = 23 if signed else 24
    return Image.fromarray((values >> shift).astype(np.uint8))


def _bits(image: Image.Image) -> tuple[int, bool]:
    """Return how many bits the file's values have, and whether one is the sign."""
    if image.format == "PPM":  # Pillow brings the range that the header tells to 16 bits
        return 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        tags = image.tag_v2
        kinds = tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,))
        return tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0], kinds[0] != _UNSIGNED
    return 32, True


def _from_floats(image: Image.Image) -> Image.Image:
    values: npt.NDArray[np.float32] = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 0xFFFF):  # so that not-a-number fails too
        _refuse(image, f"float values from {low:g} to {high:g}; must be within 0 to 65535")
    if high <= 1:
        return Image.fromarray((values * 255).round().astype(np.uint8))
    if high <= 0xFF:
        return Image.fromarray(values.round().astype(np.uint8))
    return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))


def _refuse(image: Image.Image, reason: str) -> NoReturn:
    raise BadImage(f"<image {image.width} x {image.height}>", reason)
