"""What a plan will take on this machine, in seconds, by a short trial of it."""

from __future__ import annotations

from dataclasses import replace

from headstart.adjust import custom_transform
from headstart.costs import Costs, predict_features, predict_phase, predict_rest
from headstart.plan import Plan
from headstart.strategy.phase import Train
from headstart.training.model import Model
from headstart.trial import measure_costs

__all__ = ["measure", "seconds_after", "seconds_before", "seconds_by_epochs"]


def measure(plan: Plan) -> Costs:
    """Measure what each part of a plan costs here, in a few seconds.

    Args:
        plan: The plan; its network is copied, not trained.
    """
    head = plan.task.head(plan.backbone.feature_dim, plan.options.head)
    return measure_costs(
        Model(plan.backbone, head),
        plan.task,
        plan.strategy,
        plan.sizes,
        plan.path,
        [plan.checked.items[index].path for index in plan.split.train],
        seed=plan.options.seed,
        custom=custom_transform(plan.options),
    )


def seconds_before(costs: Costs, plan: Plan, *, known: int = 0) -> float:
    """Return the predicted seconds of the first phase: all features, and the head.

    Args:
        costs: Of the plan.
        plan: Its first phase solves the head.
        known: Of how many images the features are remembered.
    """
    split = plan.split
    n = len(split.train) + len(split.val) + len(split.test)
    head = predict_phase(
        costs.phases[0], plan.strategy.phases[0], plan.sizes[0], len(split.train), len(split.val)
    )
    return predict_features(costs, max(0, n - known)) + head.total


def seconds_by_epochs(costs: Costs, plan: Plan, number: int) -> tuple[float, ...]:
    """Return what 1, 2, … and all epochs of phase ``number``, from 0, are predicted to take."""
    phase = plan.strategy.phases[number]
    train = phase.fit
    assert isinstance(train, Train)
    return tuple(
        predict_phase(
            costs.phases[number],
            replace(phase, fit=replace(train, epochs=epochs)),
            plan.sizes[number],
            len(plan.split.train),
            len(plan.split.val),
        ).total
        for epochs in range(1, train.epochs + 1)
    )


def seconds_after(costs: Costs, plan: Plan) -> float:
    """Return the predicted seconds of what follows the phases: evaluation, audit and report."""
    return predict_rest(
        costs,
        n_train=len(plan.split.train),
        n_val=len(plan.split.val),
        n_test=len(plan.split.test),
        average=plan.options.average,
        audits=plan.audits,
    ).total
