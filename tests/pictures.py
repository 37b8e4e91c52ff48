"""Images for tests: small, drawn, the same on every machine."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def picture(label: int, number: int, side: int = 48) -> Image.Image:
    """Stripes whose direction and colour tell the label, on a noisy ground."""
    draw = np.random.default_rng([label, number])
    y, x = np.mgrid[:side, :side]
    along = (x if label % 2 else y) + (x * (label // 2))
    wave = 90 * np.sin(along / (3 + label) + draw.uniform(0, 6)) + 120
    colour = np.array([[1.0, 0.6, 0.4], [0.4, 0.9, 0.7], [0.6, 0.5, 1.0]])[label % 3]
    pixels = wave[..., None] * colour + draw.normal(0, 25, (side, side, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write_photos(
    root: Path,
    *,
    classes: Sequence[str] = ("cat", "dog"),
    each: int = 20,
    side: int = 48,
    first: int = 0,
) -> Path:
    """Write class folders of JPEG pictures, other ones for other numbers, and return ``root``."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + each):
            picture(label, number, side).save(root / name / f"{number}.jpg", quality=92)
    return root


def write_noise(root: Path) -> Path:
    """Write images of two classes that nothing tells apart."""
    for number in range(40):
        file = root / ("heads", "tails")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return root
