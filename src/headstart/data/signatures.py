"""What a file is, told from its first bytes and never from its name."""

from __future__ import annotations

import re

__all__ = ["HEAD", "SNIFF", "describe", "image_format"]

SNIFF = 16  # bytes that image_format looks at
HEAD = 4096  # bytes that describe looks at

_IMAGES = tuple(
    (re.compile(pattern, re.DOTALL), name)
    for pattern, name in (
        (rb"\xff\xd8\xff", "JPEG"),
        (rb"\x89PNG\r\n\x1a\n", "PNG"),
        (rb"GIF8[79]a", "GIF"),
        (rb"RIFF.{4}WEBP", "WEBP"),
        (rb"II[*+]\0|MM\0[*+]", "TIFF"),
        # Two letters are too few to tell a bitmap from a text: the reserved field is zero, and
        # the second header has one of seven lengths.
        (rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0", "BMP"),
        (rb"P[1-6fF]\s", "PPM"),
    )
)
_OTHERS = tuple(
    (re.compile(pattern, re.DOTALL | re.IGNORECASE), name)
    for pattern, name in (
        (rb"\0+\Z", "only zero bytes"),
        (rb"\s*<(!doctype html|html|head|body)", "an HTML page"),
        (rb"\s*<.*<svg\b|\s*<svg\b", "SVG, a drawing"),
        (rb"\s*<\?xml", "an XML document"),
        (rb"version https://git-lfs", "a Git LFS pointer; run git lfs pull"),
        (rb"%PDF", "a PDF"),
        (rb"PK\x03\x04", "a ZIP archive"),
        (rb".{4}ftypavi[fs]", "AVIF, which is not read; convert it"),
        (rb".{4}ftyp(he[iv]|mif1|msf1)", "HEIC, which is not read; convert it"),
        (rb".{4}ftyp", "a video"),
        (rb"\0\0\0\x0cjP  ", "JPEG 2000, which is not read; convert it"),
        (rb"[\t\n\r -~]+\Z", "text"),
    )
)


def image_format(head: bytes) -> str | None:
    """Return the image format, as Pillow names it, that the first 16 bytes announce."""
    return next((name for pattern, name in _IMAGES if pattern.match(head)), None)


def describe(head: bytes) -> str:
    """Say what a file is that is not an image to us, from up to 4,096 of its first bytes."""
    if not head:
        return "empty file"
    if name := image_format(head):
        unread = ", or of a kind that is not read" if name == "TIFF" else ""  # it has hundreds
        return f"a {name} with a broken header{unread}"
    head = head.removeprefix(b"\xef\xbb\xbf")
    return next((name for pattern, name in _OTHERS if pattern.match(head)), "not an image")
