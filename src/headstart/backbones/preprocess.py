"""How weights want their images: from timm's config, from a file beside them, or as given.

timm writes mean and std in units of 0..1 and calls the resize rules ``center``, ``squash`` and
``border``; an :class:`~headstart.inputspec.InputSpec` has 0..255, ``crop``, ``squash`` and ``pad``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.backbones.architecture import MOST_PIXELS, check_side
from headstart.backbones.base import Request
from headstart.errors import ModelError, UsageError
from headstart.files import read_json
from headstart.inputspec import InputSpec, Resize

__all__ = ["beside", "decide", "from_config", "size_is_the_users"]

_RESIZE: dict[str, Resize] = {"center": "crop", "squash": "squash", "border": "pad"}
Triple = tuple[float, float, float]


def from_config(config: Mapping[str, Any]) -> InputSpec:
    """Turn timm's ``pretrained_cfg`` into an input spec.

    Raises:
        ModelError: It asks for other than three channels, or is no such config.
    """
    try:
        channels, height, width = config.get("input_size", (3, 224, 224))
        spec = InputSpec(
            height=int(height),
            width=int(width),
            mean=_triple(config["mean"], 255),
            std=_triple(config["std"], 255),
            resize=_RESIZE[config.get("crop_mode", "center")],
            # A few of timm's crop more than all there is, which pads; they get all there is.
            crop_fraction=min(1.0, float(config.get("crop_pct", 0.875))),
            interpolation=config.get("interpolation", "bicubic"),
        )
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise ModelError(f"This is no preprocessing that headstart knows: {error}.") from error
    if channels != 3:
        raise ModelError(f"The network takes {channels} channels, not 3.", field="backbone")
    return spec


def beside(weights: Path, architecture: str) -> tuple[InputSpec, str] | None:
    """Read the input spec that lies beside a file of weights, with the name of its file.

    headstart.json is preferred to timm's config.json. A config for another architecture is not
    meant for these weights.

    Raises:
        ModelError: There is one, and it can't be used.
    """
    for name in ("headstart.json", "config.json"):
        path = weights.with_name(name)
        if not path.is_file():
            continue
        try:
            spec = _spec(read_json(path), architecture)
        except (ModelError, UsageError, AttributeError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path}, beside the weights, gives no usable preprocessing: {error}.",
                field=str(path),
                hint="Repair it, or move the weights to a folder of their own and give --mean and "
                "--std.",
            ) from error
        if spec is not None:
            return spec, name
    return None


def _spec(document: dict[str, Any], architecture: str) -> InputSpec | None:
    made_for = document.get("architecture")
    if made_for == architecture:  # timm's config.json
        spec = from_config(document.get("pretrained_cfg", document))
    elif isinstance(made_for, dict) and made_for["architecture"] == architecture:  # headstart.json
        spec = InputSpec.from_dict(document["input_spec"])
    else:
        return None
    check_side(spec.height, "height")
    check_side(spec.width, "width")
    return spec


def decide(
    default: InputSpec, architecture: str, request: Request
) -> tuple[InputSpec, tuple[str, ...]]:
    """Decide on the input spec, and say what was assumed.

    What the user gave counts first, then what lies beside the weights, then the zoo's own.

    Raises:
        UsageError: Only one of mean and std was given, or numbers that can't be either; or the size
            is too large for any network.
        ModelError: The file beside the weights can't be used.
    """
    spec, notes = default, []
    if request.weights is not None:
        found = beside(request.weights, architecture)
        if found is not None:
            spec = found[0]
            notes.append(f"The preprocessing is the one in {found[1]} beside the weights.")
        elif request.mean is None:
            notes.append(_assumption(spec))
    if request.mean is not None or request.std is not None:
        mean, std = _given(request.mean, request.std)
        if spec.channels == "bgr":  # people, and other programs, say red first
            mean, std = mean[::-1], std[::-1]
        spec = replace(spec, mean=mean, std=std)
    if request.size is not None:
        if request.size > MOST_PIXELS:
            raise UsageError(
                f"The side of the input must be at most {MOST_PIXELS:,} pixels, not "
                f"{request.size:,}.",
                field="size",
                hint="Choose a smaller --size.",
            )
        spec = replace(spec, height=request.size, width=request.size)
    return spec, tuple(notes)


def _assumption(spec: InputSpec) -> str:
    reverse = spec.channels == "bgr"
    rows = [row[::-1] if reverse else row for row in (spec.mean, spec.std)]
    mean, std = (", ".join(f"{value / 255:.3g}" for value in row) for row in rows)
    order = " of red, green and blue, taken in the order blue, green, red" if reverse else ""
    return (
        "Nothing beside the weights says how their images were normalised; assumed the zoo's own: "
        f"mean {mean}, std {std}{order}. If that is wrong, give --mean and --std."
    )


@contextmanager
def size_is_the_users(request: Request) -> Iterator[None]:
    """Turn an error about the size into the user's, where they gave it.

    Raises:
        UsageError: The network can't take images of the size that was asked for.
    """
    try:
        yield
    except ModelError as error:
        if error.field == "size" and request.size is not None:
            raise UsageError(error.message, field="size", hint="Choose another --size.") from error
        raise


def _given(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Triple, Triple]:
    if mean is None or std is None:
        raise UsageError(
            "mean and std belong together: give both.", field="mean" if mean is None else "std"
        )
    for field, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, 3):
            raise UsageError(
                f"{field} must be one number or three, not {len(values)}.", field=field
            )
    unit = 255 if all(abs(value) <= 1 for value in (*mean, *std)) else 1
    return _triple(mean, unit), _triple(std, unit)


def _triple(values: Sequence[float], unit: int) -> Triple:
    first, second, third = values if len(values) == 3 else tuple(values) * 3
    return unit * float(first), unit * float(second), unit * float(third)
