"""Backbones from torchvision: its classification networks, and the trunks of its other ones.

``torchvision:resnet50`` has torchvision's default weights, ``torchvision:resnet50@IMAGENET1K_V1``
those of that name. torchvision is imported inside the functions, because that takes a second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from headstart.backbones import hub
from headstart.backbones.architecture import check_keys, from_earlier
from headstart.backbones.base import Backbone, Request
from headstart.backbones.blocks import cut
from headstart.backbones.licence import check_licence
from headstart.backbones.preprocess import decide, size_is_the_users
from headstart.backbones.torchvision_catalog import Entry, entry, is_trunk, listings
from headstart.backbones.trunks import (
    CONVERTING,
    arguments_of,
    classifier_of,
    new_network,
    stages_of,
)
from headstart.backbones.weights import load_weights
from headstart.backbones.weights_file import read_weights
from headstart.errors import ModelError
from headstart.inputspec import InputSpec

__all__ = ["create", "describe", "listings", "rebuild"]

_POSITIONS = "encoder.pos_embedding"
# DenseNet's published weights are older than the rule that a module's name has no dot.
_DOTTED = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..*)")


def create(name: str, request: Request) -> Backbone:
    """Create the torchvision network ``name``: ``resnet50`` or ``resnet50@IMAGENET1K_V1``.

    Raises:
        UnknownName: torchvision has no such network, or no such weights of it.
        UsageError: The licence forbids commercial use, or the request can't be met.
        MissingWeights: The weights are not on this machine and could not be downloaded.
        ModelError: The weights or the network can't be used.
        UnsafeFile: Reading the weights could run code.
    """
    found = entry(name)
    own = request.weights is None and request.random is None
    if own:
        check_licence(
            f"torchvision:{found.name}",
            found.licence,
            allow_noncommercial=request.allow_noncommercial,
        )
    spec, notes = decide(found.input_spec, found.network, request)
    random = request.random is not None and not request.pretrained_form
    architecture = describe(found, spec, random=random)
    architecture["name"] = name if request.weights is not None else found.name
    architecture = from_earlier(architecture, request)
    notes += _notes(found, architecture, request)
    with size_is_the_users(request):
        network = new_network(architecture, seed=request.random or 0)
        weights, more = _load(network, found, spec, request)
        return _assemble(
            architecture,
            network,
            spec,
            licence=found.licence if own else None,
            weights=weights,
            notes=notes + more,
        )


def rebuild(architecture: Mapping[str, Any], input_spec: InputSpec) -> Backbone:
    """Build the network that ``architecture`` describes again, with random weights.

    Raises:
        ModelError: It is not one that ``describe`` gave, or can't be made.
    """
    check_keys(architecture)
    return _assemble(architecture, new_network(architecture), input_spec)


def describe(found: Entry, spec: InputSpec, *, random: bool = False) -> dict[str, Any]:
    """Return the plain JSON from which ``rebuild`` makes the network.

    Args:
        found: The network and the weights it is made to fit.
        spec: Its input spec; a few networks are made for one size.
        random: Whether it gets random weights instead.
    """
    return {
        "zoo": "torchvision",
        "name": found.network,
        "architecture": found.network,
        "num_classes": 0 if is_trunk(found.network) else 1000,
        "arguments": arguments_of(found.network, found.tag, spec.height, random=random),
    }


def _assemble(
    architecture: Mapping[str, Any],
    network: nn.Module,
    spec: InputSpec,
    *,
    licence: str | None = None,
    weights: str = "random",
    notes: tuple[str, ...] = (),
) -> Backbone:
    classifier = classifier_of(network.eval())
    linear = False
    if classifier is not None:
        linear = isinstance(network.get_submodule(classifier), nn.Linear)
        network.set_submodule(classifier, nn.Identity())
    stages = stages_of(architecture["architecture"], network)
    result = cut(network, (spec.height, spec.width), stages)
    return Backbone(
        zoo="torchvision",
        name=architecture["name"],
        network=network,
        blocks=result.blocks,
        input_spec=spec,
        feature_dim=result.feature_dim,
        licence=licence,
        architecture=dict(architecture),
        classifier=classifier if linear else None,
        weights=weights,
        notes=notes + result.notes,
    )


def _notes(found: Entry, architecture: Mapping[str, Any], request: Request) -> tuple[str, ...]:
    notes = []
    if is_trunk(found.network) and request.size is None and request.weights is None:
        notes.append(
            f"{found.network} was not made to classify and takes images of many sizes; "
            f"{found.input_spec.height} pixels are an assumption, --size changes them."
        )
    if found.network in CONVERTING and request.weights is not None:
        notes.append(
            f"torchvision's {found.network} converts its input to -1..1 first, as its own weights "
            "need it; weights trained with transform_input=False don't fit that."
        )
    if "frozen_epsilon" in architecture["arguments"]:
        notes.append(
            "Its batch normalisation keeps the statistics and factors of its weights, as in "
            "torchvision's own training: these can't be trained."
        )
    return tuple(notes)


# --- weights ---------------------------------------------------------------------------------


def _load(
    network: nn.Module, found: Entry, spec: InputSpec, request: Request
) -> tuple[str, tuple[str, ...]]:
    """Give ``network`` its weights; say where they came from, and what the user should know."""
    if request.random is not None:
        return f"random, seed {request.random}", ()

    def convert(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return _converted(tensors, network, spec.height)

    if request.weights is not None:
        classifier = classifier_of(network)
        matched = load_weights(
            network,
            request.weights,
            () if classifier is None else (classifier,),
            allow_partial=request.allow_partial,
            convert=convert,
        )
        return matched.told, matched.notes
    path = hub.cached_file({"url": found.url})
    came = "downloaded" if path is None else "from the cache"
    if path is None:
        path = hub.download(f"torchvision:{found.name}", found.url)
    else:
        hub.check_hash(path)
    tensors = convert(read_weights(path))
    own = network.state_dict()
    try:
        # Auxiliary classifiers, and what lies beyond a trunk, have no place in the network.
        network.load_state_dict({name: tensors[name] for name in tensors if name in own})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path} does not fit torchvision:{found.name}: {reason}", field=str(path)
        ) from error
    return f"{found.name}, {came}", ()


def _converted(
    tensors: dict[str, torch.Tensor], network: nn.Module, side: int
) -> dict[str, torch.Tensor]:
    """Give tensors the names that modules have today, and positions the network's number."""
    tensors = {_DOTTED.sub(r"\1\2", name): tensor for name, tensor in tensors.items()}
    positions = tensors.get(_POSITIONS)
    own = network.state_dict().get(_POSITIONS)
    if positions is None or own is None or positions.shape == own.shape:
        return tensors
    return _resampled(tensors, side, patch=int(network.get_parameter("conv_proj.weight").shape[-1]))


def _resampled(
    tensors: dict[str, torch.Tensor], side: int, *, patch: int
) -> dict[str, torch.Tensor]:
    """Interpolate a vision transformer's positions for images of ``side`` pixels."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    try:
        return dict(interpolate_embeddings(side, patch, tensors))
    except (ValueError, RuntimeError):  # no square of positions; that they don't fit is told next
        return tensors
