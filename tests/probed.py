"""Scores and samples for the tests of what probes measure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from headstart.probe_score import ProbeScore

INK, PAPER = 30, 225


def scored(
    right: Sequence[bool],
    loss: Sequence[float] | None = None,
    *,
    images: Sequence[int] | None = None,
    groups: Sequence[int] | None = None,
    knn: Sequence[bool] | None = None,
) -> ProbeScore:
    """Make a score of these images; by default each is a group of its own."""
    n = len(right)
    own = np.arange(n)
    return ProbeScore(
        images=own if images is None else np.array(images),
        groups=own if groups is None else np.array(groups),
        right=np.array(right, dtype=np.bool_),
        loss=np.where(right, 0.2, 1.5) if loss is None else np.array(loss, dtype=np.float64),
        knn_right=np.array(right if knn is None else knn, dtype=np.bool_),
        penalty=10.0,
    )


def blobs(
    n: int, classes: int = 3, *, apart: float = 1.0, dims: int = 8, seed: int = 0
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Draw features (n, dims) of classes that lie ``apart``, and their labels in turn."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = apart * draw.normal(0, 1, (classes, dims))
    return (centres[labels] + draw.normal(0, 1, (n, dims))).astype(np.float32), labels


def glyph(name: str, number: int, side: int = 64) -> Image.Image:
    """Draw a sign: ``six``, ``left``, ``up``, ``bars``, ``ring``, ``disc``, ``cross``, some turned.

    A ``nine`` is a six that is turned by half, as ``down`` is up, and ``right`` the mirror image of
    left; ring, disc and cross are the same from all sides. Place, size and shade vary with the
    number.
    """
    draw = np.random.default_rng([number, len(name), ord(name[0])])
    image = Image.new("L", (side, side), PAPER + int(draw.integers(-15, 15)))
    reach = side * draw.uniform(0.25, 0.32)
    x, y = side / 2 + draw.uniform(-0.08, 0.08, 2) * side
    pen, width = ImageDraw.Draw(image), max(3, side // 12)
    ink: dict[str, Any] = {"fill": INK + int(draw.integers(-20, 20))}

    def box(cx: float, cy: float, radius: float) -> tuple[float, float, float, float]:
        return cx - radius, cy - radius, cx + radius, cy + radius

    match name:
        case "six" | "nine":
            low, small = y + 0.4 * reach, 0.6 * reach
            pen.ellipse(box(x, low, small), outline=ink["fill"], width=width)
            pen.line((x - small + 1, low, x - small + 1, y - reach), **ink, width=width)
        case "left" | "right":
            pen.polygon(
                [(x - reach, y), (x + 0.2 * reach, y - reach), (x + 0.2 * reach, y + reach)], **ink
            )
            pen.line((x, y, x + reach, y), **ink, width=2 * width)
        case "ring":
            pen.ellipse(box(x, y, reach), outline=ink["fill"], width=width)
        case "disc":
            pen.ellipse(box(x, y, reach), **ink)
        case "cross":
            pen.line((x - reach, y, x + reach, y), **ink, width=width)
            pen.line((x, y - reach, x, y + reach), **ink, width=width)
        case "bars":
            for shift in (-0.6, 0, 0.6):
                level = y + shift * reach
                pen.line((x - reach, level, x + reach, level), **ink, width=width)
        case "up" | "down":
            pen.line((x, y - reach, x, y + reach), **ink, width=width)
            pen.ellipse(box(x, y - 0.6 * reach, 0.45 * reach), **ink)
    if name in ("nine", "down"):
        image = image.transpose(Image.Transpose.ROTATE_180)
    if name == "right":
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image


def write_glyphs(root: Path, names: Sequence[str], each: int, side: int = 64) -> Path:
    """Write class folders of drawn signs, and return ``root``."""
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(each):
            glyph(name, number, side).save(root / name / f"{number}.png")
    return root
