"""From a decoded image to a network's input, as its InputSpec says.

``crop`` gives the same pixels, bit for bit, as torchvision's and timm's evaluation transforms on
PIL images; tests hold it to both. numpy and Pillow only: no torch.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from headstart.inputspec import InputSpec

__all__ = ["least_side", "normalise", "resize"]

# A 1 x 20,000 image scaled to a short side of 256 would have 1.3 billion pixels; past this many
# only the part that is kept is computed, which may differ from the whole's by rounding.
_MAX_SCALED = 1 << 24


def resize(image: Image.Image, spec: InputSpec) -> npt.NDArray[np.uint8]:
    """Resize an image of mode ``L`` or ``RGB`` by the spec's rule.

    A grey image is resized as one channel, in a third of the time and to the same pixels.

    Returns:
        uint8 pixels of shape (height, width, 3), always in RGB order, the caller's own.
    """
    rule = {"crop": _crop, "squash": _squash, "pad": _pad}[spec.resize]
    pixels = np.array(rule(image, spec))
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def normalise(pixels: npt.NDArray[np.uint8], spec: InputSpec) -> npt.NDArray[np.float32]:
    """Turn uint8 RGB pixels (..., H, W, 3) into the network's float32 input (..., 3, H, W)."""
    if spec.channels == "bgr":
        pixels = pixels[..., ::-1]
    values = (pixels - np.array(spec.mean, np.float32)) / np.array(spec.std, np.float32)
    return np.ascontiguousarray(np.moveaxis(values, -1, -3))


def least_side(spec: InputSpec) -> int | None:
    """Return how many pixels a side of a reduced JPEG must keep, or None for an exact decode.

    Twice the size it is then resized to, as Pillow's thumbnails do: what the reduced decode
    loses is mostly lost in the resize too.
    """
    return 2 * max(_scaled_size(spec)) if spec.decode == "scaled" else None


def _scaled_size(spec: InputSpec) -> tuple[int, int]:
    """Return the (width, height) that an image must at least fill before the centre is cut."""
    fraction = spec.crop_fraction if spec.resize == "crop" else 1.0
    return math.floor(spec.width / fraction), math.floor(spec.height / fraction)


def _crop(image: Image.Image, spec: InputSpec) -> Image.Image:
    width, height = _covering(image.size, _scaled_size(spec))
    left = round((width - spec.width) / 2)
    top = round((height - spec.height) / 2)
    box = (left, top, left + spec.width, top + spec.height)
    if width * height <= _MAX_SCALED:
        return image.resize((width, height), _filter(spec)).crop(box)
    x, y = image.width / width, image.height / height
    kept = (box[0] * x, box[1] * y, box[2] * x, box[3] * y)
    return image.resize((spec.width, spec.height), _filter(spec), box=kept)


def _covering(size: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    """Scale ``size`` until it just covers ``least``; both (width, height).

    torchvision truncates the long side where one number is asked for, and timm rounds it where
    two are.
    """
    (width, height), (least_width, least_height) = size, least
    if least_width != least_height:
        ratio = min(width / least_width, height / least_height)
        return round(width / ratio), round(height / ratio)
    if width <= height:
        return least_width, int(least_width * height / width)
    return int(least_height * width / height), least_height


def _squash(image: Image.Image, spec: InputSpec) -> Image.Image:
    return image.resize((spec.width, spec.height), _filter(spec))


def _pad(image: Image.Image, spec: InputSpec) -> Image.Image:
    ratio = max(image.width / spec.width, image.height / spec.height)
    size = max(1, round(image.width / ratio)), max(1, round(image.height / ratio))
    mean = spec.mean if spec.channels == "rgb" else spec.mean[::-1]
    canvas = Image.new("RGB", (spec.width, spec.height), tuple(round(value) for value in mean))
    corner = ((spec.width - size[0]) // 2, (spec.height - size[1]) // 2)
    canvas.paste(image.resize(size, _filter(spec)), corner)
    return canvas


def _filter(spec: InputSpec) -> Image.Resampling:
    return Image.Resampling[spec.interpolation.upper()]
