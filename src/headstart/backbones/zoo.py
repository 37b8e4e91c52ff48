"""Backbones by name: ``zoo:name``.

``bundled`` networks come with headstart; ``timm`` has more than a thousand more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.backbones import bundled, from_timm, small
from headstart.backbones.base import Backbone, Request
from headstart.errors import ModelError, UnknownName, UsageError
from headstart.inputspec import InputSpec

__all__ = ["DEFAULT", "ZOOS", "create", "rebuild"]

DEFAULT = "bundled:efficientnet_lite0"
_CREATE = {"bundled": bundled.create, "timm": from_timm.create}
ZOOS = tuple(_CREATE)


def create(
    name: str,
    *,
    weights: str | Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    size: int | None = None,
    allow_noncommercial: bool = False,
    random: int | None = None,
) -> Backbone:
    """Create a backbone with pre-trained weights, ready to run.

    Args:
        name: ``zoo:name``, such as ``bundled:efficientnet_lite0`` or ``timm:resnet50.a1_in1k``.
        weights: A file of weights to load instead of the zoo's: safetensors, or a PyTorch file
            that holds only tensors.
        mean: Mean of the images the weights were trained on, one number or three. Where no number
            of ``mean`` and ``std`` is above 1, both are in units of 0..1, else of 0..255.
        std: Their standard deviation, in the same units; given with ``mean`` or not at all.
        size: Side of the square input in pixels; by default the zoo's own.
        allow_noncommercial: Accept weights whose licence forbids commercial use.
        random: A seed to draw the weights from, instead of loading any: training from scratch.

    Raises:
        UnknownName: There is no such zoo or network.
        MissingExtra: The package that brings the weights is not installed.
        UsageError: The licence forbids commercial use, or the options don't fit the network
            or each other.
        MissingWeights: The weights are not on this machine and could not be downloaded.
        ModelError: The weights or the network can't be used.
        UnsafeFile: Reading the weights could run code.
    """
    zoo, colon, inner = name.partition(":")
    if not colon:
        raise _without_zoo(name)
    if zoo not in _CREATE:
        known = f"Known zoos: {', '.join(ZOOS)}. A name looks like {DEFAULT}."
        raise UnknownName("zoo", zoo, ZOOS, field="backbone", hint=known)
    if weights is not None and random is not None:
        raise UsageError(
            "A network starts from a file of weights or from random ones, not from both.",
            field="weights",
            hint="Leave one of them away.",
        )
    file = None if weights is None else Path(weights)
    return _CREATE[zoo](inner, Request(file, mean, std, size, allow_noncommercial, random))


def rebuild(architecture: Mapping[str, Any], input_spec: InputSpec) -> Backbone:
    """Build a backbone again, with random weights, to load saved ones into its network.

    Args:
        architecture: ``Backbone.architecture`` of the one that was saved.
        input_spec: Its input spec.

    Raises:
        ModelError: ``architecture`` does not describe a network of a known zoo.
    """
    if architecture.get("zoo") not in _CREATE:
        raise ModelError(f"There is no zoo named {architecture.get('zoo')!r}.", field="zoo")
    if architecture.get("architecture") == small.NAME:
        return small.rebuild(input_spec)
    return from_timm.rebuild(architecture, input_spec)


def _without_zoo(name: str) -> UnknownName:
    import timm

    named = [f"bundled:{known}" for known in bundled.NAMES]
    named += [f"timm:{known}" for known in timm.list_models()]
    inner = name.partition(".")[0]
    meant = [full for full in named if full.partition(":")[2] == inner]
    hint = f"Did you mean {meant[0].partition(':')[0]}:{name}?" if meant else None
    return UnknownName("backbone", name, named, field="backbone", hint=hint)
