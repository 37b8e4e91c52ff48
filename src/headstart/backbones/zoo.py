"""Backbones by name: ``zoo:name``.

``bundled`` networks come with headstart; ``timm`` has more than a thousand more, ``torchvision``
a hundred, ``keras`` forty where Keras is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from headstart.backbones import (
    bundled,
    from_keras,
    from_timm,
    from_torchvision,
    keras_catalog,
    timm_catalog,
    torchvision_catalog,
)
from headstart.backbones.architecture import check_side
from headstart.backbones.base import Backbone, Listing, Request
from headstart.backbones.earlier import find_earlier
from headstart.backbones.licence import check_licence, licence_beside
from headstart.errors import ModelError, UnknownName, UsageError
from headstart.inputspec import InputSpec

__all__ = ["DEFAULT", "ZOOS", "create", "listings", "names", "outline", "rebuild"]

DEFAULT = "bundled:efficientnet_lite0"


@dataclass(frozen=True, slots=True)
class _Zoo:
    """What a zoo can do: make a network with weights, make it again, and name all it has."""

    create: Callable[[str, Request], Backbone]
    rebuild: Callable[[Mapping[str, Any], InputSpec], Backbone]
    names: Callable[[], Sequence[str]]
    listings: Callable[[], list[Listing]]


_ZOOS = {
    "bundled": _Zoo(bundled.create, bundled.rebuild, lambda: bundled.NAMES, bundled.listings),
    "timm": _Zoo(from_timm.create, from_timm.rebuild, timm_catalog.names, timm_catalog.listings),
    "torchvision": _Zoo(
        from_torchvision.create,
        from_torchvision.rebuild,
        torchvision_catalog.names,
        torchvision_catalog.listings,
    ),
    "keras": _Zoo(from_keras.create, from_keras.rebuild, from_keras.names, keras_catalog.listings),
}
ZOOS = tuple(_ZOOS)
_ZOO_OF_MARK = {".": "timm", "@": "torchvision"}  # that stands before the tag of weights


def create(
    name: str | None = None,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    allow_noncommercial: bool = False,
    random: int | None = None,
    allow_partial: bool = False,
) -> Backbone:
    """Create a backbone with pre-trained weights, ready to run.

    Args:
        name: ``zoo:name``, such as ``bundled:efficientnet_lite0`` or ``timm:resnet50.a1_in1k``;
            by default that of the run in ``weights``, else ``DEFAULT``.
        weights: A file of weights to load instead of the zoo's: safetensors, or a PyTorch file
            that holds only tensors. Or the folder of a finished run, or the ``model/`` in it: its
            network, without the head.
        mean: Mean of the images the weights were trained on, one number or three (red, green,
            blue, whatever order the network takes them in). Where no number of ``mean`` and ``std``
            is above 1, both are in units of 0..1, else of 0..255.
        std: Their standard deviation, in the same units; given with ``mean`` or not at all.
        size: Side of the square input in pixels; by default the zoo's own.
        allow_noncommercial: Accept weights whose licence forbids commercial use.
        random: A seed to draw the weights from, instead of loading any: training from scratch.
        allow_partial: Take what of ``weights`` fits the network, however little, and leave the rest
            random; a note says how much that is.

    Raises:
        UnknownName: There is no such zoo or network.
        MissingExtra: The package that brings the weights is not installed.
        UsageError: The licence forbids commercial use, or the options don't fit the network
            or each other.
        MissingWeights: The weights are not on this machine and could not be downloaded.
        ModelError: The weights or the network can't be used.
        UnsafeFile: Reading the weights could run code.
    """
    file = None if weights is None else Path(weights)
    earlier = find_earlier(file) if file is not None and file.is_dir() else None
    licence = None
    if earlier is not None:
        if name is not None:
            earlier.check_name(name)
        name, file, licence = earlier.backbone, earlier.file, earlier.licence
    elif file is not None:
        licence = licence_beside(file)
    check_licence(str(file), licence, allow_noncommercial=allow_noncommercial, field="weights")
    zoo, inner = _known(DEFAULT if name is None else name)
    if weights is not None and random is not None:
        raise UsageError(
            "A network starts from a file of weights or from random ones, not from both.",
            field="weights",
            hint="Leave one of them away.",
        )
    architecture = None if earlier is None else earlier.architecture
    request = Request(
        file, mean, std, size, allow_noncommercial, random, allow_partial, architecture
    )
    backbone = _ZOOS[zoo].create(inner, request)
    return backbone if file is None else replace(backbone, licence=licence)


def outline(name: str, *, size: int | None = None) -> Backbone:
    """Make a network in the form it has with its pre-trained weights, but all numbers at random.

    It needs no weights, and shows how they are cut, which norms stay frozen, and all notes.

    Args:
        name: ``zoo:name``.
        size: Side of the square input in pixels; by default the zoo's own.

    Raises:
        UnknownName: There is no such zoo or network.
        MissingExtra: The zoo's package is not installed.
        UsageError: The network can't take images of that size.
        ModelError: The network can't be a backbone.
    """
    zoo, inner = _known(name)
    return _ZOOS[zoo].create(inner, Request(size=size, random=0, pretrained_form=True))


def _known(name: str) -> tuple[str, str]:
    """Split ``zoo:name``, whose zoo must be a known one."""
    zoo, colon, inner = name.partition(":")
    if not colon:
        raise _without_zoo(zoo)
    if zoo not in _ZOOS:
        known = f"Known zoos: {', '.join(ZOOS)}. A name looks like {DEFAULT}."
        raise UnknownName("zoo", zoo, ZOOS, field="backbone", hint=known)
    return zoo, inner


def rebuild(architecture: Mapping[str, Any], input_spec: InputSpec) -> Backbone:
    """Build a backbone again, with random weights, to load saved ones into its network.

    Args:
        architecture: ``Backbone.architecture`` of the one that was saved.
        input_spec: Its input spec.

    Raises:
        ModelError: ``architecture`` does not describe a network of a known zoo.
    """
    zoo = architecture.get("zoo")
    if zoo not in _ZOOS:
        raise ModelError(f"There is no zoo named {zoo!r}.", field="zoo")
    check_side(input_spec.height, "height")
    check_side(input_spec.width, "width")
    return _ZOOS[zoo].rebuild(architecture, input_spec)


def names() -> list[str]:
    """Return the names of the networks of all zoos, ``zoo:name``, without tags of weights."""
    return [f"{zoo}:{known}" for zoo, each in _ZOOS.items() for known in each.names()]


def listings() -> list[Listing]:
    """List the networks of all zoos with each set of their weights; nothing is downloaded."""
    return [listing for each in _ZOOS.values() for listing in each.listings()]


def _without_zoo(name: str) -> UnknownName:
    named = names()
    # Tags of weights: resnet50.a1_in1k, resnet50@IMAGENET1K_V1.
    inner = name.partition(".")[0].partition("@")[0]
    meant = [full.partition(":")[0] for full in named if full.partition(":")[2] == inner]
    meant = [zoo for zoo in meant if zoo == _ZOO_OF_MARK.get(name[len(inner) :][:1], zoo)]
    hint = f"Did you mean {' or '.join(f'{zoo}:{name}' for zoo in meant)}?" if meant else None
    return UnknownName("backbone", name, named, field="backbone", hint=hint)
