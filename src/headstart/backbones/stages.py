"""From the steps of a network's forward to blocks: what stays together, and which stage it is in.

A stage is what people call a block of the network (``layer4``, ``blocks.6``). The zoo says which
parameters are in it; its name is the shortest beginning of their names that is theirs alone. A last
layer with one weight matrix beside the stages (``norm``, ``conv_head``) belongs to the last stage;
several matrices, as VGG's fully connected layers have, are a stage of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from headstart.backbones.base import Block
from headstart.backbones.line import Piece

__all__ = ["MOST_BLOCKS", "Step", "join", "shortened", "weight_matrices"]

P = TypeVar("P", bound="Staged")
MOST_BLOCKS = 20  # more only where a network has more stages


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of the line, the names of its parameters, and what it made of a sample."""

    piece: Piece
    parameters: tuple[str, ...]
    output: Any


class Staged(Protocol):
    """A part of a network that is in one stage, and can be joined to the part that follows."""

    @property
    def stage(self) -> str:
        """The stage's name."""

    def __add__(self: P, other: P, /) -> P:
        """Return both as one part."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Steps that stay together."""

    steps: tuple[Step, ...]
    stage: str = ""

    @property
    def name(self) -> str:
        with_parameters = (step for step in self.steps if step.parameters)
        return next(with_parameters, self.steps[0]).piece.name

    @property
    def parameters(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for step in self.steps for name in step.parameters))

    @property
    def matrices(self) -> int:
        return sum(weight_matrices(step.piece.module) for step in self.steps)

    def __add__(self, other: _Part) -> _Part:
        return _Part(self.steps + other.steps, self.stage)


def weight_matrices(module: nn.Module) -> int:
    """Count the parameters of ``module`` that are more than a vector."""
    return sum(sum(length > 1 for length in p.shape) > 1 for p in module.parameters())


def join(
    runs: Sequence[Sequence[Step]], groups: Mapping[str, int], size: tuple[int, int]
) -> tuple[Block, ...]:
    """Join runs of steps into blocks, and name their stages.

    Args:
        runs: Steps that must not be parted, from input to output; the last run is the pool block.
        groups: Number of the stage of each parameter, ascending from input to output.
        size: Height and width of the sample, in pixels.
    """
    *body, pool = (_Part(tuple(run)) for run in runs)
    stages = _stages(body, groups)
    parts = _merge([_Part(p.steps, stage) for p, stage in zip(body, stages, strict=True)])
    blocks = []
    for part in parts:
        alone = sum(other.stage == part.stage for other in parts) == 1
        name = part.stage if alone else part.name
        blocks.append(_block(name, part, _stride(part.steps[-1].output, size)))
    pool = _Part(pool.steps, _pool_stage(pool, body, stages[-1], groups))
    return (*blocks, _block("pool", pool, 0))


def _stages(body: Sequence[_Part], groups: Mapping[str, int]) -> list[str]:
    """The stage of each part. A part that reaches into several stages makes them one."""
    stages: list[str] = []
    highest, current = -1, ""
    for part in body:
        new = sorted({groups[name] for name in part.parameters if groups[name] > highest})
        if new:
            highest, current = new[-1], _stage_name(new, groups)
        stages.append(current)
    first = next((stage for stage in stages if stage), "stem")
    stages = [stage or first for stage in stages]
    earlier = [stage for stage in stages if stage != stages[-1]]
    if len(set(earlier)) > 1 and _trails(body, stages, earlier[-1]):
        stages[len(earlier) :] = [earlier[-1]] * (len(stages) - len(earlier))
    return stages


def _trails(body: Sequence[_Part], stages: Sequence[str], previous: str) -> bool:
    """Whether the last stage is but a last layer beside the stages."""
    last = [part for part, stage in zip(body, stages, strict=True) if stage == stages[-1]]
    before = [part for part, stage in zip(body, stages, strict=True) if stage == previous]
    matrices = sum(part.matrices for part in last)
    return not matrices or (matrices == 1 and _tops(last).isdisjoint(_tops(before)))


def _tops(parts: Sequence[_Part]) -> set[str]:
    return {name.split(".")[0] for part in parts for name in part.parameters}


def _pool_stage(pool: _Part, body: Sequence[_Part], last: str, groups: Mapping[str, int]) -> str:
    used = {groups[name] for part in body for name in part.parameters}
    own = sorted({groups[name] for name in pool.parameters} - used)
    if own and pool.matrices > 1:
        return _stage_name(own, groups)
    return last if pool.parameters else "pool"


def _stage_name(numbers: Sequence[int], groups: Mapping[str, int]) -> str:
    names = [_group_name(number, groups) for number in (numbers[0], numbers[-1])]
    return names[0] if len(numbers) == 1 else "..".join(names)


def _group_name(number: int, groups: Mapping[str, int]) -> str:
    """The shortest beginning of a group's parameter names that no other group has."""
    members = [name for name, group in groups.items() if group == number]
    others = [name for name, group in groups.items() if group != number]
    several = len({name.split(".")[0] for name in members}) > 1
    if number == min(groups.values()) and several:
        return "stem"
    parts = members[0].split(".")
    beginnings = (".".join(parts[:length]) for length in range(1, len(parts)))
    for beginning in beginnings:
        if not any(f"{name}.".startswith(f"{beginning}.") for name in others):
            return beginning
    return members[0]


def _merge(parts: Sequence[_Part]) -> list[_Part]:
    """Join parts of one stage until each holds a weight matrix, and the list is short enough."""
    blocks: list[_Part] = []
    for part in parts:
        inner = bool(blocks) and part.stage == blocks[-1].stage
        small = inner and not (part.matrices and blocks[-1].matrices)
        if inner and (small or part.stage == parts[0].stage):
            blocks[-1] += part
        else:
            blocks.append(part)
    return shortened(blocks)


def shortened(parts: Sequence[P]) -> list[P]:
    """Make one part of a stage, the first stages first, until the list is short enough."""
    parts = list(parts)
    for stage in dict.fromkeys(part.stage for part in parts):
        if len(parts) < MOST_BLOCKS:
            break
        same = [part for part in parts if part.stage == stage]
        at = parts.index(same[0])
        parts[at : at + len(same)] = [reduce(add, same)]
    return parts


def _block(name: str, part: _Part, stride: int) -> Block:
    modules = [step.piece.module for step in part.steps]
    module = modules[0] if len(modules) == 1 else nn.Sequential(*modules)
    return Block(name, part.stage, stride, module, part.parameters)


def _stride(output: torch.Tensor, size: tuple[int, int]) -> int:
    """Root of the pixels for each position of (B, C, H, W), (B, H, W, C) or (B, N, C)."""
    height, width = size
    positions = math.prod(output.shape[1:-1])
    if output.ndim == 4 and output.shape[2] * width == output.shape[3] * height:
        positions = math.prod(output.shape[2:])
    return round(math.sqrt(height * width / positions))
