from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart.data.read import DEEP, decode, read_header
from headstart.errors import BadImage
from mutations import tiff

RED, WHITE, GREY = (255, 0, 0), (255, 255, 255), (128, 128, 128)


def palette_image(colours: list[tuple[int, int, int]]) -> Image.Image:
    image = Image.fromarray(np.arange(len(colours), dtype=np.uint8)[None])
    image.putpalette([value for colour in colours for value in colour])
    assert image.mode == "P"
    return image


def one(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (1, 1), value)


@pytest.mark.parametrize(
    ("image", "mode", "pixel"),
    [
        (one("1", 1), "L", 255),
        (one("L", 77), "L", 77),
        (one("RGB", RED), "RGB", RED),
        (palette_image([RED]), "RGB", RED),
        (one("LA", (77, 255)), "L", 77),
        (one("LA", (77, 0)), "L", 255),
        (one("LA", (0, 127)), "L", 128),
        (one("RGBA", (*RED, 255)), "RGB", RED),
        (one("RGBA", (*RED, 0)), "RGB", WHITE),
        (one("RGBA", (0, 0, 0, 127)), "RGB", GREY),
        (one("PA", 0), "RGB", WHITE),
        (one("CMYK", (0, 255, 255, 0)), "RGB", RED),
        (one("CMYK", (0, 0, 0, 255)), "RGB", (0, 0, 0)),
        (one("YCbCr", (76, 85, 255)), "RGB", (254, 0, 0)),
        (one("HSV", (0, 255, 255)), "RGB", RED),
        (one("I;16", 0xABCD), "L", 0xAB),
        (one("I;16B", 0xABCD), "L", 0xAB),
        (one("I;16L", 0xABCD), "L", 0xAB),
        (one("I", 0xABCD), "L", 0xAB),
        (one("I", 0x7FFFFFFF), "L", 255),
        (one("I", 0x10000), "L", 0),
        (one("I", 255), "L", 255),
        (one("I", 256), "L", 1),
        (one("F", 1.0), "L", 255),
        (one("F", 0.5), "L", 128),
        (one("F", 254.6), "L", 255),
        (one("F", 43981.0), "L", 0xAB),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_each_mode_has_one_rule(image: Image.Image, mode: str, pixel: object) -> None:
    shown = decode(image)
    assert (shown.mode, shown.getpixel((0, 0))) == (mode, pixel)


def test_files_follow_the_same_rules(tmp_path: Path) -> None:
    cases = {
        "one.png": (one("1", 0), 0),
        "grey.png": (one("L", 77), 77),
        "colour.png": (one("RGB", RED), RED),
        "palette.png": (palette_image([RED, WHITE]), RED),
        "grey-alpha.png": (one("LA", (77, 0)), 255),
        "alpha.png": (one("RGBA", (*RED, 0)), WHITE),
        "alpha.webp": (one("RGBA", (*RED, 0)), WHITE),
        "deep.png": (one("I;16", 0xABCD), 0xAB),
        "deep.tif": (one("I;16", 0xABCD), 0xAB),
        "deep-big-endian.tif": (one("I;16B", 0xABCD), 0xAB),
        "wide.tif": (one("I", 0x7FFFFFFF), 255),
        "float.tif": (one("F", 0.5), 128),
        "print.tif": (one("CMYK", (0, 255, 255, 0)), RED),
        "print.jpg": (one("CMYK", (0, 0, 0, 0)), WHITE),
    }
    for name, (image, pixel) in cases.items():
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        assert decode(tmp_path / name).getpixel((0, 0)) == pixel, name
        deep = name.split(".")[0] in ("deep", "deep-big-endian", "wide", "float")
        assert (DEEP in read_header(tmp_path / name).notes) == deep, name


def test_transparency_by_a_colour_or_a_table_is_white_too(tmp_path: Path) -> None:
    image = palette_image([RED, GREY, (0, 0, 255)])
    image.save(tmp_path / "one.png", transparency=0)
    image.save(tmp_path / "table.png", transparency=bytes([255, 0, 255]))
    image.save(tmp_path / "x.gif", transparency=2)
    image.convert("RGB").save(tmp_path / "colour.png", transparency=GREY)
    shown = {
        name: [decode(tmp_path / name).getpixel((x, 0)) for x in range(3)]
        for name in ("one.png", "table.png", "x.gif", "colour.png")
    }
    assert shown["one.png"] == [WHITE, GREY, (0, 0, 255)]
    assert shown["table.png"] == shown["colour.png"] == [RED, WHITE, (0, 0, 255)]
    assert shown["x.gif"] == [RED, GREY, WHITE]


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "wide", "F", "unit", "16-bit F"])
def test_256_levels_stay_256(tmp_path: Path, mode: str) -> None:
    ramp = np.arange(256)
    image = {
        "I;16": lambda: Image.fromarray((ramp * 257).astype("<u2")[None]),
        "I;16B": lambda: Image.fromarray((ramp * 257).astype(">u2")[None]),
        "I": lambda: Image.fromarray((ramp * 257).astype(np.int32)[None]),
        "wide": lambda: Image.fromarray((ramp << 23).astype(np.int32)[None]),
        "F": lambda: Image.fromarray(ramp.astype(np.float32)[None]),
        "unit": lambda: Image.fromarray((ramp / 255).astype(np.float32)[None]),
        "16-bit F": lambda: Image.fromarray((ramp * 257).astype(np.float32)[None]),
    }[mode]()
    image.save(tmp_path / "x.tif")
    for source in (image, tmp_path / "x.tif"):
        assert np.array_equal(np.asarray(decode(source)), ramp[None])


SIGNED, UNSIGNED = 2, 1


def grey_tiff(values: np.ndarray, *, order: str = "<") -> bytes:
    """A TIFF of integers, whose tags say how many bits they have and whether one is the sign."""
    height, width = values.shape
    kind = SIGNED if values.dtype.kind == "i" else UNSIGNED
    fields = {256: (3, width), 257: (3, height), 258: (3, 8 * values.itemsize), 259: (3, 1)}
    fields |= {262: (3, 1), 273: (4, None), 277: (3, 1), 278: (3, height), 339: (3, kind)}
    pixels = values.astype(values.dtype.newbyteorder(order)).tobytes()
    return tiff(fields | {279: (4, len(pixels))}, pixels, order=order)


@pytest.mark.parametrize(
    ("kind", "order", "scale"),
    [
        ("uint16", "<", 257),
        ("uint16", ">", 257),
        ("int16", "<", 128),  # the largest value is 32,767
        ("int16", ">", 128),
        ("int32", "<", 1),  # 8-bit values in a container that nobody fills
        ("int32", "<", 257),
        ("int32", "<", 1 << 23),
        ("int32", ">", 1 << 23),
        ("uint32", "<", 1),
        ("uint32", "<", 257),
        ("uint32", "<", 1 << 24),
    ],
)
def test_256_levels_of_any_tiff_of_integers_stay_256(
    tmp_path: Path, kind: str, order: str, scale: int
) -> None:
    ramp = np.arange(256)
    path = tmp_path / "x.tif"
    path.write_bytes(grey_tiff((ramp * scale).astype(kind)[None], order=order))
    assert read_header(path).notes == (DEEP,)
    assert np.array_equal(np.asarray(decode(path)), ramp[None])


def test_a_tiff_of_a_kind_that_pillow_does_not_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(grey_tiff(np.array([[1, 2]], "uint32"), order=">"))
    with pytest.raises(BadImage, match="or of a kind that is not read"):
        read_header(path)


@pytest.mark.parametrize(("kind", "dark"), [("uint16", 0), ("int16", 1)])
def test_where_the_bits_are_known_a_dark_image_stays_dark(tmp_path, kind: str, dark: int) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(grey_tiff(np.full((3, 3), 200, kind)))
    assert np.asarray(decode(path)).max() == dark


@pytest.mark.parametrize("most", [255, 1023, 4095, 65535])
def test_a_pgm_says_itself_what_white_is(tmp_path: Path, most: int) -> None:
    path = tmp_path / "x.pgm"
    width = 2 if most > 255 else 1
    values = np.array([0, most // 2, most], f">u{width}")
    path.write_bytes(b"P5 3 1 %d\n" % most + values.tobytes())
    assert np.asarray(decode(path)).tolist() == [[0, 127, 255]]
    dark = np.array([0, 0, most // 256], f">u{width}")
    path.write_bytes(b"P5 3 1 %d\n" % most + dark.tobytes())
    assert np.asarray(decode(path)).max() <= 1  # and is not taken for 8-bit values


def test_negative_integers_of_a_tiff_are_refused_by_the_files_name(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    path.write_bytes(grey_tiff(np.array([[-1000, 3000]], "int16")))
    with pytest.raises(BadImage) as caught:
        decode(path)
    assert caught.value.reason == "integer values from -1000 to 3000; must not be negative"
    assert caught.value.source == str(path)


def test_16_bit_colour_keeps_its_high_bytes(tmp_path: Path, png) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(1, 1, depth=16, colour=2, rows=b"\0\xab\xcd\x12\x34\xff\xff"))
    assert read_header(path).notes == (DEEP,)
    assert decode(path).getpixel((0, 0)) == (0xAB, 0x12, 0xFF)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (one("I", -5), "integer values from -5 to -5; must not be negative"),
        (one("F", -0.5), "float values from -0.5 to -0.5; must be within 0 to 65535"),
        (one("F", 1e6), "float values from 1e+06 to 1e+06; must be within 0 to 65535"),
        (one("F", float("nan")), "float values from nan to nan; must be within 0 to 65535"),
        (one("F", float("inf")), "float values from inf to inf; must be within 0 to 65535"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_values_without_a_rule_are_refused_with_their_range(
    image: Image.Image, reason: str
) -> None:
    with pytest.raises(BadImage) as caught:
        decode(image)
    assert caught.value.reason == reason
