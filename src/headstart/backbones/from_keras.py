"""Backbones from Keras: the networks of ``keras.applications`` on its torch backend.

``keras:MobileNetV2`` is the network without its classifier and with global average pooling, as
``include_top=False, pooling="avg"`` makes it. Keras builds the graph; its files of weights are read
by :mod:`headstart.backbones.keras_weights`, and what runs and learns is
:mod:`headstart.backbones.keras_adapter`. Nothing here imports Keras before one of its networks is
asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from headstart.backbones.base import Backbone, Request
from headstart.backbones.keras_adapter import Graph
from headstart.backbones.keras_backend import building, load_keras
from headstart.backbones.keras_blocks import cut_graph, to_steps
from headstart.backbones.keras_catalog import entry, fetch, listings, names
from headstart.backbones.keras_h5 import is_h5
from headstart.backbones.keras_weights import load_keras_file
from headstart.backbones.preprocess import decide
from headstart.backbones.weights import load_weights
from headstart.errors import HeadstartError, ModelError, UnknownName, UsageError
from headstart.inputspec import InputSpec

__all__ = ["create", "listings", "names", "new_model", "rebuild"]

_NO_TORCH = "NASNetMobile"
# Keras refuses the network on torch because of an error in its convolutions that is mended; its
# features here agree with those on JAX to five digits. Arguments as Keras's function gives them.
_NASNET_MOBILE = {
    "penultimate_filters": 1056,
    "num_blocks": 4,
    "stem_block_filters": 32,
    "skip_reduction": False,
    "filter_multiplier": 2,
    "default_size": 224,
}


def create(name: str, request: Request) -> Backbone:
    """Create the Keras network ``name``, such as ``MobileNetV2``.

    Raises:
        UnknownName: Keras has no such network.
        MissingExtra: Keras is not installed.
        UsageError: Keras runs on another backend, or the request can't be met.
        MissingWeights: The weights are not on this machine and could not be downloaded.
        ModelError: The weights or the network can't be used.
        UnsafeFile: Reading the weights could run code or reach other files.
    """
    found = entry(name)
    spec, notes = decide(found.input_spec, name, request)
    if request.weights is None and request.random is None:
        path, how = fetch(found, spec.height)
        model = new_model(name, spec, asked=request.size)
        backbone = _assemble(model, name, spec, f"ImageNet, {path.name}, {how}", notes)
        _load_published(backbone, path, f"{model.name}_")
        return backbone
    model = new_model(name, spec, asked=request.size, seed=request.random or 0)
    if request.weights is None:
        return _assemble(model, name, spec, f"random, seed {request.random}", notes)
    backbone = _assemble(model, name, spec)
    file, partial = request.weights, request.allow_partial
    if is_h5(file):
        published = file.name in {each.file for each in found.weights.values()}
        matched = load_keras_file(
            backbone.network, file, f"{model.name}_", allow_partial=partial, published=published
        )
    else:
        matched = load_weights(backbone.network, file, allow_partial=partial)
    return replace(backbone, weights=matched.told, notes=notes + matched.notes)


def _load_published(backbone: Backbone, path: Path, prefix: str) -> None:
    """Load the file that Keras publishes, which is all of the network and nothing else.

    Keras has no hash for some, and its own way of loading follows whatever the file points to.
    """
    hint = "Delete it, and it is downloaded again."
    try:
        matched = load_keras_file(backbone.network, path, prefix, published=True)
    except ModelError as error:
        raise type(error)(error.message, field=str(path), hint=hint) from error
    if matched.random or matched.unexpected:
        raise ModelError(
            f"{path} does not fit {backbone.full_name}: {matched}.", field=str(path), hint=hint
        )


def rebuild(architecture: Mapping[str, Any], input_spec: InputSpec) -> Backbone:
    """Build the network that ``architecture`` describes again, with random weights.

    Raises:
        ModelError: It is not one that ``create`` gave.
        MissingExtra: Keras is not installed.
        UsageError: Keras runs on another backend.
    """
    name = architecture.get("architecture")
    try:
        entry(str(name))
    except UnknownName as error:
        raise ModelError(f"Keras has no network {name!r}.", field="architecture") from error
    return _assemble(new_model(str(name), input_spec), str(name), input_spec)


def new_model(
    name: str,
    spec: InputSpec,
    *,
    asked: int | None = None,
    seed: int = 0,
) -> Any:
    """Let Keras build a network without its classifier: (B, H, W, 3) -> (B, feature_dim).

    Args:
        name: Keras's name for it.
        spec: Its input; only the size counts.
        asked: The size that the user asked for, if any.
        seed: Of the weights.

    Raises:
        UsageError: The network can't take images of the size that was asked for.
        ModelError: The network can't be built.
    """
    keras = load_keras(f"keras:{name}")
    arguments: dict[str, Any] = {"include_top": False, "pooling": "avg", "weights": None}
    arguments["input_shape"] = (spec.height, spec.width, 3)
    make = getattr(keras.applications, name)
    if name == _NO_TORCH:
        from keras.src.applications.nasnet import NASNet

        make, arguments = NASNet, arguments | _NASNET_MOBILE
    with building(keras, seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return make(**arguments)
        except ValueError as error:
            raise _wrong_size(name, spec, asked, str(error)) from error


def _wrong_size(name: str, spec: InputSpec, asked: int | None, reason: str) -> HeadstartError:
    message = f"keras:{name} can't take images of {spec.height} x {spec.width} pixels: "
    message += reason.splitlines()[0]
    if asked is None:
        return ModelError(message, field="size")
    return UsageError(message, field="size", hint="Choose a larger --size.")


def _assemble(
    model: Any, name: str, spec: InputSpec, weights: str = "random", notes: tuple[str, ...] = ()
) -> Backbone:
    steps = to_steps(model)
    network = Graph(steps, 0, steps[-1].number)
    return Backbone(
        zoo="keras",
        name=name,
        network=network.eval(),
        blocks=cut_graph(steps, (spec.height, spec.width)),
        input_spec=spec,
        feature_dim=model.output_shape[-1],
        licence=None,
        architecture={"zoo": "keras", "name": name, "architecture": name},
        classifier=None,
        weights=weights,
        notes=notes,
    )
