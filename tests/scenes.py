"""Drawn pictures with the statistics of photos, and what people do to copies of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageEnhance

T = Image.Transpose


def scene(seed: int, width: int = 200, height: int = 150) -> Image.Image:
    """Blobs of all sizes, the larger the stronger: as in photos, detail falls with frequency."""
    draw = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3))
    for cells in (3, 5, 9, 17, 33):
        grid = draw.normal(0, 1, (cells, cells, 3))
        for channel in range(3):
            layer = Image.fromarray(grid[..., channel].astype(np.float32))
            pixels[..., channel] += (
                np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) * 160 / cells
            )
    return Image.fromarray((pixels + 128).clip(20, 235).astype(np.uint8))


def encoded(image: Image.Image, quality: int = 85) -> bytes:
    """Return the bytes of a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def near_copies(image: Image.Image) -> dict[str, bytes]:
    """Return JPEG files that show the same picture, by what was done to it."""
    width, height = image.size
    part = image.crop((width // 40, height // 50, width - width // 40, height - height // 33))
    return {
        "worse": encoded(image, 40),
        "half": encoded(image.resize((width // 2, height // 2)), 80),
        "double": encoded(image.resize((width * 2, height * 2)), 80),
        "squashed": encoded(image.resize((height, height)), 80),
        "mirrored": encoded(image.transpose(T.FLIP_LEFT_RIGHT)),
        "upside-down": encoded(image.transpose(T.FLIP_TOP_BOTTOM)),
        "turned": encoded(image.transpose(T.ROTATE_90)),
        "darker": encoded(ImageEnhance.Brightness(image).enhance(0.9)),
        "brighter": encoded(ImageEnhance.Brightness(image).enhance(1.08)),
        "cropped": encoded(part, 90),
    }
