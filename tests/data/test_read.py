from __future__ import annotations

import io
import itertools
import os
import struct
import subprocess
import sys
import threading
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from headstart.data import read
from headstart.data.read import decode, read_header, source_digest, source_name
from headstart.errors import BadImage, UsageError

HTML = b"<!DOCTYPE html><html><body>404</body></html>"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def file(folder: Path, content: bytes, name: str = "x.jpg") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def image_or_reason(attempt: Callable[[Path], object], path: Path) -> object:
    try:
        return attempt(path)
    except BadImage as error:
        return error.reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty file"),
        (HTML, "an HTML page"),
        (bytes(500), "only zero bytes"),
        (SVG, "SVG, a drawing"),
        (b"no image at all", "text"),
    ],
)
def test_what_is_no_image_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = file(tmp_path, content)
    for attempt in (read_header, decode):
        with pytest.raises(BadImage) as caught:
            attempt(path)
        assert caught.value.reason == reason
        assert caught.value.source == str(path)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    cases = {"missing.jpg": "no such file", "gone.jpg": "no such file", "pipe.jpg": "not a file"}
    for name, reason in {**cases, ".": "not a file"}.items():
        for attempt in (read_header, decode, source_digest):
            with pytest.raises(BadImage, match=reason):
                attempt(tmp_path / name)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError("image file is truncated (3 bytes not processed)"), "cut short"),
        (EOFError("no more images in GIF file"), "damaged: no more images in GIF file"),
        (SyntaxError("broken\nPNG file"), "damaged: broken PNG file"),
        (struct.error("unpack requires a buffer"), "damaged: unpack requires a buffer"),
        (PermissionError(13, "Permission denied"), "permission denied"),
        (MemoryError(), "needs more memory than there is"),
        (TypeError("x" * 500), "damaged: " + "x" * 71),
    ],
    ids=repr,
)
def test_whatever_pillow_raises_has_a_short_reason(
    tmp_path: Path, noise, encoded, monkeypatch, error: Exception, reason: str
) -> None:
    def fail(self: object) -> None:
        raise error

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", fail)
    with pytest.raises(BadImage) as caught:
        decode(file(tmp_path, encoded(noise(0)), "x.png"))
    assert caught.value.reason == reason
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("share", [0, 0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9])
def test_a_file_that_is_cut_short_is_a_bad_image(
    tmp_path: Path, noise, encoded, kind: str, share: float
) -> None:
    content = encoded(noise(0, 90, 70), kind)
    path = file(tmp_path, content[: int(len(content) * share)])
    with pytest.raises(BadImage):
        decode(path)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {}),
        ("PPM", {}),
    ],
)
def test_a_cut_file_never_gives_wrong_pixels(
    tmp_path: Path, noise, encoded, kind: str, options: dict[str, object]
) -> None:
    content = encoded(noise(0, 40, 30), kind, **options)
    whole = np.asarray(decode(file(tmp_path, content)))
    for end in range(0, len(content), max(1, len(content) // 60)):
        part = image_or_reason(decode, file(tmp_path, content[:end]))
        if isinstance(part, str):
            assert 0 < len(part) <= 80
        else:
            assert np.array_equal(np.asarray(part), whole)


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damaged_bytes_give_an_image_or_a_bad_image(tmp_path_factory, kind, edits) -> None:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((20, 16)).convert("RGB").save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for place, value in edits:
        content[int(place * len(content))] = value
    path = file(tmp_path_factory.getbasetemp(), content, "damaged.jpg")
    for attempt in (read_header, decode):
        assert image_or_reason(attempt, path)


def test_the_content_counts_and_not_the_name(tmp_path: Path, noise, encoded) -> None:
    image = noise(0)
    path = file(tmp_path, encoded(image, "PNG"), "x.JPG")
    header = read_header(path)
    assert (header.format, header.width, header.height) == ("PNG", *image.size)
    assert header.notes == ("PNG named .JPG",)
    assert np.array_equal(np.asarray(decode(path)), np.asarray(image))
    assert read_header(file(tmp_path, encoded(image, "PNG"), "x.png")).notes == ()
    assert read_header(file(tmp_path, encoded(image, "JPEG"), "x.jfif")).notes == ()
    assert read_header(file(tmp_path, encoded(image, "PNG"), "x")).notes == ()


@pytest.mark.parametrize(("width", "height"), [(10_000, 10_000), (20_000, 10_000)])
def test_a_bomb_is_refused_by_its_header(tmp_path: Path, png, width: int, height: int) -> None:
    path = file(tmp_path, png(width, height), "bomb.png")
    assert path.stat().st_size < 30_000
    limit = Image.MAX_IMAGE_PIXELS
    for attempt in (read_header, decode):
        tracemalloc.start()
        with pytest.raises(BadImage, match="pixels"):
            attempt(path)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
        tracemalloc.stop()
    assert limit == Image.MAX_IMAGE_PIXELS


def test_no_pixel_of_a_bomb_is_decoded(tmp_path: Path, png, monkeypatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadImage):
        decode(file(tmp_path, png(10_000, 10_000), "bomb.png"))


def test_the_largest_image_that_is_borne_has_a_header(tmp_path: Path, png) -> None:
    assert read_header(file(tmp_path, png(read.MAX_PIXELS, 1), "wide.png")).height == 1


def test_warnings_stay_inside_and_the_filters_as_they_were(tmp_path: Path, noise, encoded) -> None:
    exif = Image.Exif()
    exif[0x010E] = "a description that is longer than what will be left of it"
    content = encoded(noise(0), "JPEG", exif=exif.tobytes()[:40])
    before = list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with Image.open(file(tmp_path, content)) as image:
            image.getexif()
        assert caught, "the file must be one that Pillow warns about"
        caught.clear()
        assert decode(file(tmp_path, content)).size == (12, 8)
        assert not caught
    assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(
    tmp_path: Path, encoded, kind: str, orientation: int
) -> None:
    upright = Image.fromarray(
        np.kron(np.arange(0, 240, 40).reshape(3, 2), np.ones((16, 16))).astype("uint8")
    )
    turn = TURNS[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(kind, {})
    path = file(tmp_path, encoded(stored.convert("RGB"), kind, exif=exif, **options))
    shown = decode(path)
    assert shown.size == upright.size
    apart = np.abs(np.asarray(shown.convert("L"), int) - np.asarray(upright, int))
    assert apart.max() <= 2
    with Image.open(path) as opened:
        assert np.array_equal(np.asarray(decode(opened)), np.asarray(shown))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
def test_a_broken_second_frame_does_not_spoil_the_first(
    tmp_path: Path, noise, encoded, kind: str
) -> None:
    frames = [noise(number) for number in range(4)]
    whole = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    for end in range(len(whole) // 3, len(whole), 37):
        path = file(tmp_path, whole[:end] + bytes(50), "x")
        header, image = (image_or_reason(attempt, path) for attempt in (read_header, decode))
        assert isinstance(image, str) or not isinstance(header, str), end


def test_an_orientation_that_makes_no_sense_is_ignored(tmp_path: Path, noise, encoded) -> None:
    for block in (b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"):
        path = file(tmp_path, encoded(noise(0), "JPEG", exif=block))
        assert decode(path).size == (12, 8)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_many_frames_only_the_first_is_decoded(
    tmp_path: Path, encoded, monkeypatch, kind: str
) -> None:
    frames = [Image.new("RGB", (9, 7), (n % 256, n // 256, 0)) for n in range(300)]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    path = file(tmp_path, content, "x")
    assert read_header(path).notes == (read.FRAMES,)
    with Image.open(path) as opened:
        plugin = type(opened)
    sought = []
    seek = plugin.seek
    monkeypatch.setattr(plugin, "seek", lambda self, n: sought.append(n) or seek(self, n))
    assert decode(path).getpixel((0, 0)) == (0, 0, 0)
    assert set(sought) <= {0}
    one = file(tmp_path, encoded(frames[0], kind), "y")
    assert read_header(one).notes == ()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 1), np.uint8),
        np.zeros((4, 5, 3), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((5, 4, 3), np.uint8).transpose(1, 0, 2)[:, ::-1],
    ],
    ids=lambda array: str(array.shape),
)
def test_arrays_are_images(array: np.ndarray) -> None:
    image = decode(array)
    assert image.size == (5, 4)
    assert image.mode == ("RGB" if array.ndim == 3 and array.shape[2] > 1 else "L")
    if array.shape[2:] == (4,):
        assert image.getpixel((0, 0)) == (255, 255, 255)  # alpha 0, over white


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 5), np.float32),
        np.zeros((4, 5, 2), np.uint8),
        np.zeros((3, 4, 5), np.uint8),
        np.zeros((2, 4, 5, 3), np.uint8),
        np.zeros(4, np.uint8),
    ],
    ids=lambda array: f"{array.dtype} {array.shape}",
)
def test_other_arrays_are_refused_with_what_must_hold(array: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"must be uint8 with shape \(H, W\).*not"):
        decode(array)


def test_an_image_without_pixels_is_a_bad_image() -> None:
    for source in (np.zeros((0, 5), np.uint8), Image.new("RGB", (0, 3))):
        with pytest.raises(BadImage, match="0 pixels"):
            decode(source)


def test_a_reduced_decode_keeps_enough_pixels(tmp_path: Path, noise, encoded) -> None:
    path = file(tmp_path, encoded(noise(0, 800, 480), "JPEG"))
    assert decode(path).size == (800, 480)
    assert decode(path, at_least=100).size == (200, 120)
    assert decode(path, at_least=121).size == (400, 240)
    assert decode(path, at_least=1000).size == (800, 480)
    png = file(tmp_path, encoded(noise(0, 800, 480), "PNG"), "x.png")
    assert decode(png, at_least=100).size == (800, 480)


def test_large_images_are_decoded_one_at_a_time(tmp_path, noise, monkeypatch) -> None:
    noise(0, 9, 9).save(tmp_path / "small.png")
    noise(0, 20, 20).save(tmp_path / "large.png")
    inside = []

    def enter(image: Image.Image) -> Image.Image:
        inside.append(image.width)
        return image

    monkeypatch.setattr(read, "_LARGE", 100)
    monkeypatch.setattr(read, "to_8_bit", enter)
    with read._one_large:  # another thread is decoding a large one
        decode(tmp_path / "small.png")
        waiting = threading.Thread(target=decode, args=(tmp_path / "large.png",))
        waiting.start()
        waiting.join(0.05)
        assert inside == [9]
    waiting.join(10)
    assert inside == [9, 20]
    decode(tmp_path / "large.png")  # and left the place to the next


def test_a_users_image_is_left_as_it_was(noise) -> None:
    image = noise(0, mode="RGBA")
    image.getexif()[0x0112] = 6
    before = image.tobytes()
    assert decode(image).size == (8, 12)
    assert (image.size, image.mode, image.tobytes()) == ((12, 8), "RGBA", before)


def test_digests_follow_what_is_seen(tmp_path: Path, noise) -> None:
    image, array = noise(0), np.asarray(noise(0))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.png")
    assert source_digest(tmp_path / "a.png") == source_digest(str(tmp_path / "b.png"))
    assert source_digest(image) == source_digest(array)
    turned = image.copy()
    turned.getexif()[0x0112] = 3
    palette = image.quantize(4)
    other = palette.copy()
    other.putpalette(palette.getpalette()[::-1])
    grey, flat = np.zeros((4, 6), np.uint8), np.zeros((6, 4), np.uint8)
    sources = [image, noise(1), turned, palette, other, grey, flat]
    for one, two in itertools.combinations(map(source_digest, sources), 2):
        assert one != two


def test_what_is_decoded_is_the_file_that_was_checked(tmp_path: Path, noise, encoded) -> None:
    path = file(tmp_path, encoded(noise(0)), "x.png")
    digest = source_digest(path)
    assert np.array_equal(np.asarray(decode(path, expected=digest)), np.asarray(noise(0)))
    file(tmp_path, encoded(noise(1)), "x.png")
    with pytest.raises(BadImage, match="replaced by another file") as caught:
        decode(path, expected=digest)
    assert not caught.value.lasting
    path.unlink()
    with pytest.raises(BadImage, match="no such file") as caught:
        decode(path, expected=digest)
    assert not caught.value.lasting


def test_names_of_sources() -> None:
    assert source_name("a/b.jpg") == "a/b.jpg"
    assert source_name(Path("a/b.jpg")) == "a/b.jpg"
    assert source_name(Image.new("L", (3, 2))) == "<image 3 x 2>"
    assert source_name(np.zeros((2, 3, 3), np.uint8)) == "<array 2 x 3 x 3>"


@pytest.mark.parametrize(
    "name", ["a b.jpg", "-x.jpg", "\N{CAT}.jpg", "line\nbreak.jpg", os.fsdecode(b"\xff\xfe.jpg")]
)
def test_any_file_name_can_be_read(tmp_path: Path, noise, encoded, name: str) -> None:
    path = file(tmp_path, encoded(noise(0), "JPEG"), name)
    assert decode(path).size == (12, 8)
    assert read_header(path).notes == ()
    with pytest.raises(BadImage) as caught:
        decode(file(tmp_path, b"", name))
    assert caught.value.source == str(path)


def test_no_network_library_is_loaded() -> None:
    code = (
        "import sys, headstart.data.loader, headstart.data.checks.check, headstart.data.sources;"
        "print({'torch', 'timm', 'sklearn', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
