"""A module's forward as a line of pieces, each with one value in and one value out.

``torch.fx`` runs the forward of one module on a stand-in for its input, with the module's children
as leaves, and writes the calls down as a graph. Wherever exactly one value is alive the line can
be cut. A segment that is one call of one child is that child itself; any other segment becomes a
``torch.fx.GraphModule`` that holds the very same children and parameters. Nothing here depends on
the batch size, the input size or the device: they stay symbols.

The training flag is read by Python code and would be frozen into the graph. Each module is
therefore traced twice, training and not; an argument that is True in one graph and False in the
other is the flag, and follows the segment's own mode. A forward that differs in more than such
arguments is not traced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

__all__ = ["Piece", "Untraceable", "pieces", "training_mode"]

_MODE = "training"  # a get_attr node with this target reads the segment's own mode


class Untraceable(Exception):
    """A forward that torch.fx can't write down, or not without changing what it means."""


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


@contextmanager
def training_mode(network: nn.Module, training: bool) -> Iterator[None]:
    """Set the training flag of all modules of ``network``, and give each its own back after."""
    before = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in before:
            module.training = training
        yield
    finally:
        for module, flag in before:
            module.training = flag


def pieces(module: nn.Module, prefix: str = "") -> list[Piece]:
    """Cut the forward of ``module`` at every point where exactly one value is alive.

    Args:
        module: Any module whose forward takes one tensor; further arguments keep their defaults.
        prefix: Dotted name of the module in its network, for the pieces' names.

    Raises:
        Untraceable: The forward can't be traced.
    """
    graph = _graph(module)
    result = []
    for segment in _segments(graph, saved=set(module.state_dict())):
        piece = _piece(module, segment)
        name = f"{prefix}.{piece.name}" if prefix else piece.name
        result.append(Piece(name, piece.module, piece.whole))
    return result


class _Attribute(fx.Proxy):
    """A parameter or buffer in a trace; its shape is a fact, not a symbol."""

    def __init__(self, node: fx.Node, tracer: fx.Tracer, tensor: torch.Tensor) -> None:
        super().__init__(node, tracer)
        self.shape = tensor.shape
        self.ndim = tensor.ndim

    def size(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        return self.ndim


class _Tracer(fx.Tracer):
    """Traces one module's own forward; every module it calls is a leaf."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return True

    def create_args_for_root(
        self,
        root_fn: Callable[..., Any],
        is_module: bool,  # noqa: ARG002
        concrete_args: Any = None,  # noqa: ARG002
    ) -> tuple[Callable[..., Any], list[Any]]:
        self._names = {
            id(tensor): name
            for collection in (self.root.named_parameters(), self.root.named_buffers())
            for name, tensor in collection
        }
        return root_fn, [self.root, self.create_proxy("placeholder", "x", (), {})]

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:  # noqa: ARG002
        name = self._names.get(id(attr_val)) if isinstance(attr_val, torch.Tensor) else None
        if name is None:
            return attr_val
        if name not in parameter_proxy_cache:
            node = self.create_node("get_attr", name, (), {})
            parameter_proxy_cache[name] = _Attribute(node, self, attr_val)
        return parameter_proxy_cache[name]

    def create_arg(self, a: Any) -> Any:
        # A tensor that was computed while tracing would be stuck on this device, and untrained.
        if isinstance(a, torch.Tensor) and id(a) not in self._names:
            raise Untraceable("a tensor made in the forward is not traced")
        return super().create_arg(a)


def _graph(module: nn.Module) -> fx.Graph:
    """Trace ``module`` in both modes and return one graph that holds in both."""
    own = module.training
    graphs = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for training in (True, False):
                module.training = training
                graphs.append(_Tracer().trace(module))
    except Exception as error:  # whatever a forward's own code raises on a stand-in for a tensor
        raise Untraceable(str(error)) from error
    finally:
        module.training = own
    return _follow_mode(*graphs)


def _follow_mode(training: fx.Graph, inference: fx.Graph) -> fx.Graph:
    """Make arguments that are the training flag follow the mode of the module that runs them."""
    if [(n.op, n.target) for n in training.nodes] != [(n.op, n.target) for n in inference.nodes]:
        raise Untraceable("the forward does different things in training and inference")
    with training.inserting_before(next(iter(training.nodes))):
        mode = training.create_node("get_attr", _MODE)
    for node, other in zip(list(training.nodes)[1:], inference.nodes, strict=True):
        values = iter(_leaves(other))

        def merge(value: Any, values: Iterator[Any] = values) -> Any:
            match = next(values)
            if value is True and match is False:
                return mode
            same = value.name == match.name if isinstance(value, fx.Node) else value == match
            if not same:
                raise Untraceable("the forward uses different values in training and inference")
            return value

        node.args, node.kwargs = fx.node.map_aggregate((node.args, node.kwargs), merge)
    return training


def _leaves(node: fx.Node) -> list[Any]:
    found: list[Any] = []
    fx.node.map_aggregate((node.args, node.kwargs), found.append)
    return found


@dataclass(frozen=True, slots=True)
class _Segment:
    nodes: tuple[fx.Node, ...]
    source: fx.Node
    result: fx.Node


def _segments(graph: fx.Graph, saved: set[str]) -> list[_Segment]:
    """Cut the graph's nodes, in order, wherever one value is alive.

    What does not depend on the input is no value of the line. Where it reads a saved tensor it
    stands before its first use and stays alive until its last, so that the tensor has one place;
    otherwise (a table of positions) it is made anew in each segment that uses it.
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
    fixed: set[fx.Node] = set()  # does not, but reads a saved tensor
    for node in source.graph.nodes:
        if moving.intersection(node.all_input_nodes):
            moving.add(node)
        elif node.target in saved or fixed.intersection(node.all_input_nodes):
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


def _piece(owner: nn.Module, segment: _Segment) -> Piece:
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
    return Piece(name, _share_buffers(fx.GraphModule(owner, graph, "Segment"), owner), whole=False)


def _share_buffers(module: fx.GraphModule, owner: nn.Module) -> fx.GraphModule:
    """Read buffers from the modules they live in: a copy would stay behind on another device."""
    buffers = dict(owner.named_buffers())
    for node in module.graph.nodes:
        if node.op == "get_attr" and node.target in buffers:
            holder, _, _ = node.target.rpartition(".")
            if not holder:
                raise Untraceable(f"the buffer {node.target} belongs to the traced module itself")
            module.set_submodule(holder, owner.get_submodule(holder))
    return module
