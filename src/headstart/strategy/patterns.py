"""Patterns that choose parameters of a network by stage, layer, kind or name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

__all__ = ["HEAD", "Parameter", "matcher"]

HEAD = "head"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as a plan sees it.

    Attributes:
        name: Its dotted name in the network, or ``head.`` and its name in the head.
        block: Name of the block it belongs to; ``head`` for the head.
        stage: Name of the stage the block belongs to; ``head`` for the head.
        kind: ``norm`` if its module is a normalisation layer, ``bias`` if it is added to an
            output, else ``weight``. A norm's bias is ``norm``.
        size: Number of elements.
        layer: Number of its layer among all leaf layers of the backbone, those without
            parameters (activations, pooling) counted too; -1 for the head.
    """

    name: str
    block: str
    stage: str
    kind: Literal["weight", "bias", "norm"]
    size: int
    layer: int = -1


def matcher(pattern: str, parameters: Sequence[Parameter]) -> Callable[[Parameter], bool]:
    """Turn a pattern, as ``Rate`` describes it, into a test of one parameter."""
    if pattern == HEAD:
        return lambda parameter: parameter.block == HEAD
    if pattern == "@norm":
        return lambda parameter: parameter.block != HEAD and parameter.kind == "norm"
    if pattern == "@bias":  # those of the norms too: most convolutional networks have no others
        return lambda parameter: (
            parameter.block != HEAD
            and (
                parameter.kind == "bias"
                or (parameter.kind == "norm" and parameter.name.rpartition(".")[2] == "bias")
            )
        )
    if span := re.fullmatch(r"(stage|layer):(-?\d+)(?:\.\.(-?\d+))?", pattern):
        kind, first, last = span.groups()
        if kind == "stage":
            stages = list(dict.fromkeys(p.stage for p in parameters if p.block != HEAD))
            chosen = set(_slice(stages, first, last))
            return lambda parameter: parameter.stage in chosen
        layers = range(max((p.layer for p in parameters), default=-1) + 1)
        within = _slice(layers, first, last)
        return lambda parameter: parameter.layer in within
    return lambda parameter: (
        parameter.block != HEAD
        and (_is_prefix(pattern, parameter.name) or _is_prefix(pattern, parameter.block))
    )


def _slice(things: Sequence[T], first: str, last: str | None) -> Sequence[T]:
    """Return the things from ``first`` to ``last``, both included; none where one is outside."""
    start = _position(int(first), len(things))
    end = start if last is None else _position(int(last), len(things))
    return things[start : end + 1] if start >= 0 and end >= 0 else things[:0]


def _position(index: int, length: int) -> int:
    """Turn a number counted from either end into one from the start; -1 if outside."""
    position = index if index >= 0 else length + index
    return position if 0 <= position < length else -1


def _is_prefix(pattern: str, name: str) -> bool:
    return name == pattern or name.startswith(pattern + ".")
