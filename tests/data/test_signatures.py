from __future__ import annotations

import pytest
from PIL import Image

from headstart.data.signatures import SNIFF, describe, image_format


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_image_files_are_known_by_their_first_bytes(encoded, kind: str, mode: str) -> None:
    assert image_format(encoded(Image.new(mode, (5, 4)), kind)[:SNIFF]) == kind


@pytest.mark.parametrize(
    "head", [b"", b"BM", b"BMW list: X5, X3, Z4", b"P1: first point", b"RIFF....WAVEfmt ", b"GIF"]
)
def test_other_files_are_not(head: bytes) -> None:
    assert image_format(head[:SNIFF]) is None


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "empty file"),
        (bytes(4096), "only zero bytes"),
        (b"\n <HTML lang='en'>", "an HTML page"),
        (b"\xef\xbb\xbf<!doctype html>", "an HTML page"),
        (b"<svg viewBox='0 0 1 1'>", "SVG, a drawing"),
        (b"<?xml version='1.0'?><!-- made by x --><svg>", "SVG, a drawing"),
        (b"<?xml version='1.0'?><note>", "an XML document"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer; run git lfs pull"),
        (b"%PDF-1.7", "a PDF"),
        (b"PK\x03\x04....", "a ZIP archive"),
        (b"\0\0\0\x18ftypheic....", "HEIC, which is not read; convert it"),
        (b"\0\0\0\x18ftypavif....", "AVIF, which is not read; convert it"),
        (b"\0\0\0\x18ftypisom....", "a video"),
        (b"a,b\n1,2\n", "text"),
        (b"\x89PNG\r\n\x1a\n", "a PNG with a broken header"),
        (b"II*\0\xff\xff\xff\xff", "a TIFF with a broken header, or of a kind that is not read"),
        (b"\x01\x02\x03\xff", "not an image"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_image_is_named(head: bytes, said: str) -> None:
    assert describe(head) == said
