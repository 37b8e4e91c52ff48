"""A classifier on a network of Keras's as Keras's own file, for TensorFlow and JAX as well."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn

from headstart.backbones.base import Backbone
from headstart.backbones.from_keras import new_model
from headstart.backbones.keras_adapter import Graph
from headstart.backbones.keras_backend import building, load_keras
from headstart.backbones.keras_blocks import to_steps
from headstart.errors import ModelError

__all__ = ["keras_file"]


def keras_file(backbone: Backbone, head: nn.Module) -> bytes:
    """Return a ``.keras`` file: images (N, H, W, 3) -> probabilities (N, classes).

    Images are prepared as ``backbone.input_spec`` says, with their channels last.

    Args:
        backbone: From Keras.
        head: A linear layer, or a row of linear layers, dropout and ReLU.

    Raises:
        ModelError: The head has a layer of another kind.
        MissingExtra: Keras is not installed.
        UsageError: Keras runs on another backend.
    """
    keras = load_keras(backbone.full_name)
    model = new_model(backbone.name, backbone.input_spec)
    steps = to_steps(model)
    network = Graph(steps, 0, steps[-1].number)
    network.load_state_dict(backbone.network.state_dict())
    for step in steps:
        step.module.store()
    with building(keras):
        outputs = model.output
        for layer in _layers(keras, head):
            outputs = layer(outputs)
        outputs = keras.layers.Softmax(name="headstart_probabilities")(outputs)
        whole = keras.Model(model.input, outputs, name="headstart_classifier")
        _fill(whole, head)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.keras"
            with warnings.catch_warnings():  # Keras is slow to follow numpy's
                warnings.simplefilter("ignore")
                whole.save(path)
            return path.read_bytes()


def _layers(keras: Any, head: nn.Module) -> Iterator[Any]:
    for number, layer in enumerate(_parts(head)):
        if isinstance(layer, nn.Linear):
            yield keras.layers.Dense(layer.out_features, name=f"headstart_head_{number}")
        elif isinstance(layer, nn.ReLU):
            yield keras.layers.ReLU(name=f"headstart_relu_{number}")
        elif isinstance(layer, nn.Dropout):
            yield keras.layers.Dropout(layer.p, name=f"headstart_dropout_{number}")
        else:
            raise ModelError(f"A head with a {type(layer).__name__} can't be written for Keras.")


def _fill(whole: Any, head: nn.Module) -> None:
    """Give the Dense layers the head's numbers; Keras has inputs before outputs in a kernel."""
    for number, layer in enumerate(_parts(head)):
        if isinstance(layer, nn.Linear):
            dense = whole.get_layer(f"headstart_head_{number}")
            bias = torch.zeros(layer.out_features) if layer.bias is None else layer.bias
            dense.kernel.assign(layer.weight.detach().cpu().T)
            dense.bias.assign(bias.detach().cpu())


def _parts(head: nn.Module) -> list[nn.Module]:
    return list(head.children()) or [head]
