"""What a transform makes of pixels, and where that is not what the network was trained to see.

torchvision's transforms, timm's and Albumentations' are read, not run. Where one can't be read,
the values of a batch still tell the plain mistakes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headstart.data.checks.findings import Finding
from headstart.normalisation import Expected, Scaling, Triple, is_triple, listed, triple
from headstart.training.model import Model

__all__ = ["Prepared", "normalisation_findings", "prepared", "value_findings"]

_TOLERANCE = 0.05  # in values of the network's input, which span about 4: rounded numbers pass
_PICKS = ("RandomApply", "RandomChoice", "RandomOrder", "OneOf", "SomeOf", "Sometimes")
_PIXELS = Scaling()
_LIBRARIES = ("torchvision.", "timm.", "albumentations.", "kornia.")


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a transform does to a pixel.

    Attributes:
        scaling: Of the pixels.
        floats: Whether it ends with floats; pixels or an image otherwise.
        normalisations: The mean and std of each normalisation on the way, and the scaling that
            came before it.
        unknown: Names of steps that can't be looked into; with any, the rest is not to be relied
            on.
    """

    scaling: Scaling = _PIXELS
    floats: bool = False
    normalisations: tuple[tuple[Triple, Triple, Scaling], ...] = ()
    unknown: tuple[str, ...] = ()


def prepared(transform: object, model: nn.Module | None = None) -> Prepared:
    """Return what a transform does to pixels, and a network before its first layer.

    Args:
        transform: torchvision's (v1, v2, ``weights.transforms()``), timm's, Albumentations' or
            ``nn.Sequential``; compositions within each other too.
        model: Normalisations that are among its parts count as steps after the transform's.
    """
    result = Prepared()
    for step in _steps(transform):
        result = _after(result, step)
    parts = [] if model is None else list(model.modules())
    if not any(isinstance(part, Model) for part in parts):  # headstart's own takes either
        for part in filter(_normalises, parts):
            result = _after(result, part)
    return result


def _steps(transform: object) -> Iterator[object]:
    """Yield the steps of a transform in their order, compositions resolved."""
    inner = getattr(transform, "transforms", None)
    if type(transform).__name__ in _PICKS:
        return  # what is applied by chance augments, and does not prepare
    if isinstance(transform, nn.Sequential):
        inner = list(transform)
    if isinstance(inner, list | tuple):
        for step in inner:
            yield from _steps(step)
    elif isinstance(transform, list | tuple):
        for step in transform:
            yield from _steps(step)
    elif transform is not None:
        yield transform


def _after(before: Prepared, step: object) -> Prepared:
    """Return what is prepared after one more step."""
    name = type(step).__name__
    if _normalises(step):
        return _normalised(before, step)
    if name in ("ToTensor", "MaybeToTensor") and not before.floats:
        return _with(before, before.scaling.times(1 / 255))
    if name in ("ToDtype", "ConvertImageDtype") and not before.floats and _to_float(step):
        scales = name == "ConvertImageDtype" or bool(getattr(step, "scale", False))
        return _with(before, before.scaling.times(1 / 255 if scales else 1.0))
    if name == "ToFloat":  # Albumentations'
        return _with(before, before.scaling.times(1 / (getattr(step, "max_value", 0) or 255)))
    if type(step).__module__.startswith(_LIBRARIES) and "Lambda" not in name:
        return before
    told = getattr(step, "__name__", name)
    return Prepared(
        before.scaling, before.floats, before.normalisations, (*before.unknown, str(told))
    )


def _with(before: Prepared, scaling: Scaling) -> Prepared:
    return Prepared(scaling, True, before.normalisations, before.unknown)


def _normalised(before: Prepared, step: Any) -> Prepared:
    mean, std = triple(step.mean), triple(step.std)
    scaling = before.scaling
    preset = type(step).__name__ == "ImageClassification"  # converts to 0..1 floats first
    if preset and not before.floats:
        scaling = scaling.times(1 / 255)
    if getattr(step, "max_pixel_value", None):  # Albumentations' divides by it first
        scaling = scaling.times(1 / step.max_pixel_value)
    done = (*before.normalisations, (mean, std, scaling))
    return Prepared(scaling.normalised(mean, std), True, done, before.unknown)


def _normalises(step: object) -> bool:
    name = type(step).__name__
    if name != "ImageClassification" and "normali" not in name.lower():
        return False
    values = [getattr(step, field, None) for field in ("mean", "std")]
    return all(value is not None and is_triple(value) for value in values)


def _to_float(step: object) -> bool:
    dtype = getattr(step, "dtype", None)
    if isinstance(dtype, Mapping):
        return any(isinstance(v, torch.dtype) and v.is_floating_point for v in dtype.values())
    return isinstance(dtype, torch.dtype) and dtype.is_floating_point


# Where they differ


def normalisation_findings(
    found: Prepared, wanted: Expected | None, *, where: str = "The transform"
) -> Iterator[Finding]:
    """Yield at most one finding: what is wrong with a normalisation, the plainest cause first.

    Args:
        found: What is done; nothing is said where it is not known, or gives no floats.
        wanted: What should be; None leaves only what is wrong for every network.
        where: What does it.
    """
    if found.unknown or not found.floats:
        return
    scaling, hint = found.scaling, _hint(wanted)
    if wanted is not None and scaling.distance(wanted.scaling) <= _TOLERANCE:
        return
    span = f"values from {_range(scaling)}"
    ought = "" if wanted is None else f", and the network was trained on {_range(wanted.scaling)}"
    done = found.normalisations
    if len(done) > 1:
        yield _finding(
            f"{where} normalises {len(done)} times: {span}{ought}.", f"Normalise once. {hint}"
        )
    elif done and min(done[0][0]) > 1 and max(done[0][2].at(255)) <= 1:
        yield _finding(
            f"{where} normalises images of 0 to 1 by a mean of {listed(done[0][0])}, which is in "
            f"units of 0..255: {span}{ought}.",
            f"Divide mean and std by 255. {hint}",
        )
    elif done and max(done[0][0]) <= 1 and max(done[0][2].at(255)) > 1:
        yield _finding(
            f"{where} normalises pixels of 0 to 255 by a mean of {listed(done[0][0])}, which is "
            f"in units of 0..1: {span}{ought}.",
            f"Scale to 0..1 first: ToDtype(torch.float32, scale=True). {hint}",
        )
    elif wanted is None:
        return
    elif not done:
        yield _finding(f"{where} does not normalise: {span}{ought}.", hint)
    else:
        yield _finding(
            f"{where} normalises by {scaling}, and {wanted.source} {wanted.scaling}: values are "
            f"off by up to {scaling.distance(wanted.scaling):.2g}.",
            hint,
        )


def value_findings(images: torch.Tensor, wanted: Expected) -> Iterator[Finding]:
    """Yield where a batch's values show that it was not normalised as the network wants it.

    Only what is beyond doubt: a batch has no pure black or white for certain, and augmentation by
    noise goes a little beyond them.

    Args:
        images: (B, 3, H, W) floats, all finite.
        wanted: What should be.
    """
    low, high = wanted.scaling.range
    least, most = float(images.min()), float(images.max())
    found = f"The batch's values go from {least:.3g} to {most:.3g}"
    ought = f"the network was trained on {_range(wanted.scaling)}"
    beyond = ((images < low - 1) | (images > high + 1)).float().mean()
    if least >= 0 and most <= 1 and low < -_TOLERANCE:
        yield _finding(f"{found}: it is not normalised, and {ought}.", _hint(wanted))
    elif beyond > 0.01:
        yield _finding(
            f"{found}, {100 * float(beyond):.0f} % of them well outside of what {ought}: it may be "
            "normalised twice, or by another mean and std.",
            _hint(wanted),
        )
    elif max(abs(least + 1), abs(most - 1)) < 1e-3 and max(abs(low + 1), abs(high - 1)) > 0.1:
        yield _finding(
            f"{found}, as a mean and std of 0.5 give; {ought}.",
            _hint(wanted),
        )


def _range(scaling: Scaling) -> str:
    low, high = scaling.range
    return f"{low:.3g} to {high:.3g}"


def _finding(message: str, hint: str) -> Finding:
    return Finding("normalisation", "warning", (), message, hint)


def _hint(wanted: Expected | None) -> str:
    if wanted is None:
        return "Give Normalize the mean and std that the network was trained with."
    order = ", channels in the order blue, green, red" if wanted.bgr else ""
    if wanted.takes_pixels:
        return (
            "Leave normalisation to the network: give it pixels (B, H, W, 3) uint8. Or normalise "
            f"by {wanted.scaling}{order}."
        )
    mean, std = str(wanted.scaling).removeprefix("mean ").split(", std ")
    return f"End the transform with Normalize(mean={mean}, std={std}){order}."
