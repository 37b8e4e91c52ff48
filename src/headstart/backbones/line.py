"""A module's forward as a line of pieces, each with one value in and one value out.

Wherever exactly one value is alive in a module's graph (:mod:`headstart.backbones.trace`), the line
can be cut. A segment that is one call of one child is that child itself; any other segment becomes
a ``torch.fx.GraphModule`` that holds the very same children and parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn

from headstart.backbones.trace import MODE, Untraceable, trace

__all__ = ["Piece", "pieces"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a network's forward: one value in, one value out.

    Attributes:
        name: Dotted name of the first child it calls; else of the parameter or function it uses.
        module: The child itself, or a graph over children and parameters of the network.
        whole: Whether it is one child, called with nothing but the value.
    """

    name: str
    module: nn.Module
    whole: bool


def pieces(module: nn.Module, prefix: str = "", sample: torch.Tensor | None = None) -> list[Piece]:
    """Cut the forward of ``module`` at every point where exactly one value is alive.

    Args:
        module: Any module whose forward takes one tensor; further arguments keep their defaults.
        prefix: Dotted name of the module in its network, for the pieces' names.
        sample: An input; with it, the sizes of maps are taken for constants, and the pieces work
            for inputs of its size only (in batches of any length).

    Raises:
        Untraceable: The forward can't be traced.
    """
    graph, constants = trace(module, sample)
    result = []
    for segment in _segments(graph, saved=set(module.state_dict())):
        piece = _piece(module, segment, constants)
        name = f"{prefix}.{piece.name}" if prefix else piece.name
        result.append(Piece(name, piece.module, piece.whole))
    return result


@dataclass(frozen=True, slots=True)
class _Segment:
    nodes: tuple[fx.Node, ...]
    source: fx.Node
    result: fx.Node


def _segments(graph: fx.Graph, saved: set[str]) -> list[_Segment]:
    """Cut the graph's nodes, in order, wherever one value is alive.

    What does not depend on the input is no value of the line. Where it reads a saved tensor, or
    could draw random numbers, it stands before its first use and stays alive until its last, so
    that it has one place; otherwise (a table of positions) it is made anew in each segment that
    uses it.
    """
    source = next(node for node in graph.nodes if node.op == "placeholder")
    output = next(node for node in graph.nodes if node.op == "output")
    line = _line(source, output, saved)
    place = {node: index for index, node in enumerate(line)} | {source: -1, output: len(line)}
    until = {
        node: max((place[user] for user in node.users if user in place), default=-1)
        for node in (source, *line)
    }
    found: list[_Segment] = []
    start = 0
    before = source
    for index in range(len(line)):
        alive = [node for node in (source, *line[: index + 1]) if until[node] > index]
        if len(alive) == 1:
            found.append(_Segment(tuple(line[start : index + 1]), before, alive[0]))
            start, before = index + 1, alive[0]
    return found


def _line(source: fx.Node, output: fx.Node, saved: set[str]) -> list[fx.Node]:
    moving = {source}  # depends on the input
    fixed: set[fx.Node] = set()  # does not, but reads a saved tensor or may draw random numbers
    for node in source.graph.nodes:
        if moving.intersection(node.all_input_nodes):
            moving.add(node)
        elif (
            node.op == "call_module"
            or node.target in saved
            or any(used in fixed or used.target == MODE for used in node.all_input_nodes)
        ):
            fixed.add(node)
    line: list[fx.Node] = []
    for node in source.graph.nodes:
        if node in moving and node is not source and node is not output:
            line.extend(_needed(node, fixed.difference(line)))
            line.append(node)
    return line


def _needed(node: fx.Node, fixed: set[fx.Node]) -> list[fx.Node]:
    """The fixed nodes that ``node`` uses, directly or not, in the order they must run."""
    found: dict[fx.Node, None] = {}
    for used in node.all_input_nodes:
        if used in fixed:
            found.update(dict.fromkeys([*_needed(used, fixed), used]))
    return list(found)


def _piece(owner: nn.Module, segment: _Segment, constants: Mapping[str, torch.Tensor]) -> Piece:
    called = [node for node in segment.nodes if node.op == "call_module"]
    first = (called or segment.nodes)[0]
    name = str(getattr(first.target, "__name__", first.target))
    alone = len(segment.nodes) == 1 and first.args == (segment.source,) and not first.kwargs
    if called and alone:
        return Piece(name, owner.get_submodule(name), whole=True)
    graph = fx.Graph()
    copies = {segment.source: graph.placeholder("x")}

    def copy(node: fx.Node) -> fx.Node:
        if node not in copies:
            copies[node] = graph.node_copy(node, copy)
        return copies[node]

    for node in segment.nodes:
        copy(node)
    graph.output(copy(segment.result))
    return Piece(name, _module(owner, graph, constants), whole=False)


def _module(
    owner: nn.Module, graph: fx.Graph, constants: Mapping[str, torch.Tensor]
) -> fx.GraphModule:
    """Make a module of ``graph`` that shares children, parameters and buffers with ``owner``."""
    targets = {str(n.target) for n in graph.nodes if n.op in ("call_module", "get_attr")}
    attributes: dict[str, Any] = {
        target: constants[target] if target in constants else attrgetter(target)(owner)
        for target in targets
    }
    module = fx.GraphModule(attributes, graph, "Segment")
    module.training = owner.training
    for name in targets.intersection(constants):
        module.register_buffer(name, constants[name], persistent=False)
    for name in targets.intersection(name for name, _ in owner.named_buffers()):
        # Read from the module it lives in: a copy would stay behind on another device.
        holder, _, _ = name.rpartition(".")
        if not holder:
            raise Untraceable(f"the buffer {name} belongs to the traced module itself")
        module.set_submodule(holder, owner.get_submodule(holder))
    return module
