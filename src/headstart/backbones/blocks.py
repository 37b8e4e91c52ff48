"""Cutting any network into blocks, without code for any one network.

The line of the network's forward (:mod:`headstart.backbones.line`) is cut where one tensor with a
row for each image is alive and no saved tensor is used on both sides; large containers are cut
further. Small steps join (:mod:`headstart.backbones.stages`), and everything from global pooling on
is the pool block. The steps are run beside the network; where they are not bit-equal to it, the
network stays in one piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from headstart.backbones.base import Block
from headstart.backbones.line import Piece, pieces
from headstart.backbones.stages import MOST_BLOCKS, Step, join, weight_matrices
from headstart.backbones.trace import Untraceable, equal, training_mode
from headstart.errors import ModelError

__all__ = ["Cut", "cut"]


@dataclass(frozen=True, slots=True)
class Cut:
    """The blocks of a network, the length of its features, and what to say about the cut."""

    blocks: tuple[Block, ...]
    feature_dim: int
    notes: tuple[str, ...] = ()


def cut(network: nn.Module, size: tuple[int, int], groups: Mapping[str, int] | None = None) -> Cut:
    """Cut ``network`` into blocks that, chained, are bit-equal to it.

    Args:
        network: Takes (B, 3, H, W) and gives (B, feature_dim): its classifier is already off.
        size: Height and width of an input it accepts, in pixels.
        groups: Number of the stage of each parameter, ascending from input to output; by default
            the children of the network, or of the container that is most of it.

    Raises:
        ModelError: The network does not give one feature vector for each image.
    """
    sample = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    sample = sample.to(next((p.device for p in network.parameters()), sample.device))
    names = tuple(name for name, _ in network.named_parameters())
    groups = groups or _children(network)
    notes: tuple[str, ...] = ()
    with training_mode(network, training=False), torch.no_grad():
        features = _features(network, sample)
        blocks, reason = _attempt(network, sample, features, groups, sized=False)
        if 2 * len({block.stage for block in blocks}) < len(set(groups.values())):
            sized, _ = _attempt(network, sample, features, groups, sized=True)
            if len(sized) > len(blocks):
                blocks = sized
                notes = (f"Its blocks take images of {size[0]} x {size[1]} pixels only.",)
    if not blocks:
        blocks = (Block("network", "network", 0, network, names),)
        notes = (f"The network could not be cut and is one block: {reason}.",)
    return Cut(blocks, features.shape[1], notes)


def _attempt(
    network: nn.Module,
    sample: torch.Tensor,
    features: torch.Tensor,
    groups: Mapping[str, int],
    *,
    sized: bool,
) -> tuple[tuple[Block, ...], str]:
    """Cut the network; where that fails, say why."""
    try:
        line = pieces(network, sample=sample if sized else None)
        steps = _steps(network, line, sample, groups)
        if not equal(steps[-1].output, features):
            return (), "its parts in a row give another result"
        if {name for step in steps for name in step.parameters} != set(groups):
            return (), "its forward leaves some of its parameters out"
        height, width = sample.shape[2:]
        return join(_runs(steps), groups, (height, width)), ""
    except Untraceable as error:
        return (), str(error)


def _features(network: nn.Module, sample: torch.Tensor) -> torch.Tensor:
    height, width = sample.shape[2:]
    try:
        features = network(sample.clone())
    except Exception as error:  # whatever the network's own code raises
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        message = f"The network fails on images of {height} x {width} pixels: {reason}"
        raise ModelError(message, field="size") from error
    if not isinstance(features, torch.Tensor) or features.ndim != 2:
        raise ModelError(
            "A backbone must give one feature vector for each image; this network gives "
            f"{_describe(features)}."
        )
    return features


def _describe(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape (B, {', '.join(str(length) for length in value.shape[1:])})"
    return f"a {type(value).__name__}"


def _children(network: nn.Module) -> dict[str, int]:
    """Number the stages of a network about which nothing is known.

    They are its children; where one container holds most of it, the children of that.
    """
    sizes = {name: _size(child) for name, child in network.named_children()}
    large = [name for name, size in sizes.items() if size > sum(sizes.values()) / 10]
    main = large[0] if len(large) == 1 and _is_container(network.get_submodule(large[0])) else None
    order: dict[tuple[str, ...], int] = {}
    groups = {}
    for name, _ in network.named_parameters():
        path = name.split(".")
        stage = tuple(path[: 2 if path[0] == main else 1])
        groups[name] = order.setdefault(stage, len(order))
    return groups


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _steps(
    network: nn.Module, line: list[Piece], sample: torch.Tensor, groups: Mapping[str, int]
) -> list[Step]:
    names = {id(tensor): name for name, tensor in network.named_parameters()}
    stages = {tensor: groups[name] for tensor, name in names.items()}
    steps = _run(_expand(line, stages), sample.clone(), names)
    pooling = _last_map(steps) + 1
    if 0 < pooling < len(steps) and steps[pooling].piece.whole:
        before = steps[pooling - 1].output
        steps[pooling : pooling + 1] = _part_pooling(steps[pooling], before, names)
    return steps


def _run(line: Sequence[Piece], value: Any, names: Mapping[int, str]) -> list[Step]:
    steps = []
    for piece in line:
        value = piece.module(value)
        # A copy, because the next piece may change its input in place.
        output = value.clone() if isinstance(value, torch.Tensor) else value
        parameters = tuple(names[id(tensor)] for tensor in piece.module.parameters())
        steps.append(Step(piece, parameters, output))
    return steps


def _part_pooling(step: Step, value: torch.Tensor, names: Mapping[int, str]) -> list[Step]:
    """Cut the step that pools, where it does something to the map before."""
    try:
        inner = _run(pieces(step.piece.module, step.piece.name), value.clone(), names)
    except Untraceable:
        return [step]
    return inner if _last_map(inner) >= 0 else [step]


def _last_map(steps: Sequence[Step]) -> int:
    """Index of the last step whose output has several positions, or -1."""
    maps = [index for index, step in enumerate(steps) if _is_map(step.output)]
    return max(maps, default=-1)


def _is_map(value: Any) -> bool:
    """Whether it has several positions: (B, C, H, W), (B, H, W, C) or (B, N, C)."""
    return isinstance(value, torch.Tensor) and sum(length > 1 for length in value.shape[1:]) > 1


def _expand(line: list[Piece], stages: Mapping[int, int]) -> list[Piece]:
    """Cut containers that run modules one after another, the largest first."""
    kept: set[str] = set()
    while True:
        rest = [p for p in line if p.whole and p.name not in kept and _is_container(p.module)]
        if not rest:
            return line
        largest = max(rest, key=lambda piece: _size(piece.module))
        own = {id(tensor) for tensor in largest.module.parameters()}
        numbers = {stages[tensor] for tensor in own}
        several = len(numbers) > 1
        whole = {tensor for tensor, number in stages.items() if number in numbers} <= own
        inner = _inside(largest, several=several, whole=whole)
        index = line.index(largest)
        longer = [*line[:index], *inner, *line[index + 1 :]]
        if _heavy(line) < _heavy(longer) and (several or _heavy(longer) <= MOST_BLOCKS):
            line = longer
        else:
            kept.add(largest.name)


def _inside(piece: Piece, *, several: bool, whole: bool) -> list[Piece]:
    """The pieces of a container; where all its weight is in one row of blocks, the blocks too.

    Args:
        piece: The container.
        several: Whether it holds several stages: then what is done between its modules may be cut.
        whole: Whether all of each stage in it is in it.
    """
    try:
        inner = pieces(piece.module, piece.name)
    except Untraceable:
        return [piece]
    if not (several or all(part.whole for part in inner)):
        return [piece]
    heavy = [part for part in inner if weight_matrices(part.module)]
    row = len(heavy) == 1 and heavy[0].whole and _is_container(heavy[0].module)
    if row and (several or (whole and _is_row_of_blocks(heavy[0].module))):
        index = inner.index(heavy[0])
        inner[index : index + 1] = _inside(heavy[0], several=several, whole=whole)
    return inner


def _is_row_of_blocks(module: nn.Module) -> bool:
    """Whether nothing in it that has weight is a bare layer."""
    return 1 not in [weight_matrices(child) for child in module.children()]


def _heavy(line: Sequence[Piece]) -> int:
    return sum(weight_matrices(piece.module) > 0 for piece in line)


def _is_container(module: nn.Module) -> bool:
    kinds = (nn.Sequential, nn.ModuleList)
    return isinstance(module, kinds) or any(isinstance(m, kinds) for m in module.children())


def _runs(steps: Sequence[Step]) -> list[list[Step]]:
    """Part the steps wherever a block may end; the last run begins with global pooling."""
    last_use = {
        id(tensor): index
        for index, step in enumerate(steps)
        for tensor in step.piece.module.state_dict(keep_vars=True).values()
    }
    runs: list[list[Step]] = [[]]
    until = -1
    for index, step in enumerate(steps):
        runs[-1].append(step)
        tensors = step.piece.module.state_dict(keep_vars=True).values()
        until = max([until, *(last_use[id(tensor)] for tensor in tensors)])
        if until <= index <= _last_map(steps) and _has_rows(step.output, steps[-1].output):
            runs.append([])
    if len(runs) == 1:
        raise Untraceable("nowhere does one map hold all that is known of an image")
    return runs


def _has_rows(value: Any, features: torch.Tensor) -> bool:
    return isinstance(value, torch.Tensor) and value.shape[:1] == features.shape[:1]
