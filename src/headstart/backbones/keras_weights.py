"""Files of weights that Keras wrote, loaded into the network they are of.

Each array is given to the layer of its name. Keras numbers layers without a name through a whole
program, so these are compared by rank; where names don't help, and in files that Keras publishes,
arrays are paired in the order of the layers, as Keras itself does, if every shape agrees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from headstart.backbones.keras_h5 import Array, Layer, read_layers
from headstart.backbones.weights import Match, match

__all__ = ["load_keras_file", "rescale_like_imagenet"]

_RESCALING = re.compile(r"rescaling(_\d+)?")
# Keras 2's name for what Keras 3 calls the kernel of a depthwise convolution.
_OLD_NAMES = {"depthwise_kernel": "kernel"}


def load_keras_file(
    network: nn.Module,
    path: Path,
    prefix: str = "",
    *,
    allow_partial: bool = False,
    published: bool = False,
) -> Match:
    """Load a Keras file into ``network``, matched by layers' names and shapes.

    Args:
        network: Takes the weights, in place.
        path: The file.
        prefix: What Keras puts before the names of some networks' layers.
        allow_partial: Take what fits, however little, and leave the rest random.
        published: Whether it is the file that Keras downloads for this network.

    Returns:
        What matched; as a string, its summary.

    Raises:
        MissingExtra: The package that reads HDF5 is not installed.
        UnsafeFile: It points to other files, or unpacks to more than it is.
        ModelError: It can't be read, or does not fit the network.
    """
    layers = read_layers(path)
    own = network.state_dict()
    named = _by_name(layers, own, prefix)
    if published or 2 * len(named.keys() & own.keys()) < len(own):
        named = _by_order(layers, own) or named
    tensors = {name: _tensor(value) for name, value in named.items()}
    found = match(own, tensors, source=path.name, allow_partial=allow_partial)
    network.load_state_dict(dict(found.values), strict=False)
    # EfficientNet's published weights go with one layer more, right after the normalisation.
    if published or sum(bool(_RESCALING.fullmatch(layer.path[-1])) for layer in layers) > 1:
        rescale_like_imagenet(network)
    return found


def _tensor(value: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(value, dtype=value.dtype.newbyteorder("=")))


def rescale_like_imagenet(network: nn.Module) -> None:
    """Fold the division by the root of ImageNet's deviations into an EfficientNet's normalisation.

    Keras adds a layer for it to networks that it makes with its ImageNet weights, and to no others.
    Networks without a normalisation of their own numbers stay as they are.
    """
    variance = dict(network.named_buffers()).get("normalization.variance")
    if variance is not None:
        variance *= variance.new_tensor([0.229, 0.224, 0.225])


def _by_name(
    layers: Sequence[Layer], own: dict[str, torch.Tensor], prefix: str
) -> dict[str, Array]:
    variables: dict[str, list[str]] = {}
    for name in own:
        own_layer, _, own_variable = name.rpartition(".")
        variables.setdefault(own_layer, []).append(own_variable)
    renumbered = _renumbered(layers, set(variables))
    named: dict[str, Array] = {}
    for layer in layers:
        target = _target(layer, variables, renumbered, prefix)
        for name, value in layer.variables:
            variable = None if target is None else _variable(name, variables[target])
            named[f"{target}.{variable}" if variable else ".".join((*layer.path, name))] = value
    return named


def _target(
    layer: Layer, own: dict[str, list[str]], renumbered: dict[tuple[str, ...], str], prefix: str
) -> str | None:
    """Find the network's layer that a layer of the file is."""
    if layer.path in renumbered:
        return renumbered[layer.path]
    for start in range(len(layer.path)):
        name = re.sub(r"[./]", "_", "_".join(layer.path[start:]))
        for candidate in (name, name.removeprefix(prefix)):
            if candidate in own:
                return candidate
    return None


def _variable(name: str, own: Sequence[str]) -> str | None:
    if name.isdecimal():
        return own[int(name)] if int(name) < len(own) else None
    if name in own:
        return name
    old = _OLD_NAMES.get(name)
    return old if old in own else None


def _renumbered(layers: Sequence[Layer], own: set[str]) -> dict[tuple[str, ...], str]:
    """Pair layers that only a running number tells apart, by the rank of their numbers."""
    renumbered: dict[tuple[str, ...], str] = {}
    for base in sorted(own):
        group = sorted((name for name in own if _base(name) == base), key=_number)
        there = sorted(
            (layer.path for layer in layers if layer.variables and _base(layer.path[-1]) == base),
            key=lambda path: _number(path[-1]),
        )
        if len(group) > 1 and len(there) == len(group):
            renumbered |= dict(zip(there, group, strict=True))
    return renumbered


def _base(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _number(name: str) -> int:
    found = re.search(r"_(\d+)$", name)
    return int(found[1]) if found else 0


def _by_order(layers: Sequence[Layer], own: dict[str, torch.Tensor]) -> dict[str, Array] | None:
    """Pair arrays and tensors in their order; None where they don't agree, each and every one."""
    values = [value for layer in layers for _, value in layer.variables]
    shapes = [tuple(tensor.shape) for tensor in own.values()]
    if [value.shape for value in values[: len(shapes)]] != shapes:
        return None
    rest = {f"array {index}": value for index, value in enumerate(values[len(shapes) :])}
    return dict(zip(own, values, strict=False)) | rest
