"""One full look at every image: decoded once, by threads, and remembered by what its pixels say.

What a file holds is then known for good: that it can be decoded to the last pixel, a digest of its
upright 8-bit pixels (so that two encodings of the same pixels are known to be one image), how
bright it is, and a descriptor of 64 numbers that survives re-encoding and resizing. A second look
at the same files decodes nothing.
"""

from __future__ import annotations

import binascii
import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from headstart.data.checks.facts import Facts, Row, columns, learn, row_of, usable
from headstart.data.items import Item
from headstart.data.read import Failure, opened, upright
from headstart.memory import FileMemory

__all__ = ["FREQUENCIES", "Looks", "describe_picture", "look"]

FREQUENCIES = 8  # of the cosine transform that a descriptor keeps, in each direction
_SIDE = 32  # of the grey picture that is transformed
_VERSION = 1  # of what the pixels say; to be raised when other things are noted
_DIGEST = 16  # bytes; SHA-256 shortened, against chance and not against an attacker

_LEVELS = np.arange(256, dtype=np.float64)
# The cosine transform's first rows, (8, 32). Flipping a picture changes the sign of every
# coefficient of an odd frequency, transposing it transposes them.
_COSINES = np.cos(
    np.pi / _SIDE * (np.arange(_SIDE)[None] + 0.5) * np.arange(FREQUENCIES)[:, None]
).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """What a full look found: columns with one row a readable image.

    Attributes:
        items: The items whose files can be decoded to the last pixel.
        facts: What their headers say.
        notes: What is worth telling of each file.
        digests: SHA-256 of their bytes, in hexadecimal digits.
        pixels: (N, 16) uint8, a digest of the upright 8-bit pixels: equal where the pictures are,
            whatever the file formats. Grey pictures are the same as RGB ones with equal channels.
        brightness: (N,) float32, mean of the grey picture, within 0..255.
        contrast: (N,) float32, standard deviation of the grey picture, within 0..127.5.
        descriptors: (N, 64) float16, see :func:`describe_picture`.
        failed: The items that can't be read; ``index`` is the position in what was looked at.
    """

    items: tuple[Item, ...]
    facts: Facts
    notes: tuple[tuple[str, ...], ...]
    digests: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]
    brightness: npt.NDArray[np.float32]
    contrast: npt.NDArray[np.float32]
    descriptors: npt.NDArray[np.float16]
    failed: tuple[Failure, ...]


def look(
    items: Sequence[Item],
    memory: FileMemory,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Looks:
    """Decode every image once, in threads, and keep what is worth knowing of it.

    Args:
        items: The images.
        memory: Files it knows from an earlier look are not opened.
        progress: Called with the number of files done and of all files.
    """
    seen, failed, digests = [], [], []
    notes: list[tuple[str, ...]] = []
    common: dict[tuple[str, ...], tuple[str, ...]] = {}  # the same few notes, held once
    pixels, descriptors, light = bytearray(), bytearray(), array("f")

    def readable() -> Iterator[Row]:
        rows = learn([item.path for item in items], memory, _read, _is_full, progress)
        for index, (item, row) in enumerate(zip(items, rows, strict=True)):
            if isinstance(row, str):
                failed.append(Failure(item.name, row, index))
                continue
            seen.append(item)
            digests.append(row["digest"])
            told = tuple(row["notes"])
            notes.append(common.setdefault(told, told))
            what = row["look"]
            pixels.extend(binascii.a2b_base64(what["pixels"]))
            descriptors.extend(binascii.a2b_base64(what["descriptor"]))
            light.extend((what["brightness"], what["contrast"]))
            yield row

    facts = columns(readable())
    brightness, contrast = np.array(light, np.float32).reshape(-1, 2).T
    return Looks(
        *(tuple(seen), facts, tuple(notes), tuple(digests)),
        np.frombuffer(bytes(pixels), np.uint8).reshape(-1, _DIGEST),
        *(brightness, contrast),
        np.frombuffer(bytes(descriptors), "<f2").reshape(-1, FREQUENCIES**2),
        tuple(failed),
    )


def describe_picture(grey: Image.Image) -> npt.NDArray[np.float16]:
    """Describe a picture by 64 numbers that survive re-encoding, resizing and exposure.

    They are the lowest 8 x 8 coefficients of the two-dimensional cosine transform (DCT-II) of the
    picture squashed to 32 x 32, as the perceptual hash "pHash" takes them (Zauner 2010), but kept
    as numbers instead of bits. The first, the mean, is set to zero, and the rest have length 1; a
    picture of one colour is all zeros.

    Args:
        grey: A picture of mode ``L``.

    Returns:
        (64,) float16, row by row; rows are vertical frequencies.
    """
    small = np.asarray(grey.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR), np.float32)
    coefficients = _COSINES @ small @ _COSINES.T
    coefficients[0, 0] = 0
    # Rounding alone leaves some ten: so little is no picture, and would only describe noise.
    length = max(float(np.linalg.norm(coefficients)), 1e-9)
    scaled = coefficients / length if length > _SIDE else np.zeros_like(coefficients)
    descriptor: npt.NDArray[np.float16] = scaled.astype("<f2").ravel()
    return descriptor


def _read(path: Path) -> Row:
    with opened(path) as (header, image):
        row = row_of(path, header, image)
        row["look"] = _look_at(upright(image))
        return row


def _is_full(row: Row) -> bool:
    return usable(row) and row.get("look", {}).get("version") == _VERSION


def _look_at(picture: Image.Image) -> dict[str, Any]:
    grey = picture.convert("L")
    counts = np.array(grey.histogram(), np.float64)
    n_pixels = counts.sum()
    mean = float(counts @ _LEVELS / n_pixels)
    variance = float(counts @ (_LEVELS - mean) ** 2 / n_pixels)
    return {
        "version": _VERSION,
        "pixels": _text(_pixel_digest(picture)),
        "brightness": round(mean, 3),
        "contrast": round(variance**0.5, 3),
        "descriptor": _text(describe_picture(grey).tobytes()),
    }


def _pixel_digest(picture: Image.Image) -> bytes:
    """Digest the pixels, three channels a pixel, and the size they are arranged in."""
    state = hashlib.sha256(f"{picture.width}x{picture.height}".encode())
    colours = picture if picture.mode == "RGB" else picture.convert("RGB")
    state.update(colours.tobytes())
    return state.digest()[:_DIGEST]


def _text(content: bytes) -> str:
    return binascii.b2a_base64(content, newline=False).decode("ascii")
