from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Content = Image.Image | bytes | str | None
Tree = Callable[..., Path]


@pytest.fixture
def noise() -> Callable[..., Image.Image]:
    """Make an image that no other seed has."""

    def make(seed: int, width: int = 12, height: int = 8, mode: str = "RGB") -> Image.Image:
        shape = (height, width) if mode == "L" else (height, width, len(mode))
        values = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
        return Image.fromarray(values, mode)

    return make


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """Write an image to bytes."""

    def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Write a PNG by hand: huge and almost empty, or of a depth that Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    def make(
        width: int, height: int, depth: int = 1, colour: int = 0, rows: bytes | None = None
    ) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
        pixels = zlib.compress(rows or bytes((width + 7) // 8 + 1) * height, 9)
        parts = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

    return make


@pytest.fixture
def tree(tmp_path: Path, noise: Callable[..., Image.Image]) -> Tree:
    """Write files below a new folder; an int is an image of its own, a str a link's target."""

    def write(files: Mapping[str, Content | int], name: str = "photos") -> Path:
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for path, content in files.items():
            file = root / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.mkdir()
            elif isinstance(content, str):
                file.symlink_to(content)
            elif isinstance(content, bytes):
                file.write_bytes(content)
            elif isinstance(content, int):
                noise(content).save(file)
            else:
                content.save(file)
        return root

    return write
