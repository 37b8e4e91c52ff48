"""The tensors a phase goes on from: weights, the optimizer's moments, the averages, the best epoch.

Each is named by its kind and its name in the network: ``model.…``, ``optimizer.….exp_avg``,
``average.…``, ``best.…``, and ``first.…`` where the phase may have to go back to its start.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

__all__ = ["collect", "put_back"]

Tensors = dict[str, torch.Tensor]


def collect(
    tail: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    best: Mapping[str, torch.Tensor],
    first: Mapping[str, torch.Tensor] | None = None,
) -> Tensors:
    """Return all tensors by name; they are shared, not copied."""
    tensors = {f"model.{name}": value for name, value in tail.state_dict().items()}
    names = {id(value): name for name, value in tail.named_parameters()}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            if value is not None:
                tensors[f"optimizer.{names[id(parameter)]}.{key}"] = torch.as_tensor(value)
    if average is not None:
        tensors |= {f"average.{name}": value for name, value in average.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in best.items()}
    return tensors | {f"first.{name}": value for name, value in (first or {}).items()}


def put_back(
    tensors: Mapping[str, torch.Tensor],
    tail: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
) -> tuple[Tensors, Tensors]:
    """Load what ``collect`` returned; return the weights of the best epoch and of the start.

    Raises:
        KeyError: A tensor of the optimizer, of the best epoch or of the start is missing, or one
            too many.
        RuntimeError: A weight is missing or one too many, or a tensor has another shape.
    """
    parts: dict[str, Tensors] = {}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        parts.setdefault(kind, {})[rest] = value
    tail.load_state_dict(parts["model"])
    if average is not None:
        average.load_state_dict(parts["average"])
    parameters = dict(tail.named_parameters())
    _check_moments(parts.get("optimizer", {}), parameters)
    for name, value in parts.get("optimizer", {}).items():
        owner, _, key = name.rpartition(".")
        parameter = parameters[owner]
        on_device = value if key == "step" else value.to(parameter.device)
        optimizer.state[parameter][key] = on_device.clone()
    best, first = parts.get("best", {}), parts.get("first", {})
    for weights, whose in ((best, "best epoch"), (first, "start")):
        if weights and _shapes(weights) != _shapes(tail.state_dict()):
            raise KeyError(f"the {whose}'s weights are not those of this network")
    return best, first


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in tensors.items()}


def _check_moments(moments: Tensors, parameters: Mapping[str, torch.Tensor]) -> None:
    """Refuse moments of other parameters, of another shape, or of some parameters only."""
    kinds: dict[str, set[str]] = {}
    for name, value in moments.items():
        owner, _, key = name.rpartition(".")
        kinds.setdefault(owner, set()).add(key)
        if value.ndim and value.shape != parameters[owner].shape:
            raise RuntimeError(f"{name} has another shape than its parameter")
    trained = {name for name, value in parameters.items() if value.requires_grad}
    if kinds and (kinds.keys() != trained or len({frozenset(k) for k in kinds.values()}) > 1):
        raise KeyError("moments of some parameters are missing")
