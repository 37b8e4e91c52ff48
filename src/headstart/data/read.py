"""One image, from a file or from memory, as upright 8-bit pixels.

Every image goes through :func:`decode`, in training, prediction and the report alike. Of several
frames the first is taken, the EXIF orientation is applied, and each mode has one rule
(:mod:`headstart.data.modes`). A broken file is a :class:`~headstart.errors.BadImage` with a reason
for people (:mod:`headstart.data.pillow`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

# Imported by name so that opening a file never makes Pillow load its forty other plugins.
from PIL import (  # noqa: F401
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    UnidentifiedImageError,
    WebPImagePlugin,
)

from headstart.data.modes import to_8_bit
from headstart.data.pillow import MAX_PIXELS, reading
from headstart.data.signatures import HEAD, describe
from headstart.errors import BadImage, UsageError
from headstart.files import digest, file_digest

__all__ = [
    "DEEP",
    "FRAMES",
    "MAX_PIXELS",
    "REPLACED",
    "SUFFIXES",
    "Failure",
    "Header",
    "Source",
    "decode",
    "opened",
    "read_header",
    "source_digest",
    "source_name",
    "upright",
]

Source = str | Path | Image.Image | npt.NDArray[Any]

SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG"),
    **dict.fromkeys((".bmp", ".dib"), "BMP"),
    **dict.fromkeys((".tif", ".tiff"), "TIFF"),
    **dict.fromkeys((".ppm", ".pgm", ".pnm", ".pbm"), "PPM"),
    **dict.fromkeys((".png", ".apng"), "PNG"),
    ".webp": "WEBP",
    ".gif": "GIF",
}
DEEP = "more than 8 bits a channel, scaled to 8"
FRAMES = "several frames, the first is used"
REPLACED = "replaced by another file after the check"

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
# A few bytes may claim many pixels: an animated WebP of the largest size takes 24 bytes for each
# while it is decoded. Threads decode one such image at a time, so that memory stays bounded.
_LARGE = 1 << 25  # pixels
_one_large = Lock()
_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says about its image before any pixel is decoded.

    Attributes:
        format: By content, whatever the name says: JPEG, PNG, WEBP, BMP, TIFF, GIF or PPM.
        width: In pixels, as stored.
        height: In pixels, as stored.
        mode: Pillow's mode of the stored pixels.
        notes: What is worth telling: ``PNG named .jpg``, :data:`DEEP`, :data:`FRAMES`.
    """

    format: str
    width: int
    height: int
    mode: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that could not be read.

    Attributes:
        name: The item's name or the source's.
        reason: Short enough for a list of files.
        index: Its position in the sequence that was being read.
        lasting: Whether its bytes are at fault, so that reading them again is in vain.
    """

    name: str
    reason: str
    index: int
    lasting: bool = True


def read_header(path: Path) -> Header:
    """Read an image file's header.

    Raises:
        BadImage: Not an image, damaged, or more than :data:`MAX_PIXELS` pixels.
    """
    with opened(path) as (header, _):
        return header


def decode(
    source: Source, *, at_least: int | None = None, expected: str | None = None
) -> Image.Image:
    """Decode an image to upright 8-bit pixels of mode ``L`` or ``RGB``, fully loaded.

    Args:
        source: A file's path, a PIL image, or a uint8 array of shape (H, W), (H, W, 1),
            (H, W, 3) or (H, W, 4), the last with alpha.
        at_least: A JPEG file may be decoded at 1/2, 1/4 or 1/8 of its size, in a fraction of
            the time, while both sides keep at least this many pixels.
        expected: The SHA-256 that a file's bytes must have; for images in memory it is ignored.

    Raises:
        BadImage: Not an image, damaged, cut short, too large, without a rule for its values, or
            another file than expected.
        UsageError: An array of another shape or type.
    """
    if isinstance(source, np.ndarray):
        source = _from_array(source)
    with reading(source_name(source)), _opened(source, expected) as image:
        if at_least is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft(None, (at_least, at_least))
        return upright(image)


def source_digest(source: Source) -> str:
    """Return the SHA-256 of a file's bytes, or of the decoded pixels of an image in memory.

    Raises:
        BadImage: The source can't be read.
    """
    if isinstance(source, (Image.Image, np.ndarray)):
        pixels = np.asarray(decode(source))
        return digest(str(pixels.shape), pixels.tobytes())
    with reading(str(source)):
        return file_digest(_regular(source))


def source_name(source: Source) -> str:
    """Return a name for lists and messages: the path, or the size of an image in memory."""
    if isinstance(source, np.ndarray):
        return f"<array {' x '.join(map(str, source.shape))}>"
    if isinstance(source, Image.Image):
        return f"<image {source.width} x {source.height}>"
    return str(source)


@contextmanager
def _opened(source: str | Path | Image.Image, expected: str | None = None) -> Iterator[Image.Image]:
    if isinstance(source, Image.Image):
        _require_bearable_size(source, source_name(source))
        yield source
        return
    with _regular(source).open("rb") as file:
        if expected is not None and hashlib.file_digest(file, "sha256").hexdigest() != expected:
            raise BadImage(str(source), REPLACED, lasting=False)
        file.seek(0)
        try:
            image = Image.open(file, formats=_FORMATS)
        except UnidentifiedImageError as error:
            file.seek(0)
            raise BadImage(str(source), describe(file.read(HEAD))) from error
        _require_bearable_size(image, str(source))
        yield image


def _regular(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():  # opening a pipe or a device would wait, or never end
        reason = "not a file" if path.exists() else "no such file"
        raise BadImage(str(path), reason, lasting=False)
    return path


def _require_bearable_size(image: Image.Image, name: str) -> None:
    pixels = image.width * image.height
    if not 0 < pixels <= MAX_PIXELS:
        raise BadImage(name, f"{pixels:,} pixels; must be 1 to {MAX_PIXELS:,}")


def _notes(image: Image.Image, kind: str, path: Path) -> Iterator[str]:
    if SUFFIXES.get(path.suffix.lower(), kind) != kind:
        yield f"{kind} named {path.suffix}"
    tiles = getattr(image, "tile", ())
    if image.mode[0] in "IF" or ";16" in str(tiles[:1]):
        yield DEEP
    # A JPEG's further frames (MPO) are previews and depth maps, not worth a note.
    if kind != "JPEG" and _has_frames(image):
        yield FRAMES


def _has_frames(image: Image.Image) -> bool:
    with suppress(Exception):  # a broken second frame does not spoil the first
        return bool(getattr(image, "is_animated", False))
    return True


def _from_array(array: npt.NDArray[Any]) -> Image.Image:
    shape = array.shape[:2] if array.ndim == 3 and array.shape[2] == 1 else array.shape
    drawable = len(shape) == 2 or (len(shape) == 3 and shape[2] in (3, 4))
    if array.dtype != np.uint8 or not drawable:
        raise UsageError(
            "An image array must be uint8 with shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), "
            f"not {array.dtype} with shape {array.shape}.",
            field="source",
            hint="Floats within 0..1 become uint8 by (pixels * 255).round().astype('uint8').",
        )
    return Image.fromarray(array.reshape(shape))


def _orientation(image: Image.Image) -> int:
    with suppress(Exception):  # an unreadable EXIF block does not spoil the pixels
        return int(image.getexif().get(_ORIENTATION, 1))
    return 1


@contextmanager
def opened(path: Path) -> Iterator[tuple[Header, Image.Image]]:
    """Open an image file: its header, and the image before any pixel is decoded.

    Raises:
        BadImage: As :func:`read_header`; what the block does with the image, such as
            :func:`upright`, ends in BadImage too where it fails.
    """
    with reading(str(path)), _opened(path) as image:
        kind = "JPEG" if image.format == "MPO" else str(image.format)
        header = Header(kind, *image.size, image.mode, tuple(_notes(image, kind, Path(path))))
        yield header, image


def upright(image: Image.Image) -> Image.Image:
    """Decode an opened image to upright 8-bit pixels of mode ``L`` or ``RGB``."""
    is_large = image.width * image.height > _LARGE
    with _one_large if is_large else nullcontext():
        image.load()
        turn = _UPRIGHT.get(_orientation(image))
        pixels = to_8_bit(image)
        return pixels if turn is None else pixels.transpose(turn)
