"""Damaged image files without end: every format, spoilt in many ways, the same for a number.

The sound files are drawn small (24 to 48 pixels a side), so that thousands are read in seconds.
What Pillow does not write is written by hand: interlaced and 16-bit colour PNG, tiled TIFF,
run-length coded BMP.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

__all__ = ["KINDS", "Mutant", "mutant", "originals", "png_chunk", "tiff", "with_size"]

Chance = np.random.Generator
INTERESTING = (0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
SIDES = (0, 1, 2, 8191, 16383, 30_000, 65_535, 0x7FFFFFFF)  # as far as a format's field holds them
HEADER = 160  # bytes in which a header's numbers are looked for


@dataclass(frozen=True)
class Mutant:
    """A damaged file.

    Attributes:
        name: Number, original and what was done to it, as a file name.
        kind: What was done to it, one of ``KINDS``.
        content: Its bytes.
    """

    name: str
    kind: str
    content: bytes


def mutant(number: int) -> Mutant:
    """Return the damaged file of this number: another original each time, a random way."""
    files = originals()
    original = list(files)[number % len(files)]
    chance = np.random.default_rng([20_000, number])
    kind = list(KINDS)[int(chance.integers(len(KINDS)))]
    content = KINDS[kind](files[original], chance)
    stem, suffix = original.rsplit(".", 1)
    return Mutant(f"{number:05}-{stem}-{kind}.{suffix}", kind, content)


@cache
def originals() -> dict[str, bytes]:
    """Return one sound file of every sort, by name."""
    colour, grey = _picture("RGB"), _picture("L")
    frames = [colour.rotate(90 * turn) for turn in range(4)]
    half = colour.copy()
    half.putalpha(grey)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "baseline.jpg": _saved(colour, "JPEG", exif=exif),
        "progressive.jpg": _saved(colour, "JPEG", progressive=True),
        "restarts.jpg": _saved(grey, "JPEG", restart_marker_blocks=1),
        "cmyk.jpg": _saved(colour.convert("CMYK"), "JPEG"),
        "views.jpg": _saved(frames[0], "MPO", save_all=True, append_images=[colour.rotate(90)]),
        "colour.png": _saved(colour, "PNG"),
        "alpha.png": _saved(half, "PNG", exif=exif),
        "deep.png": _saved(deep, "PNG"),
        "deep-colour.png": _png_by_hand(colour, interlaced=False),
        "interlaced.png": _png_by_hand(colour, interlaced=True),
        "palette.png": _saved(colour.quantize(16), "PNG", transparency=3),
        "one-bit.png": _saved(grey.convert("1"), "PNG"),
        "moving.png": _saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "lossy.webp": _saved(colour, "WEBP", exif=exif),
        "lossless.webp": _saved(half, "WEBP", lossless=True),
        "moving.webp": _saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "colour.bmp": _saved(colour, "BMP"),
        "palette.bmp": _saved(colour.quantize(16), "BMP"),
        "run-length.bmp": _run_length_bmp(grey),
        "plain.tif": _saved(colour, "TIFF"),
        "lzw.tif": _saved(colour, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _saved(colour, "TIFF", compression="tiff_adobe_deflate"),
        "packbits.tif": _saved(grey, "TIFF", compression="packbits"),
        "jpeg.tif": _saved(colour, "TIFF", compression="jpeg"),
        "fax.tif": _saved(grey.convert("1"), "TIFF", compression="group4"),
        "deep.tif": _saved(deep, "TIFF", exif=exif),
        "float.tif": _saved(grey.convert("F"), "TIFF"),
        "tiled.tif": _tiled_tiff(grey),
        "pages.tif": _saved(
            frames[0], "TIFF", save_all=True, append_images=frames[1:], compression="tiff_lzw"
        ),
        "still.gif": _saved(colour, "GIF"),
        "moving.gif": _saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "colour.ppm": _saved(colour, "PPM"),
        "grey.pgm": _saved(deep, "PPM"),
        "plain.pgm": b"P2\n24 2\n255\n" + b" ".join(b"%d" % (5 * n) for n in range(48)) + b"\n",
        "bits.pbm": _saved(grey.convert("1"), "PPM"),
    }


# What is done to a file


def _flipped(content: bytes, chance: Chance) -> bytes:
    """Flip a few bits, mostly anywhere, sometimes in the header only."""
    made = bytearray(content)
    within = len(made) if chance.random() < 0.6 else min(HEADER, len(made))
    for place in chance.integers(within, size=int(chance.integers(1, 17))):
        made[place] ^= 1 << int(chance.integers(8))
    return bytes(made)


def _repaired(content: bytes, chance: Chance) -> bytes:
    """Flip bits and make a PNG's checksums right again, so that the damage is looked at."""
    return _with_checksums(_flipped(content, chance))


def _truncated(content: bytes, chance: Chance) -> bytes:
    return content[: int(chance.integers(len(content)))]


def _spliced(content: bytes, chance: Chance) -> bytes:
    """Go on in the middle with what another file has there."""
    others = list(originals().values())
    other = others[int(chance.integers(len(others)))]
    return content[: int(chance.integers(len(content)))] + other[int(chance.integers(len(other))) :]


def _doubled(content: bytes, chance: Chance) -> bytes:
    """Write a piece of the file twice or up to 40 times."""
    start, end = sorted(int(place) for place in chance.integers(len(content), size=2))
    return content[:end] + content[start:end] * int(chance.integers(1, 40)) + content[end:]


def _cut_out(content: bytes, chance: Chance) -> bytes:
    start, end = sorted(int(place) for place in chance.integers(len(content), size=2))
    return content[:start] + content[end:]


def _noisy(content: bytes, chance: Chance) -> bytes:
    """Put noise or zeros in place of a run of bytes."""
    start = int(chance.integers(len(content)))
    size = min(int(chance.integers(1, 200)), len(content) - start)
    run = bytes(size) if chance.random() < 0.3 else chance.bytes(size)
    return content[:start] + run + content[start + size :]


def _renumbered(content: bytes, chance: Chance) -> bytes:
    """Overwrite numbers of the header, of either byte order, with ones that break things."""
    made = bytearray(content)
    for _ in range(int(chance.integers(1, 4))):
        code, size = (("B", 1), ("H", 2), ("I", 4))[int(chance.integers(3))]
        place = int(chance.integers(max(1, min(HEADER, len(made)) - size)))
        value = INTERESTING[int(chance.integers(len(INTERESTING)))] & (256**size - 1)
        made[place : place + size] = struct.pack("<>"[int(chance.integers(2))] + code, value)
    return _with_checksums(bytes(made)) if chance.random() < 0.5 else bytes(made)


def _resized(content: bytes, chance: Chance) -> bytes:
    """Claim another size, often a huge one."""
    width, height = (SIDES[int(chance.integers(len(SIDES)))] for _ in range(2))
    return with_size(content, width, height)


KINDS: dict[str, Callable[[bytes, Chance], bytes]] = {
    "flipped": _flipped,
    "repaired": _repaired,
    "truncated": _truncated,
    "spliced": _spliced,
    "doubled": _doubled,
    "cut-out": _cut_out,
    "noisy": _noisy,
    "renumbered": _renumbered,
    "resized": _resized,
}


def with_size(content: bytes, width: int, height: int) -> bytes:
    """Return the file with another size in its header, as far as its fields hold the numbers."""
    sides = {"H": (width & 0xFFFF, height & 0xFFFF), "I": (width, height)}
    if content.startswith(b"\x89PNG"):
        return _with_checksums(_put(content, 16, ">II", *sides["I"]))
    if content.startswith(b"BM"):
        return _put(content, 18, "<II", *sides["I"])
    if content.startswith(b"GIF"):
        start = content.index(b"\x2c")  # the first frame has a size of its own
        return _put(_put(content, 6, "<HH", *sides["H"]), start + 5, "<HH", *sides["H"])
    if content.startswith((b"II", b"MM")):
        return _with_tiff_size(content, width, height)
    if content.startswith(b"RIFF"):
        return _with_webp_size(content, width, height)
    if content.startswith(b"P"):
        return re.sub(rb"^(P\d)\s+\d+\s+\d+", rb"\1 %d %d" % (width, height), content)
    frame = re.search(rb"\xff[\xc0-\xc2]..\x08", content, re.DOTALL)
    if frame is None:
        return content
    return _put(content, frame.end(), ">HH", sides["H"][1], sides["H"][0])


def _with_tiff_size(content: bytes, width: int, height: int) -> bytes:
    order = "<" if content.startswith(b"II") else ">"
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from(order + "H", content, place)
        if tag in (256, 257, 278):  # width, height, rows a strip; all as one 32-bit number
            value = width if tag == 256 else height
            content = _put(content, place + 2, order + "HII", 4, 1, value)
    return content


def _with_webp_size(content: bytes, width: int, height: int) -> bytes:
    if content[12:16] == b"VP8X":  # less one, 24 bits each
        sides = ((side - 1) & 0xFFFFFF for side in (width, height))
        return content[:24] + b"".join(side.to_bytes(3, "little") for side in sides) + content[30:]
    if content[12:16] == b"VP8L":  # less one, 14 bits each
        (rest,) = struct.unpack_from("<I", content, 21)
        packed = ((width - 1) & 0x3FFF) | ((height - 1) & 0x3FFF) << 14 | rest & 0xF0000000
        return _put(content, 21, "<I", packed)
    return _put(content, 26, "<HH", width & 0x3FFF, height & 0x3FFF)


def _put(content: bytes, place: int, code: str, *values: int) -> bytes:
    return content[:place] + struct.pack(code, *values) + content[place + struct.calcsize(code) :]


def _with_checksums(content: bytes) -> bytes:
    """Make the checksums of a PNG right, as far as its chunks can be followed."""
    if not content.startswith(b"\x89PNG"):
        return content
    made = [content[:8]]
    place = 8
    while place + 12 <= len(content):
        (size,) = struct.unpack_from(">I", content, place)
        if place + 12 + size > len(content):
            break
        made.append(png_chunk(content[place + 4 : place + 8], content[place + 8 :][:size]))
        place += 12 + size
    return b"".join(made) + content[place:]


# The sound files


def _picture(mode: str) -> Image.Image:
    """A gradient with some noise: what compresses a little."""
    y, x = np.mgrid[:32, :40]
    waves = np.stack([5 * x + y, 3 * y + 60, 127 + 90 * np.sin(x * y / 40)], axis=-1)
    pixels = waves + np.random.default_rng(1).normal(0, 6, waves.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, kind, **options)  # saving leaves settings on the image
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG: its length, name, content and checksum."""
    check = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


def _png_by_hand(image: Image.Image, *, interlaced: bool) -> bytes:
    """A PNG with 16 bits a channel, or one whose pixels come in Adam7's seven passes."""
    pixels = np.asarray(image)
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = b"".join(
        b"\0" + (row if interlaced else row.astype(">u2") * 257).tobytes()
        for x, y, right, down in passes
        for row in pixels[y::down, x::right]
    )
    depth = 8 if interlaced else 16
    header = struct.pack(">IIBBBBB", *image.size, depth, 2, 0, 0, int(interlaced))
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in parts)


_ADAM7 = (
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)


def tiff(fields: dict[int, tuple[int, int | None]], pixels: bytes, *, order: str = "<") -> bytes:
    """Return a TIFF by hand: a folder of (type, value) by tag, then the pixels.

    A value that is None stands for the place of the pixels.
    """
    count = len(fields)
    start = 8 + 2 + 12 * count + 4
    made = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, count)
    for tag, (kind, value) in sorted(fields.items()):
        value = start if value is None else value
        field = (
            struct.pack(order + "HH", value, 0) if kind == 3 else struct.pack(order + "I", value)
        )
        made += struct.pack(order + "HHI", tag, kind, 1) + field
    return made + bytes(4) + pixels


def _tiled_tiff(image: Image.Image) -> bytes:
    """An uncompressed TIFF of one tile that is larger than the image, as tiles may be."""
    tile = np.zeros((48, 48), np.uint8)
    tile[: image.height, : image.width] = np.asarray(image)
    fields = {
        256: (3, image.width),
        257: (3, image.height),
        258: (3, 8),
        259: (3, 1),
        262: (3, 1),
        277: (3, 1),
        322: (3, 48),
        323: (3, 48),
        324: (4, None),
        325: (4, tile.size),
    }
    return tiff(fields, tile.tobytes())


def _run_length_bmp(image: Image.Image) -> bytes:
    """A BMP of 256 greys whose rows are coded as runs."""
    rows = b"".join(
        b"".join(bytes((2, int(value))) for value in row[::2]) + b"\0\0"
        for row in np.asarray(image)[::-1]
    )
    palette = b"".join(bytes((grey, grey, grey, 0)) for grey in range(256))
    pixels = rows + b"\0\1"
    start = 14 + 40 + len(palette)
    header = struct.pack("<2sIHHI", b"BM", start + len(pixels), 0, 0, start)
    about = struct.pack("<IiiHHIIiiII", 40, *image.size, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    return header + about + palette + pixels
