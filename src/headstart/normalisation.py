"""What a network was trained to see, as a function of each pixel.

Any chain of scalings and normalisations, in a transform or in the network itself, is one
:class:`Scaling` a channel, so that a missing, a wrong and a double normalisation are all the same
comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headstart.inputspec import InputSpec
from headstart.training.model import Model

__all__ = ["Expected", "Scaling", "Triple", "expected", "is_triple", "listed", "triple"]

Triple = tuple[float, float, float]
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)

_OTHER_TASKS = ("detection", "segmentation", "video", "optical_flow")


@dataclass(frozen=True, slots=True)
class Scaling:
    """value = ``slope`` * pixel + ``offset``, one number a channel; pixels are 0 to 255."""

    slope: Triple = (1.0, 1.0, 1.0)
    offset: Triple = (0.0, 0.0, 0.0)

    @classmethod
    def of(cls, mean: Sequence[float], std: Sequence[float], unit: float = 1.0) -> Scaling:
        """Return (pixel - mean) / std; ``unit`` is 255 where these are in units of 0..1."""
        return cls().times(1 / unit).normalised(mean, std)

    def times(self, factor: float) -> Scaling:
        """Return this, and then a multiplication."""
        return Scaling(
            triple([factor * value for value in self.slope]),
            triple([factor * value for value in self.offset]),
        )

    def normalised(self, mean: Sequence[float], std: Sequence[float]) -> Scaling:
        """Return this, and then (value - mean) / std."""
        means, stds = triple(mean), triple(std)
        return Scaling(
            triple([a / s for a, s in zip(self.slope, stds, strict=True)]),
            triple([(b - m) / s for b, m, s in zip(self.offset, means, stds, strict=True)]),
        )

    def at(self, pixel: float) -> Triple:
        """Return what a grey pixel becomes, channel by channel."""
        return triple([a * pixel + b for a, b in zip(self.slope, self.offset, strict=True)])

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest value there can be."""
        ends = (*self.at(0), *self.at(255))
        return min(ends), max(ends)

    def distance(self, other: Scaling) -> float:
        """Return how far a pixel's value may be from the other's, at most."""
        return max(
            abs(one - two)
            for pixel in (0, 255)
            for one, two in zip(self.at(pixel), other.at(pixel), strict=True)
        )

    def __str__(self) -> str:
        """Say it as the mean and std that torchvision's ``Normalize`` takes."""
        std = [1 / (255 * value) for value in self.slope]
        mean = [-b * s for b, s in zip(self.offset, std, strict=True)]
        return f"mean {listed(mean)}, std {listed(std)}"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a network was trained to see.

    Attributes:
        scaling: Of the pixels.
        source: Who says so.
        takes_pixels: Whether it also takes plain pixels (B, H, W, 3) and normalises them itself.
        bgr: Whether its channels are blue, green, red.
    """

    scaling: Scaling
    source: str
    takes_pixels: bool = False
    bgr: bool = False


def expected(
    model: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Expected | None:
    """Return what a network was trained to see; None where nothing says so.

    Args:
        model: headstart's own say it; timm's have it in ``pretrained_cfg``; torchvision's networks
            don't say, but all its ImageNet weights but one share one normalisation.
        mean: What the user says it is, in units of 0..1, or of 0..255 where a number is above 1.
        std: The same.
    """
    own = next((part for part in model.modules() if isinstance(part, Model)), None)
    if mean is not None and std is not None:
        unit = 1.0 if max(map(abs, (*mean, *std))) > 1 else 255.0
        return Expected(Scaling.of(mean, std, unit), "you say", own is not None)
    if own is not None:
        return _of_spec(own.input_spec)
    for part in model.modules():
        config = getattr(part, "pretrained_cfg", None) or getattr(part, "default_cfg", None)
        if isinstance(config, Mapping) and config.get("mean") and config.get("std"):
            name = config.get("architecture") or type(part).__name__
            scaling = Scaling.of(config["mean"], config["std"], 255)
            return Expected(scaling, f"timm says of {name}")
    for part in model.modules():
        home = type(part).__module__
        if home.startswith("torchvision.models.") and not any(t in home for t in _OTHER_TASKS):
            mean, std = HALF if _is_large_v2(model) else IMAGENET
            return Expected(Scaling.of(mean, std, 255), "torchvision's ImageNet weights have")
    return None


def _of_spec(spec: InputSpec) -> Expected:
    scaling = Scaling.of(spec.mean, spec.std)
    return Expected(scaling, "its input_spec says", True, spec.channels == "bgr")


def _is_large_v2(model: nn.Module) -> bool:
    """Whether it is torchvision's EfficientNetV2-L, the one with another normalisation."""
    fused = any(type(part).__name__ == "FusedMBConv" for part in model.modules())
    stem = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    return fused and stem is not None and stem.out_channels == 32  # 24 in the smaller ones


def is_triple(values: Any) -> bool:
    """Whether something is a number for each of three channels, or one for all."""
    try:
        return len(triple(values)) == 3
    except (TypeError, ValueError):
        return False


def triple(values: Any) -> Triple:
    """Return three numbers; of one channel, three times it."""
    numbers = values.tolist() if hasattr(values, "tolist") else values
    flat = torch.as_tensor(numbers, dtype=torch.float64).flatten().tolist()
    first, second, third = flat * 3 if len(flat) == 1 else flat
    return first, second, third


def listed(values: Sequence[float]) -> str:
    """Write numbers as a Python list, rounded."""
    return f"[{', '.join(f'{value:.4g}' for value in values)}]"
