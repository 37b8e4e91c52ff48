"""Blocks of a Keras network, cut on its graph of layers wherever exactly one tensor crosses.

Steps between two such places stay together. What people call a stage is read from the layers'
names, which families of ``keras.applications`` write in a few ways; where names say nothing, a step
belongs to what came before it. Keras numbers layers without a name through a whole program, so they
are numbered anew here, as in a program that makes nothing else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.backbones.base import Block
from headstart.backbones.keras_adapter import Graph, Step, Value, wrap
from headstart.backbones.stages import shortened, weight_matrices

__all__ = ["cut_graph", "own_names", "to_steps"]

_STEM = "stem"
# How layers are named, with the stage and, inside it, the unit that is not to be parted.
_NAMES = tuple(
    re.compile(pattern)
    for pattern in (
        r"(?P<unit>(?P<stage>conv\d)_block\d+)_.*",  # ResNet, DenseNet
        r"(?P<unit>(?P<stage>block\d)[a-z]+)_.*",  # EfficientNet
        r"(?P<unit>(?P<stage>block(?:35|17|8))_\d+).*",  # InceptionResNetV2
        r"(?P<stage>block\d+)_.*",  # VGG, Xception
        r"(?P<unit>(?P<stage>stage_\d)_block_\d+)_.*",  # ConvNeXt
        r"downsampling_[a-z]+_(?P<before>\d)",  # ConvNeXt, at the beginning of the next stage
        r"(?P<unit>(?P<stage>block_\d+))_.*",  # MobileNetV2
        r"(?P<unit>(?P<stage>expanded_conv(?:_\d+)?))_[a-z].*",  # MobileNetV2 and V3
        r"conv_(?:pad|dw|pw)_(?P<unit>(?P<stage>\d+)).*",  # MobileNet
        r"(?P<stage>mixed_?\d+[a-z]?)",  # Inception
        r"(?P<cells>normal|reduction)_.*",  # NASNet, whose cells all use the two before
    )
)


def to_steps(model: Any) -> list[Step]:
    """Turn a Keras functional model into steps, in an order in which they can run.

    Args:
        model: One tensor in, one tensor out; each layer is called once. Sequential models in it
            are taken apart.
    """
    calls = list(_calls(model))
    names = own_names([operation for operation, *_ in calls], prefix=f"{model.name}_")
    numbers = {id(model.inputs[0]): 0}
    steps: list[Step] = []
    for name, (operation, args, kwargs, output) in zip(names, calls, strict=True):
        number = len(steps) + 1
        numbers[id(output)] = number
        args, kwargs = _with_values(args, numbers), _with_values(kwargs, numbers)
        rank = len(output.shape)
        positions = math.prod(output.shape[1:-1]) if rank == 4 else 1
        steps.append(Step(name, wrap(operation), number, args, kwargs, rank, positions))
    return steps


def _calls(model: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield operation, arguments and output of each call, in the order of Keras's own list.

    Files of weights have this order, and it alone tells two branches of the same shapes apart.
    """
    depths = model._nodes_by_depth
    places = {id(operation): place for place, operation in enumerate(model.operations)}
    for depth in sorted(depths, reverse=True):
        for node in sorted(depths[depth], key=lambda node: places[id(node.operation)]):
            if node.is_input:
                continue
            if type(node.operation).__name__ == "Sequential":
                yield from _inside(node)
            else:
                arguments = node.arguments
                yield node.operation, arguments.args, arguments.kwargs, node.output_tensors[0]


def _inside(node: Any) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Yield the calls of a Sequential's layers; its own output stands for the last one's."""
    value, layers = node.input_tensors[0], node.operation.layers
    for layer in layers:
        last = layer is layers[-1]
        output = node.output_tensors[0] if last else layer.output
        yield layer, (value,), {}, output
        value = output


def _with_values(structure: Any, numbers: dict[int, int]) -> Any:
    if isinstance(structure, list | tuple):
        return type(structure)(_with_values(part, numbers) for part in structure)
    if isinstance(structure, dict):
        return {key: _with_values(part, numbers) for key, part in structure.items()}
    return Value(numbers[id(structure)]) if id(structure) in numbers else structure


def own_names(operations: Sequence[Any], prefix: str = "") -> list[str]:
    """Name operations the same in every program.

    A name that Keras made up, from the class and a running number, gets the rank of its number:
    ``conv2d_97`` and ``conv2d_103`` become ``conv2d`` and ``conv2d_1``. A prefix that is the
    network's own name is left away.
    """
    names = [re.sub(r"[./]", "_", o.name).removeprefix(prefix) for o in operations]
    made_up: dict[str, list[tuple[int, int]]] = {}
    for index, (name, operation) in enumerate(zip(names, operations, strict=True)):
        base, _, number = name.rpartition("_") if re.search(r"_\d+$", name) else (name, "", "0")
        if base.replace("_", "") == type(operation).__name__.lower():
            made_up.setdefault(base, []).append((int(number), index))
    for base, found in made_up.items():
        for rank, (_, index) in enumerate(sorted(found)):
            names[index] = f"{base}_{rank}" if rank else base
    return names


@dataclass(frozen=True, slots=True)
class _Part:
    """Steps that stay together, where they belong, and the values they take and give."""

    steps: tuple[Step, ...]
    stage: str
    unit: str

    def __add__(self, other: _Part) -> _Part:
        return _Part(self.steps + other.steps, self.stage, self.unit or other.unit)

    @property
    def matrices(self) -> int:
        return sum(weight_matrices(step.module) for step in self.steps)


def cut_graph(steps: Sequence[Step], size: tuple[int, int]) -> tuple[Block, ...]:
    """Cut the steps into about twenty blocks at most, the last one from global pooling on.

    Args:
        steps: As ``to_steps`` gave them.
        size: Height and width of the network's input, in pixels.
    """
    *body, pool = _runs(steps)
    parts = shortened(_joined(_placed(body)))
    blocks = []
    source = 0
    for part in parts:
        alone = sum(other.stage == part.stage for other in parts) == 1
        name = part.stage if alone else part.unit
        last = part.steps[-1]
        stride = round(math.sqrt(math.prod(size) / last.positions))
        blocks.append(_block(name, part.stage, stride, part.steps, source))
        source = last.number
    stage = parts[-1].stage if any(list(s.module.parameters()) for s in pool) else "pool"
    return (*blocks, _block("pool", stage, 0, pool, source))


def _block(name: str, stage: str, stride: int, steps: Sequence[Step], source: int) -> Block:
    graph = Graph(steps, source, steps[-1].number)
    parameters = tuple(name for name, _ in graph.named_parameters())
    return Block(name, stage, stride, graph, parameters)


def _runs(steps: Sequence[Step]) -> list[tuple[Step, ...]]:
    """Part the steps where one value is alive that is a map; the last run is the rest."""
    last_use = {number: step.number for step in steps for number in step.inputs()}
    runs: list[tuple[Step, ...]] = []
    start, alive = 0, {0}
    for index, step in enumerate(steps[:-1]):
        alive = {number for number in alive | {step.number} if last_use[number] > step.number}
        if len(alive) == 1 and step.number in alive and step.rank == 4:
            runs.append(tuple(steps[start : index + 1]))
            start = index + 1
    return [*runs, tuple(steps[start:])]


def _placed(runs: Sequence[tuple[Step, ...]]) -> list[_Part]:
    """Find the stage and the unit of each run; one without a name follows the one before."""
    parts: list[_Part] = []
    for run in runs:
        stage, unit = _place(run)
        if not stage:
            stage = parts[-1].stage if parts else _STEM
            unit = unit if any(weight_matrices(step.module) for step in run) else ""
        parts.append(_Part(run, stage, unit))
    return parts


def _place(run: Sequence[Step]) -> tuple[str, str]:
    """Read stage and unit from the last layer whose name says them; "" where none does."""
    weighted = [step.name for step in run if weight_matrices(step.module)]
    first = (weighted or [run[0].name])[0]
    for step in reversed(run):
        for pattern in _NAMES:
            found = pattern.fullmatch(step.name)
            if found:
                named = found.groupdict()
                return _stage(named), named.get("unit") or (first if weighted else "")
    return "", first


def _stage(named: Mapping[str, str | None]) -> str:
    """Name the stage that a pattern found, as people call it."""
    if "cells" in named:
        return "cells"
    if "before" in named:
        return f"stage_{int(named['before'] or 0) + 1}"
    stage = named["stage"] or ""
    return f"conv_{stage}" if stage.isdigit() else stage


def _joined(parts: Sequence[_Part]) -> list[_Part]:
    """Join neighbours of one stage that are of one unit, or without a weight matrix."""
    joined: list[_Part] = []
    for part in parts:
        before = joined[-1] if joined else part
        together = before is not part and before.stage == part.stage
        alike = part.unit == before.unit or part.stage == _STEM
        if together and (alike or not (part.matrices and before.matrices)):
            joined[-1] += part
        else:
            joined.append(part)
    return joined
