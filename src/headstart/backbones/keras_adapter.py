"""Keras's operations as torch modules, and graphs of them: images with channels first outside.

Each operation computes what Keras's own code computes, on the torch backend. Its numbers live here,
not in Keras: what it learns are parameters of the module, its statistics are buffers, and Keras is
lent both for the time of a call. So a network can be moved, copied, saved and frozen like any other
of torch's, and no statistics are taken for something to learn. Whether an operation trains is said
by ``train()`` and ``eval()`` and handed to Keras with the call.

Between the operations of a graph, maps have their channels last, as the networks were written.
Chance comes from torch's generator, as in every other network.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

__all__ = ["Graph", "Operation", "Step", "Value", "wrap"]

_DEPTHWISE = ("DepthwiseConv2D", "SeparableConv2D")


@dataclass(frozen=True, slots=True)
class Value:
    """The place of a tensor in a graph: 0 is its input, n what its n-th step makes."""

    number: int


@dataclass(frozen=True, slots=True)
class Step:
    """One operation of a graph and what it is called with.

    Attributes:
        name: Unique in the network; the module's name in it.
        module: The operation.
        number: Of the value that it makes.
        args: Positional arguments; tensors are ``Value``, also inside lists.
        kwargs: Further arguments, likewise.
        rank: How many dimensions the result has.
        positions: How many positions a result of rank 4 has.
    """

    name: str
    module: Operation
    number: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    rank: int
    positions: int

    def inputs(self) -> set[int]:
        """Return the numbers of the values that the step uses."""
        found: set[int] = set()
        _map((self.args, self.kwargs), lambda value: found.add(value.number))
        return found


class _Template:
    """A Keras operation, whose variables are stand-ins; copies of a module share it."""

    def __init__(self, operation: Any, variables: dict[str, Any]) -> None:
        self.operation = operation
        self.variables = variables
        self.takes_training = "training" in inspect.signature(operation.call).parameters

    def __deepcopy__(self, memo: dict[int, Any]) -> _Template:
        return self


class Operation(nn.Module):
    """One operation of Keras's: a layer, or a function such as adding.

    Args:
        operation: Built; its variables' numbers are taken over.

    Attributes:
        is_depthwise: Whether it convolves each channel for itself, as separable convolutions begin.
    """

    def __init__(self, operation: Any) -> None:
        super().__init__()
        self._template = _Template(operation, _variables(operation))
        self.is_depthwise = type(operation).__name__ in _DEPTHWISE
        for name, variable in self._template.variables.items():
            value = variable.value.detach()
            if variable.trainable:
                self.register_parameter(name, nn.Parameter(value))
            else:
                self.register_buffer(name, value)

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute as Keras does; statistics follow the batch in training mode only."""
        keras = sys.modules["keras"]
        template = self._template
        if template.takes_training:
            kwargs = {**kwargs, "training": self.training}
        state = [(variable, getattr(self, name)) for name, variable in template.variables.items()]
        with keras.device(_device(args)), keras.StatelessScope(state) as scope:
            result: torch.Tensor = template.operation.call(*args, **kwargs)
        if self.training and self._buffers:
            self._follow(scope)
        return result

    def _follow(self, scope: Any) -> None:
        """Take over what the call made of the statistics."""
        with torch.no_grad():
            for name in self._buffers:
                value = scope.get_current_value(self._template.variables[name])
                if value is not getattr(self, name):
                    getattr(self, name).copy_(value)

    def store(self) -> None:
        """Give Keras's own variables the numbers that are here."""
        for name, variable in self._template.variables.items():
            variable.assign(getattr(self, name).detach().cpu())

    def extra_repr(self) -> str:
        """Name Keras's class."""
        return type(self._template.operation).__name__


class BatchNorm(Operation):
    """Keras's batch normalisation; its name tells others what it is."""


class LayerNorm(Operation):
    """Keras's layer normalisation; its name tells others what it is."""


class Dropout(Operation):
    """Dropout of values, or of whole images where the layer says so.

    Keras would draw from a generator of its own, which a resumed run could not set.
    """

    def forward(self, inputs: torch.Tensor, **_: Any) -> torch.Tensor:
        """Drop in training mode only."""
        layer = self._template.operation
        if not self.training or not layer.rate:
            return inputs
        if layer.noise_shape is None:
            return F.dropout(inputs, layer.rate)
        shape = [
            own if length is None else length
            for own, length in zip(inputs.shape, layer.noise_shape, strict=True)
        ]
        return inputs * F.dropout(inputs.new_ones(shape), layer.rate)


class Standardise(Operation):
    """Keras's ``Normalization`` with mean and variance from the file of weights.

    Keras copies them when it builds the network; here they are always the present ones.
    """

    mean: torch.Tensor
    variance: torch.Tensor

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Subtract the mean and divide by the deviation, channel by channel."""
        deviation = self.variance.sqrt().clamp_min(1e-7)
        return (inputs - self.mean) / deviation


_MODULES = {"BatchNormalization": BatchNorm, "LayerNormalization": LayerNorm, "Dropout": Dropout}


def wrap(operation: Any) -> Operation:
    """Make the module of a Keras operation."""
    kind = type(operation).__name__
    if kind == "Normalization" and operation.input_mean is None:
        return Standardise(operation)
    return _MODULES.get(kind, Operation)(operation)


class InputLayer(nn.Module):
    """Stands where Keras lists its layer of that name, so that ``layer:0..99`` means the same."""


class Graph(nn.Module):
    """Operations of Keras's in a row; the whole network, or a block of it.

    Args:
        steps: In an order in which they can run.
        source: Number of the value that the graph takes, a map or a row for each image.
        result: Number of the value that it gives.
    """

    def __init__(self, steps: Sequence[Step], source: int, result: int) -> None:
        super().__init__()
        self._source, self._result = source, result
        self._calls = [(s.name, s.number, s.args, s.kwargs) for s in steps]
        last_use = {number: index for index, s in enumerate(steps) for number in s.inputs()}
        self._over: list[list[int]] = [[] for _ in steps]
        for number, index in last_use.items():
            if number != result:
                self._over[index].append(number)
        if source == 0:
            self.add_module("input_layer", InputLayer())
        for step in steps:
            self.add_module(step.name, step.module)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run: (B, C, H, W) or (B, D) -> (B, C', H', W') or (B, D')."""
        values = {self._source: images.permute(0, 2, 3, 1) if images.ndim == 4 else images}
        for (name, number, args, kwargs), over in zip(self._calls, self._over, strict=True):
            args, kwargs = _map((args, kwargs), lambda value: values[value.number])
            values[number] = self._modules[name](*args, **kwargs)  # type: ignore[misc]
            for used in over:
                del values[used]
        result = values[self._result]
        return result.permute(0, 3, 1, 2) if result.ndim == 4 else result


def _map(structure: Any, change: Any) -> Any:
    """Replace every ``Value`` in nested tuples, lists and dicts."""
    if isinstance(structure, Value):
        return change(structure)
    if isinstance(structure, list | tuple):
        return type(structure)(_map(part, change) for part in structure)
    if isinstance(structure, dict):
        return {key: _map(part, change) for key, part in structure.items()}
    return structure


def _device(args: Any) -> str:
    found: list[torch.Tensor] = []

    def collect(structure: Any) -> None:
        if isinstance(structure, torch.Tensor):
            found.append(structure)
        elif isinstance(structure, list | tuple):
            for part in structure:
                collect(part)

    collect(args)
    return str(found[0].device)


def _variables(operation: Any) -> dict[str, Any]:
    """Return the variables of a layer by name, what is learned first.

    A variable that its author gave no name is numbered by Keras, differently in each program; it
    gets the name of the attribute that holds it.
    """
    found = {}
    for variable in getattr(operation, "weights", ()):
        name = variable.name
        if re.fullmatch(r"variable(_\d+)?", name):
            name = next(key for key, held in vars(operation).items() if held is variable)
        found[name] = variable
    return found
