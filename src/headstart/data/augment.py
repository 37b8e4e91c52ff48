"""Augmented views of an image: a recipe, the symmetries it may use, and one source of chance.

Every recipe maps uint8 RGB pixels (H, W, 3) to pixels of the same shape. Geometry is one affine
map, resampled once, and what lies outside the picture is its reflection, never black. The work
is Pillow's and numpy's, in C and without Python's lock, so threads share a machine's cores; no
torch, no state.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, ImageEnhance, ImageOps, ImageStat

from headstart.data.geometry import rotation, warped, window
from headstart.data.symmetry import Pixels, check_square, symmetries, turned
from headstart.errors import UnknownName
from headstart.files import digest

__all__ = ["AUGMENTATIONS", "Augment", "augmented", "generator"]

Pair = tuple[float, float]
Triple = tuple[float, float, float]

AUGMENTATIONS: tuple[str, ...] = ("none", "light", "standard", "strong", "shear-zoom")

# To be raised with every change to what a recipe does with the same generator.
_VERSION = 1
_LUMA = (0.299, 0.587, 0.114)

# TrivialAugment's operations: the weakest and strongest strength, and whether a sign is drawn too.
# Mueller and Hutter 2021, arXiv:2103.10158, in the wide ranges of torchvision's
# TrivialAugmentWide; translations are shares of the side, 32 pixels of 224.
STRENGTHS: dict[str, tuple[float, float, bool]] = {
    "identity": (0, 0, False),
    "shear-x": (0, 0.99, True),
    "shear-y": (0, 0.99, True),
    "translate-x": (0, 1 / 7, True),
    "translate-y": (0, 1 / 7, True),
    "rotate": (0, 135, True),
    "brightness": (0, 0.99, True),
    "colour": (0, 0.99, True),
    "contrast": (0, 0.99, True),
    "sharpness": (0, 0.99, True),
    "posterize": (8, 2, False),
    "solarize": (256, 0, False),
    "autocontrast": (0, 0, False),
    "equalize": (0, 0, False),
}
_COLOUR: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, _: image,
    "brightness": lambda image, change: ImageEnhance.Brightness(image).enhance(1 + change),
    "colour": lambda image, change: ImageEnhance.Color(image).enhance(1 + change),
    "contrast": lambda image, change: ImageEnhance.Contrast(image).enhance(1 + change),
    "sharpness": lambda image, change: ImageEnhance.Sharpness(image).enhance(1 + change),
    "posterize": lambda image, bits: ImageOps.posterize(image, round(bits)),
    "solarize": lambda image, least: ImageOps.solarize(image, round(least)),
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
}


@dataclass(frozen=True, slots=True)
class Augment:
    """A recipe of augmentation and the symmetries that keep a picture's meaning.

    Attributes:
        name: One of ``AUGMENTATIONS``. ``none`` keeps every picture as it is.
        symmetry: ``none`` forbids mirror images and rotations in every recipe (digits, text),
            ``flip`` allows the horizontal mirror image and the recipes' rotations, and
            ``square`` draws one of the square's eight symmetries in the mirror's place (cells,
            satellites, microscopy).

    Raises:
        UnknownName: There is no such recipe or symmetry.
    """

    name: str = "none"
    symmetry: str = "flip"

    def __post_init__(self) -> None:
        if self.name not in AUGMENTATIONS:
            raise UnknownName("augmentation", self.name, AUGMENTATIONS, field="augment")
        symmetries(self.symmetry)

    def key(self) -> dict[str, Any]:
        """Return all that decides the pixels beside picture and generator, as plain JSON.

        numpy's version is in it because its streams may change with it (NEP 19).
        """
        if self.name == "none":
            return {"name": "none"}
        return {
            "name": self.name,
            "symmetry": self.symmetry,
            "version": _VERSION,
            "pillow": PIL.__version__,
            "numpy": np.__version__,
        }

    def __call__(self, pixels: Pixels, generator: np.random.Generator) -> Pixels:
        """Return one augmented view of uint8 RGB pixels (H, W, 3): the caller's own array.

        Raises:
            UsageError: The symmetries are the square's and H is not W.
        """
        if self.name == "none":
            return pixels.copy()
        if self.symmetry == "square":
            check_square(pixels)
        numbers = symmetries(self.symmetry)
        seen = turned(pixels, numbers[generator.integers(len(numbers))])
        recipe = {
            "light": _light,
            "standard": _standard if len(numbers) > 1 else partial(_standard, degrees=0),
            "strong": _strong if len(numbers) > 1 else partial(_strong, but="rotate"),
            "shear-zoom": _shear_zoom,
        }[self.name]
        return recipe(seen, generator)


def generator(seed: int, view: int, image: str) -> np.random.Generator:
    """Return the one source of chance of an augmented view.

    Args:
        seed: The run's seed.
        view: The number of the view.
        image: The image's digest; equal images have equal views, wherever they lie.
    """
    state = int(digest("augment", str(seed), str(view), image), 16)
    return np.random.Generator(np.random.PCG64(state))


def augmented(pixels: Pixels, augment: Augment, seed: int, view: int, image: str) -> Pixels:
    """Return view number ``view`` of uint8 RGB pixels (H, W, 3); view 0 is the plain image.

    The same arguments give the same pixels, in any order and from any thread. The result is the
    caller's own array.

    Raises:
        UsageError: The symmetries are the square's and H is not W.
    """
    return augment(pixels, generator(seed, view, image)) if view else pixels.copy()


# What is drawn: small functions of a generator, in shares of the picture's sides


def box(generator: np.random.Generator, areas: Pair, ratios: Pair) -> tuple[float, ...]:
    """Draw a box inside the picture: left, top, width and height as shares of its sides.

    The area is uniform. The ratio of width to height, relative to the picture's own, is
    log-uniform; of ``ratios`` only those are drawn with which a box of that area fits.

    Args:
        generator: The source of chance.
        areas: Least and largest share of the picture's area, in (0, 1].
        ratios: Least and largest ratio, below and above 1.
    """
    area = generator.uniform(*areas)
    least, most = (math.log(ratio) for ratio in ratios)
    fits = 0.0 - math.log(area)  # not -0.0, which numpy takes for a range below 0
    ratio = math.exp(generator.uniform(max(least, -fits), min(most, fits)))
    width, height = min(1.0, math.sqrt(area * ratio)), min(1.0, math.sqrt(area / ratio))
    return generator.uniform(0, 1 - width), generator.uniform(0, 1 - height), width, height


def placement(
    generator: np.random.Generator, degrees: float
) -> tuple[npt.NDArray[np.float64], Pair]:
    """Draw what ``standard`` does to geometry: the ``linear`` and ``shift`` of ``warped``.

    A random resized crop (area 0.8 to 1, ratio 3/4 to 4/3), a rotation by up to ``degrees`` and
    a translation by up to 0.1.
    """
    left, top, width, height = box(generator, (0.8, 1.0), (3 / 4, 4 / 3))
    turn = rotation(generator.uniform(-degrees, degrees))
    x, y = generator.uniform(-0.1, 0.1, 2)
    shift = left + width / 2 - 0.5 + x, top + height / 2 - 0.5 + y
    return turn @ np.diag([width, height]), shift


def operation(generator: np.random.Generator, but: str | None = None) -> tuple[str, float]:
    """Draw one of TrivialAugment's operations and one of its 31 strengths, both evenly.

    Args:
        generator: The source of chance.
        but: An operation that must not be drawn.

    Returns:
        A name in ``STRENGTHS`` and a strength, in that operation's unit.
    """
    names = [name for name in STRENGTHS if name != but]
    name = names[generator.integers(len(names))]
    weakest, strongest, signed = STRENGTHS[name]
    level, sign = generator.integers(31) / 30, 1 - 2 * signed * generator.integers(2)
    return name, float(sign * (weakest + level * (strongest - weakest)))


# What is done


def recoloured(pixels: Pixels, factors: Triple, hue: float) -> Pixels:
    """Change brightness, contrast, saturation and hue by one linear map of the colours.

    In this order, without rounding in between: scale the colours; scale them about the mean
    luma; scale each about its own luma; turn them about the grey axis, on which red, green and
    blue lie 120 degrees apart as in HSV. Grey stays grey.

    Args:
        pixels: RGB pixels (H, W, 3).
        factors: Of brightness, contrast and saturation, 1 for none.
        hue: The turn as a share of the circle, from red towards green.
    """
    brightness, contrast, saturation = factors
    saturate = saturation * np.eye(3) + (1 - saturation) * np.array(_LUMA)
    matrix = brightness * contrast * _hue_turn(hue) @ saturate
    image = Image.fromarray(np.ascontiguousarray(pixels))
    offset = (1 - contrast) * brightness * ImageStat.Stat(image.convert("L")).mean[0]
    rows = np.column_stack([matrix, np.full(3, offset)])
    return np.array(image.convert("RGB", tuple(rows.ravel().tolist())))


def _hue_turn(hue: float) -> npt.NDArray[np.float64]:
    """Return the matrix (3, 3) that turns colours about the grey axis (1, 1, 1)."""
    thirds = 2 * math.pi * (hue + np.arange(3) / 3)
    red, green, blue = (1 + 2 * np.cos(thirds)) / 3
    return np.array([[red, green, blue], [blue, red, green], [green, blue, red]])


def operated(pixels: Pixels, name: str, strength: float) -> Pixels:
    """Apply one of ``STRENGTHS``' operations to pixels (H, W, 3).

    Shears and rotations are about the centre; those of colour and sharpness are Pillow's.
    """
    match name:
        case "shear-x":
            return warped(pixels, ((1, strength), (0, 1)))
        case "shear-y":
            return warped(pixels, ((1, 0), (strength, 1)))
        case "translate-x":
            return warped(pixels, shift=(strength, 0))
        case "translate-y":
            return warped(pixels, shift=(0, strength))
        case "rotate":
            return warped(pixels, rotation(strength))
    return np.array(_COLOUR[name](Image.fromarray(np.ascontiguousarray(pixels)), strength))


def erased(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Fill a random box with noise or with the mean colour, in place (random erasing).

    Zhong et al. 2017, arXiv:1708.04896, with torchvision's ranges: area 0.02 to 0.33, ratio 0.3
    to 3.3.
    """
    height, width = pixels.shape[:2]
    left, top, across, down = box(generator, (0.02, 0.33), (0.3, 3.3))
    x, y = int(left * width), int(top * height)
    hole = pixels[y : y + max(1, round(down * height)), x : x + max(1, round(across * width))]
    if generator.random() < 0.5:
        hole[:] = generator.integers(0, 256, hole.shape, np.uint8)
    else:
        hole[:] = pixels.mean((0, 1)).round()
    return pixels


# The recipes


def _light(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    most = math.ceil(height / 16), math.ceil(width / 16)
    y, x = (int(generator.integers(-far, far + 1)) for far in most)
    return window(pixels, range(y, y + height), range(x, x + width))


def _standard(pixels: Pixels, generator: np.random.Generator, degrees: float = 15) -> Pixels:
    moved = warped(pixels, *placement(generator, degrees))
    brightness, contrast, saturation = generator.uniform(0.8, 1.2, 3)
    return recoloured(moved, (brightness, contrast, saturation), generator.uniform(-0.1, 0.1))


def _strong(pixels: Pixels, generator: np.random.Generator, but: str | None = None) -> Pixels:
    pixels = operated(pixels, *operation(generator, but))
    return erased(pixels, generator) if generator.random() < 0.25 else pixels


def _shear_zoom(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    shear, (x, y) = generator.uniform(-0.2, 0.2), generator.uniform(0.8, 1.2, 2)
    return warped(pixels, ((x, shear * y), (0, y)))
