"""Optimizers by rate group, and schedules as pure functions of progress.

A schedule is a factor on each group's own rate, computed from where training stands and nothing
else: a run that was interrupted goes on with the very rates it would have had.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from headstart.strategy.patterns import HEAD, Parameter
from headstart.strategy.phase import Phase, Train
from headstart.training.model import Model

__all__ = ["apply", "factor", "make_optimizer", "parameter_groups", "plateau_drops"]

_START = 1 / 25  # of one-cycle's and cosine's warm-up; one-cycle ends at 1e-4 of its maximum
_END = 1e-4
_DROP = 0.1
_PLATEAU = 2


def apply(model: Model, phase: Phase) -> None:
    """Freeze and wake the model's parameters as a phase says; twice is once.

    Raises:
        UsageError: The phase does not fit the model's parameters.
    """
    hold = not isinstance(phase.fit, Train) or phase.fit.batch_norm == "hold"
    model.freeze(phase.resolve(model.describe()), hold_statistics=hold)


def parameter_groups(model: Model, phase: Phase) -> list[dict[str, Any]]:
    """Return the groups that a torch optimizer takes: every trainable parameter once.

    Groups differ by rate and by whether they have weight decay, which biases and norms have not.

    Args:
        model: The model.
        phase: Its rates, and its weight decay.

    Returns:
        Dicts of ``name`` (what the group holds; no two are called the same), ``params``, ``lr``
        and ``weight_decay``.

    Raises:
        UsageError: The phase does not fit the model's parameters.
    """
    described = model.describe()
    rates = phase.resolve(described)
    decay = phase.fit.weight_decay if isinstance(phase.fit, Train) else 0.0
    values = model.parameters_by_name()
    groups: dict[tuple[float, bool], list[Parameter]] = {}
    for parameter in described:
        rate = rates[parameter.name]
        if rate is not None:
            decays = parameter.kind == "weight" and values[parameter.name].ndim > 1
            groups.setdefault((rate, decays), []).append(parameter)
    names = _distinct([_name(members, decays) for (_, decays), members in groups.items()])
    return [
        {
            "name": name,
            "params": [values[member.name] for member in members],
            "lr": rate,
            "weight_decay": decay if decays else 0.0,
        }
        for name, ((rate, decays), members) in zip(names, groups.items(), strict=True)
    ]


def _name(members: Sequence[Parameter], decays: bool) -> str:
    """Name a group by the stages it spans."""
    stages = list(dict.fromkeys(member.stage for member in members))
    span = stages[0] if len(stages) == 1 else f"{stages[0]}..{stages[-1]}"
    if len(stages) > 1 and stages[-1] == HEAD:
        inner = stages[:-1]
        span = f"{inner[0]}..{inner[-1]}+{HEAD}" if len(inner) > 1 else f"{inner[0]}+{HEAD}"
    return span if decays else f"{span} (no decay)"


def _distinct(names: Sequence[str]) -> list[str]:
    """Number names that come again: rates are logged by name."""
    return [
        name if (before := names[:index].count(name)) == 0 else f"{name} #{before + 1}"
        for index, name in enumerate(names)
    ]


def make_optimizer(groups: list[dict[str, Any]], train: Train) -> torch.optim.Optimizer:
    """Make the optimizer of a phase from ``parameter_groups``."""
    if train.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, nesterov=True)
    if train.optimizer == "adam":
        return torch.optim.Adam(groups, foreach=True)
    return torch.optim.AdamW(groups, foreach=True)


def factor(train: Train, done: float, drops: int = 0) -> float:
    """Return what every group's rate is multiplied with.

    Args:
        train: The schedule and its warm-up.
        done: Share of the phase's steps that are done, 0 to 1.
        drops: For ``plateau``, how often val has stood still: ``plateau_drops``.
    """
    if train.schedule == "constant":
        return 1.0
    if train.schedule == "step":
        return _DROP ** min(int(done * 3), 2)
    if train.schedule == "plateau":
        return _DROP**drops
    if done < train.warmup:
        return _START + (1 - _START) * done / train.warmup
    fallen = (1 + math.cos(math.pi * (done - train.warmup) / (1 - train.warmup))) / 2
    end = _END if train.schedule == "one-cycle" else 0.0
    return end + (1 - end) * fallen


def plateau_drops(scores: Sequence[tuple[float, ...]]) -> int:
    """Count how often the rate was cut: each time two epochs in a row brought nothing better.

    Args:
        scores: The monitored metric of each epoch so far, more is better.
    """
    best: tuple[float, ...] = ()  # less than any score
    waited = drops = 0
    for score in scores:
        best, waited = (score, 0) if score > best else (best, waited + 1)
        if waited == _PLATEAU:
            drops, waited = drops + 1, 0
    return drops


def rates_by_group(optimizer: torch.optim.Optimizer) -> Mapping[str, float]:
    """Return each group's present rate by its name."""
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def head_penalty(head: nn.Module, train: Train) -> torch.Tensor | None:
    """Return L1 and L2 of the head's weights as a term of the loss; None without either."""
    if not (train.l1 or train.l2):
        return None
    weights = torch.cat([value.flatten() for value in head.parameters() if value.ndim > 1])
    return train.l1 * weights.abs().sum() + train.l2 * weights.square().sum()
