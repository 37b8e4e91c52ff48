"""What a network wants to eat, and the only meeting point of data and backbones."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from headstart.errors import UnknownName, UsageError

__all__ = ["InputSpec", "Interpolation", "Resize"]

Resize = Literal["crop", "squash", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Channels = Literal["rgb", "bgr"]
Decode = Literal["exact", "scaled"]
Triple = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class InputSpec:
    """How an image becomes a network's input.

    A decoded image is resized to ``height`` x ``width`` uint8 pixels by the ``resize`` rule, its
    channels are put into ``channels`` order, and ``(pixel - mean) / std`` makes a float tensor of
    shape (3, height, width). Mean and std are in units of 0..255, in ``channels`` order, so that
    the preprocessing of every zoo (torch, tf, caffe, in-graph scaling) is this one formula.

    Attributes:
        height: Height of the network's input in pixels.
        width: Width of the network's input in pixels.
        mean: Subtracted from the pixels, one number a channel, in 0..255 units.
        std: The centred pixels are divided by it, one number a channel, in 0..255 units.
        resize: ``crop`` scales the shorter side to ``size / crop_fraction`` and cuts the centre;
            ``squash`` scales both sides and ignores the aspect ratio; ``pad`` scales the longer
            side and fills the rest with the mean colour.
        crop_fraction: Share of the scaled image's side that ``crop`` keeps, in (0, 1].
        interpolation: Resampling filter, with antialiasing, as Pillow names it.
        channels: Order of the channels.
        decode: ``exact``, or ``scaled`` where large JPEGs may be decoded at a reduced scale.
    """

    height: int
    width: int
    mean: Triple
    std: Triple
    resize: Resize = "crop"
    crop_fraction: float = 0.875
    interpolation: Interpolation = "bicubic"
    channels: Channels = "rgb"
    decode: Decode = "exact"

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise UsageError(
                f"The input size must be at least 1 x 1, not {self.height} x {self.width}.",
                field="size",
            )
        if not all(math.isfinite(value) for value in self.mean):
            raise UsageError(f"Every mean must be a number, not {self.mean}.", field="mean")
        if not all(0 < value < math.inf for value in self.std):
            raise UsageError(f"Every std must be above 0, not {self.std}.", field="std")
        if not 0 < self.crop_fraction <= 1:
            raise UsageError(
                f"The crop fraction must be in (0, 1], not {self.crop_fraction}.",
                field="crop_fraction",
            )
        for field, choices in (
            ("resize", Resize),
            ("interpolation", Interpolation),
            ("channels", Channels),
            ("decode", Decode),
        ):
            if getattr(self, field) not in get_args(choices):
                raise UnknownName(
                    f"{field} rule", getattr(self, field), get_args(choices), field=field
                )

    def with_resize(self, rule: str) -> InputSpec:
        """Return this spec with another resize rule: ``crop``, ``squash`` or ``pad``.

        Raises:
            UnknownName: There is no such rule.
        """
        return replace(self, resize=rule)  # type: ignore[arg-type]  # checked in __post_init__

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> InputSpec:
        """Build a spec from ``to_dict``'s result.

        Raises:
            UsageError: A field is missing, unknown or out of range.
        """
        try:
            fields = document | {"mean": _triple(document["mean"]), "std": _triple(document["std"])}
            return cls(**fields)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"Not an input spec: {error}.", field="input_spec") from error


def _triple(values: Any) -> Triple:
    first, second, third = (float(value) for value in values)
    return first, second, third
