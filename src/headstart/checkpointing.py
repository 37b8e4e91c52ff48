"""What a checkpoint holds of a run: where it stands, and all that its earlier phases left.

``training.position`` tells where a phase stands; here is what is true of the whole run besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import torch

from headstart.errors import ModelError
from headstart.machine import machine
from headstart.plan import Plan
from headstart.sizing import PhaseSize
from headstart.strategy.phase import Phase, Train
from headstart.training.checkpoint import State
from headstart.training.device import InferencePath
from headstart.training.model import Model

__all__ = ["as_begun", "describe", "earlier_tensors", "phase_of", "restore", "tensors_of_phase"]

_EARLIER = "earlier."


def describe(
    plan: Plan,
    number: int,
    *,
    position: Mapping[str, Any],
    records: Sequence[Mapping[str, Any]],
    path: InferencePath,
    timings: Mapping[str, float],
) -> dict[str, Any]:
    """Return where a run stands, as plain JSON.

    Args:
        plan: The run's plan.
        number: The phase that runs, from 0.
        position: Where that phase stands.
        records: What happened in the phases before.
        path: The inference path.
        timings: Seconds that the run took so far, over all its sessions.
    """
    return {
        "phase": number,
        "records": list(records),
        "path": path.to_dict(),
        "position": dict(position),
        "sizes": [asdict(size) for size in plan.sizes],
        "views": [_views_of(phase) for phase in plan.strategy.phases],
        "machine": machine(path),
        "threads": torch.get_num_threads(),
        "timings": dict(timings),
    }


def earlier_tensors(plan: Plan, model: Model, number: int, start: int) -> dict[str, torch.Tensor]:
    """Return the weights that phases up to ``number`` have trained and this one keeps frozen.

    Args:
        plan: The run's plan.
        model: The network as it is.
        number: The phase that runs, from 0.
        start: The first block that this phase saves itself.
    """
    return {
        f"{_EARLIER}{block}.{name}": value
        for block in range(_lowest(plan, number), start)
        for name, value in model.blocks[block].state_dict().items()
    }


def _lowest(plan: Plan, number: int) -> int:
    """Return the first block that any phase up to this one trains."""
    begun = zip(plan.strategy.phases[: number + 1], plan.sizes, strict=False)
    return min(size.prefix for phase, size in begun if isinstance(phase.fit, Train))


def _views_of(phase: Phase) -> int | None:
    return phase.fit.views if isinstance(phase.fit, Train) else None


def restore(model: Model, state: State) -> None:
    """Load into a network what the phases before the interrupted one have trained.

    Raises:
        ModelError: The checkpoint is of another network.
    """
    by_block: dict[str, dict[str, torch.Tensor]] = {}
    for name, value in state.tensors.items():
        if name.startswith(_EARLIER):
            _, block, rest = name.split(".", 2)
            by_block.setdefault(block, {})[rest] = value
    try:
        for block, tensors in by_block.items():
            model.blocks[int(block)].load_state_dict(tensors)
    except (IndexError, RuntimeError, ValueError) as error:
        raise ModelError(
            f"The checkpoint does not fit the network: {str(error).splitlines()[0]}",
            field="checkpoints",
            hint="Fit again with another --out.",
        ) from error


def phase_of(plan: Plan, state: State) -> int:
    """Return the number of the phase that was interrupted, from 0.

    Raises:
        ModelError: The plan has no such phase.
    """
    number = int(state.position["phase"])
    if number >= len(plan.strategy.phases):
        raise ModelError(
            f"The checkpoint is of another strategy: it is in phase {number + 1}, and "
            f"{plan.strategy.name} has {len(plan.strategy.phases)}.",
            field="checkpoints",
            hint="Fit again with another --out.",
        )
    return number


def tensors_of_phase(state: State) -> dict[str, torch.Tensor]:
    """Return what the interrupted phase itself has saved."""
    return {name: value for name, value in state.tensors.items() if not name.startswith(_EARLIER)}


def as_begun(plan: Plan, state: State) -> Plan:
    """Return a plan with what was decided when its run began by the cache's room at that time."""
    sizes = tuple(PhaseSize(**size) for size in state.position["sizes"])
    phases = tuple(
        replace(phase, fit=replace(phase.fit, views=views))
        if isinstance(phase.fit, Train)
        else phase
        for phase, views in zip(plan.strategy.phases, state.position["views"], strict=True)
    )
    return replace(plan, sizes=sizes, strategy=replace(plan.strategy, phases=phases))
