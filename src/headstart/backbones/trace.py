"""What a module's forward does, as a graph of ``torch.fx``.

The forward of one module is run on a stand-in for its input, with the modules it calls as leaves,
and the calls are written down. The batch size, the input size and the device stay symbols.

The training flag is read by Python code and would be frozen into the graph. Each module is
therefore traced twice, training and not; an argument that is True in one graph and False in the
other is the flag, and follows the mode of the module that is made of the graph. A forward that
differs in more than such arguments is not traced.

Some forwards compute with the height and width of a map: compare them, or make tables of positions
of them. With a sample, the module is run on two batches of different length, and a number that is
the same in both is that number and no symbol. The batch size, which differs, stays one.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.nn.modules.module import register_module_forward_hook

__all__ = ["MODE", "Untraceable", "equal", "trace", "training_mode"]

MODE = "training"  # a get_attr node with this target reads the module's own mode
_CONSTANT = "_constant"
Constants = dict[str, torch.Tensor]
Pair = tuple[Any, Any]  # of a value for the shorter batch, and for the longer one


class Untraceable(Exception):
    """A forward that torch.fx can't write down, or not without changing what it means."""


@contextmanager
def training_mode(network: nn.Module, training: bool) -> Iterator[None]:
    """Set the training flag of all modules of ``network``, and give each its own back after.

    Some modules remember tables of their weights in inference mode, and forget them when they are
    sent to train (LeViT's attention biases). They forget them here: weights may be loaded next.
    """
    before = [(module, module.training) for module in network.modules()]
    try:
        for module, _ in before:
            module.training = training
        yield
    finally:
        network.train()
        for module, flag in before:
            module.training = flag


def equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Tell whether two tensors are bit-equal; on the meta device, which has no numbers, by shape.

    There ``scripts/zoo-report`` looks at networks that are too large to make.
    """
    if one.is_meta or other.is_meta:
        return one.shape == other.shape
    return torch.equal(one, other)


def trace(module: nn.Module, sample: torch.Tensor | None = None) -> tuple[fx.Graph, Constants]:
    """Trace ``module``'s own forward.

    Args:
        module: Its forward takes one tensor; further arguments keep their defaults.
        sample: An input whose size may be taken for granted.

    Returns:
        The graph, which holds in training and inference, and the constants it names.

    Raises:
        Untraceable: The forward can't be traced.
    """
    own = module.training
    tracers = []
    try:
        calls = None if sample is None else _record(module, sample)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for training in (True, False):
                tracer = _Tracer() if calls is None else _SizedTracer(calls)
                module.training = training
                tracer.trace(module)
                tracers.append(tracer)
    except Exception as error:  # whatever a forward's own code raises on a stand-in for a tensor
        first_sentence = str(error).split(". ")[0].strip().rstrip(".")
        raise Untraceable(first_sentence or type(error).__name__) from error
    finally:
        module.training = own
    for name, constant in tracers[0].constants.items():
        if not equal(constant, tracers[1].constants.get(name, torch.empty(0))):
            raise Untraceable("the forward makes other tables in training than in inference")
    graph = _follow_mode(tracers[0].graph, tracers[1].graph)
    _drop_unused_sizes(graph)
    return graph, tracers[0].constants


def _follow_mode(training: fx.Graph, inference: fx.Graph) -> fx.Graph:
    """Make arguments that are the training flag follow the mode of the module that runs them."""
    if [(n.op, n.target) for n in training.nodes] != [(n.op, n.target) for n in inference.nodes]:
        raise Untraceable("the forward does different things in training and inference")
    with training.inserting_before(next(iter(training.nodes))):
        mode = training.create_node("get_attr", MODE)
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


def _drop_unused_sizes(graph: fx.Graph) -> None:
    for node in reversed(list(graph.nodes)):
        size = node.target in (getattr, operator.getitem, "size", "dim") or node.op == "get_attr"
        if size and not node.users:
            graph.erase_node(node)


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

    def __init__(self) -> None:
        super().__init__()
        self.constants: Constants = {}

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
        if name is None or not self.is_symbol(name):
            return attr_val
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_attribute(name, attr_val)
        return parameter_proxy_cache[name]

    def is_symbol(self, name: str) -> bool:  # noqa: ARG002
        """Whether computing with this parameter or buffer is to be written down."""
        return True

    def create_attribute(self, name: str, tensor: torch.Tensor) -> fx.Proxy:
        return _Attribute(self.create_node("get_attr", name, (), {}), self, tensor)

    def create_arg(self, a: Any) -> Any:
        if not isinstance(a, torch.Tensor):
            return super().create_arg(a)
        name = self._names.get(id(a)) or self.create_constant(a)
        return self.create_node("get_attr", name, (), {})

    def create_constant(self, tensor: torch.Tensor) -> str:  # noqa: ARG002
        # It could have been made of anything, and would be stuck on this device.
        raise Untraceable("the forward makes tensors of its own")


# --- tracing with sizes ----------------------------------------------------------------------


def _record(module: nn.Module, sample: torch.Tensor) -> dict[nn.Module, list[Pair]]:
    """Run ``module`` on two batches; note each call's output, without the numbers in it."""
    runs: list[dict[nn.Module, list[Any]]] = []
    for batch in (sample, torch.cat([sample, sample[:1]])):
        outputs: dict[nn.Module, list[Any]] = {module: [_to_meta(batch)]}

        def note(called: nn.Module, _: Any, output: Any, outputs: Any = outputs) -> None:
            outputs.setdefault(called, []).append(_to_meta(output))

        handle = register_module_forward_hook(note)
        try:
            module(batch.clone())
        finally:
            handle.remove()
        runs.append(outputs)
    return {key: list(zip(runs[0][key], runs[1][key], strict=True)) for key in runs[0]}


def _to_meta(value: Any) -> Any:
    def convert(leaf: Any) -> Any:
        return leaf.detach().to("meta") if isinstance(leaf, torch.Tensor) else leaf

    return fx.node.map_aggregate(value, convert)


class _SizedProxy(fx.Proxy):
    def __getattr__(self, name: str) -> Any:
        if name in ("shape", "ndim"):
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        return super().__getattr__(name)


class _SizedTracer(_Tracer):
    """Knows the sizes of everything, for two batches; what both agree on is no symbol."""

    def __init__(self, calls: Mapping[nn.Module, list[Pair]]) -> None:
        super().__init__()
        self._calls = {module: iter(outputs) for module, outputs in calls.items()}
        self._values: dict[fx.Node, Pair] = {}

    def is_symbol(self, name: str) -> bool:
        return name in self.root.state_dict()

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _SizedProxy(node, self)

    def create_proxy(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any
    ) -> Any:
        values = self._compute(kind, target, args, kwargs)
        agreed = _is_plain(values[0]) and values[0] == values[1]
        if agreed and not self._depends_on_length(args, kwargs):
            return values[0]
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **named)
        self._values[proxy.node] = values
        return proxy

    def create_attribute(self, name: str, tensor: torch.Tensor) -> fx.Proxy:
        proxy = super().create_attribute(name, tensor)
        self._values[proxy.node] = (_to_meta(tensor), _to_meta(tensor))
        return proxy

    def create_constant(self, tensor: torch.Tensor) -> str:
        """Keep a table that was made of sizes and unsaved buffers."""
        name = f"{_CONSTANT}{len(self.constants)}"
        self.constants[name] = tensor
        self._names[id(tensor)] = name
        return name

    def _compute(self, kind: str, target: Any, args: Any, kwargs: Any) -> Pair:
        if kind in ("placeholder", "call_module"):
            called = self.root if kind == "placeholder" else self.root.get_submodule(target)
            return next(self._calls[called])
        try:
            first, second = (self._run(kind, target, args, kwargs, index) for index in (0, 1))
        except Exception:  # not every operation can be run on shapes alone
            return _UNKNOWN
        return first, second

    def _run(self, kind: str, target: Any, args: Any, kwargs: Any, index: int) -> Any:
        def value(leaf: Any) -> Any:
            return self._values[leaf.node][index] if isinstance(leaf, fx.Proxy) else leaf

        args, kwargs = _to_meta(fx.node.map_aggregate((args, kwargs), value))
        if kind == "call_method":
            return _to_meta(getattr(args[0], target)(*args[1:], **kwargs))
        return _to_meta(target(*args, **kwargs))

    def _depends_on_length(self, args: Any, kwargs: Any) -> bool:
        """Whether a number is used that is still a symbol: it comes of the batch's length."""
        found: list[Any] = []
        fx.node.map_aggregate((args, kwargs), found.append)
        symbols = [leaf for leaf in found if isinstance(leaf, fx.Proxy)]
        return any(isinstance(self._values[s.node][0], int | float) for s in symbols)


_UNKNOWN = (object(), object())


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, int | float | str)
