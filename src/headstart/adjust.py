"""The strategy that the options ask for: the named one, with what they change in its phases."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

from headstart.errors import UnknownName, UsageError
from headstart.files import digest
from headstart.options import AUTO, DEFAULT_BACKBONE, Options
from headstart.strategy import names
from headstart.strategy.ladder import ladder
from headstart.strategy.patterns import HEAD, Parameter, matcher
from headstart.strategy.phase import OPTIONAL, WARMING, Phase, Solve, Train
from headstart.strategy.presets import trained_head
from headstart.strategy.strategy import Strategy
from headstart.training.heads import HeadSpec

__all__ = [
    "CUSTOM",
    "UNTRAINED",
    "before_choice",
    "chosen_strategy",
    "custom_transform",
    "transform_name",
]

CUSTOM = "custom"
UNTRAINED: dict[str, Any] = {
    **dict.fromkeys(("epochs", "lr", "augment", "symmetry", "views")),
    "train": {},
}
"""The options about training by steps, as they are where nothing trains."""
HEAD_EPOCHS = 20  # of a head that no direct solver gives, where --epochs says nothing


def chosen_strategy(
    options: Options, stages: int | None = None, images: int | None = None
) -> Strategy:
    """Return the strategy of the options, changed as they ask.

    Args:
        options: What was asked for.
        stages: How many stages the network has; None where that is not known yet.
        images: How many images there are to learn from; None where that is not known yet.

    Raises:
        UnknownName: There is no such strategy, or no such field of ``Train``.
        UsageError: An option would change nothing; or the strategy augments by a transform that
            was not given.
    """
    given = options.strategy
    strategy = names.create(given, stages, images) if isinstance(given, str) else given
    strategy = _trained_heads(strategy, options)
    changes = _changes(options)
    trains = [phase for phase in strategy.phases if isinstance(phase.fit, Train)]
    asked = {"augment": options.augment, "symmetry": options.symmetry, "lr": options.lr}
    useless = [name for name, value in asked.items() if value is not None] + list(changes)
    useless = [name for name in useless if name != "batch_size"]
    if useless and not trains:
        raise UsageError(
            f"The strategy {strategy.name} solves its head and trains nothing by steps, so "
            f"{', '.join(useless)} would change nothing.",
            field=useless[0],
            hint="Add --epochs to train the head, or choose another --strategy.",
        )
    if options.lr is not None:
        strategy = strategy.scaled(options.lr)
    strategy = _each_train(strategy, lambda phase, train: _changed(phase, train, options, changes))
    _check_custom(strategy, options)
    _check_views(strategy, options)
    _check_settings(strategy, options)
    return strategy


def before_choice(options: Options) -> Options:
    """Return the options that hold until ``auto`` has chosen: the default network, and the probe.

    What is about training is left away, because nothing trains yet; it counts in what is chosen.
    """
    return replace(
        options,
        strategy=ladder(()),
        backbone=DEFAULT_BACKBONE if options.backbone == AUTO else options.backbone,
        average="none" if options.average == AUTO else options.average,
        **UNTRAINED,
    )


def custom_transform(options: Options) -> Callable[[Any], Any] | None:
    """Return the transform that was given from Python, if one was."""
    return options.augment if callable(options.augment) else None


def _check_custom(strategy: Strategy, options: Options) -> None:
    named = any(phase.augment == CUSTOM for phase in strategy.phases)
    if named and custom_transform(options) is None:
        raise UsageError(
            f"The strategy {strategy.name} augments by a transform of your own, and none "
            "was given.",
            field="augment",
            hint="Give it from Python: headstart.fit(..., augment=transform).",
        )


def _check_views(strategy: Strategy, options: Options) -> None:
    """Refuse views, or symmetries of views, where no phase has any."""
    asked = {"views": options.views or options.train.get("views"), "symmetry": options.symmetry}
    given = [name for name, value in asked.items() if value]
    if given and all(phase.augment == "none" for phase in strategy.phases):
        raise UsageError(
            f"No phase of {strategy.name} augments its images, so {' and '.join(given)} would "
            "change nothing.",
            field=given[0],
            hint="Add --augment light, or leave it away.",
        )


def _check_settings(strategy: Strategy, options: Options) -> None:
    """Refuse settings of training that no phase makes anything of."""
    phases = [(phase, phase.fit) for phase in strategy.phases if isinstance(phase.fit, Train)]
    if "warmup" in options.train and not any(fit.schedule in WARMING for _, fit in phases):
        raise UsageError(
            f"No phase of {strategy.name} has a schedule that warms up, so warmup would change "
            "nothing.",
            field="train",
            hint=f"Add --train schedule=X, X being one of {', '.join(WARMING)}; or leave it away.",
        )
    penalties = [name for name in ("l1", "l2") if options.train.get(name)]
    if penalties and not any(_trains_head(phase) for phase, _ in phases):
        raise UsageError(
            f"No phase of {strategy.name} trains the head by steps, so {' and '.join(penalties)}, "
            "which weigh the head, would change nothing.",
            field="train",
            hint="Give the head a rate in a phase that trains; or leave them away.",
        )


def _trains_head(phase: Phase) -> bool:
    """Whether the first pattern that matches the head gives it a rate."""
    head = Parameter(f"{HEAD}.weight", HEAD, HEAD, "weight", 1)
    matching = (rate.rate for rate in phase.rates if matcher(rate.pattern, [head])(head))
    return next(matching, None) is not None


def transform_name(options: Options) -> str | None:
    """Return what tells one transform given from Python from another, or None without one.

    A torchvision transform by its text, which has all its numbers; a function by its name and its
    code.
    """
    transform = custom_transform(options)
    if transform is None:
        return None
    code = getattr(transform, "__code__", None)
    if code is None:
        return re.sub(r" at 0x[0-9a-f]+", "", repr(transform))
    constants = [part for part in code.co_consts if not hasattr(part, "co_code")]
    return f"{transform.__qualname__} {digest(code.co_code, repr(constants))[:16]}"


def _trained_heads(strategy: Strategy, options: Options) -> Strategy:
    """Turn Solve into Train where the head asks for it, or the epochs do and nothing trains."""
    trains = any(isinstance(phase.fit, Train) for phase in strategy.phases)
    if HeadSpec.parse(options.head).solvable and (trains or options.epochs is None):
        return strategy
    epochs = options.epochs or HEAD_EPOCHS

    def trained(phase: Phase) -> Phase:
        solves = isinstance(phase.fit, Solve)
        return replace(phase, fit=trained_head(epochs)) if solves else phase

    return replace(strategy, phases=tuple(trained(phase) for phase in strategy.phases))


def _changes(options: Options) -> dict[str, Any]:
    """Return the fields of ``Train`` that the options set."""
    known = [field.name for field in fields(Train)]
    for name in options.train:
        if name not in known:
            raise UnknownName("setting of training", name, known, field="train")
    direct = {
        "epochs": options.epochs,
        "batch_size": options.batch_size,
        "views": options.views,
    }
    twice = [name for name, value in direct.items() if value is not None and name in options.train]
    if twice:
        raise UsageError(
            f"Given twice: {', '.join(twice)}, as an option of its own and in --train.",
            field="train",
            hint="Leave one of them away.",
        )
    others = {
        name: None if value == "none" and name in OPTIONAL else value
        for name, value in options.train.items()
    }
    return {name: value for name, value in direct.items() if value is not None} | others


def _each_train(strategy: Strategy, change: Callable[[Phase, Train], Phase]) -> Strategy:
    phases = (
        change(phase, phase.fit) if isinstance(phase.fit, Train) else phase
        for phase in strategy.phases
    )
    return replace(strategy, phases=tuple(phases))


def _changed(phase: Phase, train: Train, options: Options, changes: dict[str, Any]) -> Phase:
    augment = options.augment
    return replace(
        phase,
        fit=replace(train, **changes),
        augment=CUSTOM if callable(augment) else augment or phase.augment,
        symmetry=options.symmetry or phase.symmetry,
    )
