"""What a strategy comes to on a network: what each phase trains, remembers and looks at.

Sizes are counted, and views decided, before anything is computed. How many views there are may
depend on the cache's room, so it is no part of what a run is, only of how it is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from headstart.adjust import CUSTOM
from headstart.backbones.base import Backbone
from headstart.errors import UsageError
from headstart.inputspec import InputSpec
from headstart.options import DEFAULT_BACKBONE, Options
from headstart.strategy.phase import Phase, Rates, Train
from headstart.strategy.strategy import Strategy
from headstart.training.boundary import boundary_shape
from headstart.training.device import InferencePath
from headstart.training.model import Model

__all__ = ["MOST_VIEWS", "PhaseSize", "Sized", "epochs_before", "size_up"]

MOST_VIEWS = 8  # that are remembered where nobody asked for a number


@dataclass(frozen=True, slots=True)
class PhaseSize:
    """How many parameters a phase trains, of how many, and from which block on.

    Attributes:
        trainable: Parameters that it changes.
        total: Parameters of the network and its head.
        prefix: How many blocks before the first that is trained are frozen.
        remembered: Whether what these give is remembered; else each step computes it anew.
    """

    trainable: int
    total: int
    prefix: int
    remembered: bool


@dataclass(frozen=True, slots=True)
class Sized:
    """A strategy that fits a network, the images and the cache.

    Attributes:
        strategy: The strategy, the number of views of each phase decided.
        sizes: The size of each phase.
        remarks: What was decided, one sentence each.
    """

    strategy: Strategy
    sizes: tuple[PhaseSize, ...]
    remarks: tuple[str, ...]


def size_up(
    model: Model,
    strategy: Strategy,
    options: Options,
    path: InferencePath,
    *,
    n_train: int,
    budget: int,
) -> Sized:
    """Resolve a strategy on a network, and decide what is remembered and how many views there are.

    Args:
        model: The network and its head; what its last phase freezes stays frozen.
        strategy: As it was asked for.
        options: What was asked for besides.
        path: How the frozen blocks are computed.
        n_train: How many images are trained on.
        budget: Bytes that remembered views may take.

    Raises:
        UsageError: The strategy can't run on this network.
    """
    phases, sizes, remarks = [], [], list(_overlooked(options, strategy))
    _check_square(model.backbone.input_spec, strategy, options)
    resolved = strategy.resolve(model.describe())
    for number, (phase, rates) in enumerate(zip(strategy.phases, resolved, strict=True)):
        size = _size(model, rates)
        if isinstance(phase.fit, Train):
            views = _views_in(budget, n_train, model.backbone, size.prefix, path)
            why = _forgetful(phase, phase.fit, views)
            size = replace(size, remembered=size.prefix > 0 and why is None)
            if size.prefix and why:
                remarks.append(
                    f"Phase {number + 1} computes its frozen blocks in every step: {why}."
                )
            earlier = epochs_before(strategy, number)
            views = _views(phase, phase.fit, earlier, views if size.remembered else None)
            phase = replace(phase, fit=replace(phase.fit, views=views))
        phases.append(phase)
        sizes.append(size)
    return Sized(replace(strategy, phases=tuple(phases)), tuple(sizes), tuple(remarks))


def _size(model: Model, rates: Rates) -> PhaseSize:
    """Count what these rates train; whatever is frozen before it can be remembered."""
    parameters = model.describe()
    model.freeze(rates)
    prefix = model.frozen_prefix
    return PhaseSize(
        trainable=sum(p.size for p in parameters if rates[p.name] is not None),
        total=sum(p.size for p in parameters),
        prefix=prefix,
        remembered=prefix > 0,
    )


def _views_in(
    budget: int, n_train: int, backbone: Backbone, prefix: int, path: InferencePath
) -> int:
    """Return how many views of the training images fit the budget behind ``prefix`` blocks."""
    if not prefix:
        return 0
    values = math.prod(boundary_shape(backbone, prefix, path))
    return budget // (n_train * values * (2 if path.precision == "bf16" else 4))


def _forgetful(phase: Phase, train: Train, room: int) -> str | None:
    """Say why what the frozen blocks give can't be remembered, or None where it can."""
    if train.mixes:
        return "mixup and cutmix mix the images before them"
    if phase.augment == CUSTOM:
        return "a transform given from Python has no name to remember its views by"
    # Where nobody asked for a number, one augmented view is the least that is of use.
    needed = 1 + (0 if phase.augment == "none" else 1 if train.views is None else train.views)
    if room < needed:
        return "the cache has no room for what they give (HEADSTART_CACHE_SIZE)"
    return None


def _views(phase: Phase, train: Train, earlier: int, room: int | None) -> int:
    """Return how many augmented views a phase has: as asked, or as many as are of use and fit."""
    if phase.augment == "none":
        return 0
    if train.views is not None:
        return train.views
    fresh = earlier + train.epochs  # another view in every epoch
    return fresh if room is None else max(1, min(fresh, room - 1, MOST_VIEWS))


def epochs_before(strategy: Strategy, number: int) -> int:
    """Return how many epochs the phases before phase ``number``, from 0, train with views."""
    return sum(
        phase.fit.epochs
        for phase in strategy.phases[:number]
        if isinstance(phase.fit, Train) and phase.augment != "none"
    )


def _overlooked(options: Options, strategy: Strategy) -> Iterator[str]:
    """Yield what was asked for and has no effect, or another than it may seem."""
    if strategy.backbone is not None and options.backbone != DEFAULT_BACKBONE:
        yield f"{strategy.name} brings its own network: {options.backbone} is not used."
    if strategy.weights == "random" and options.weights is not None:
        yield f"{strategy.name} starts from random weights: {options.weights} is not used."
    balanced = any(
        isinstance(phase.fit, Train) and phase.fit.sampling == "balanced"
        for phase in strategy.phases
    )
    if balanced and options.class_weights == "balanced":
        yield "Balanced sampling and balanced class weights together correct the imbalance twice."


def _check_square(spec: InputSpec, strategy: Strategy, options: Options) -> None:
    """Refuse the symmetries of the square for a network whose input is none."""
    asked = {options.average} | {p.symmetry for p in strategy.phases if p.augment != "none"}
    if "square" in asked and spec.height != spec.width:
        raise UsageError(
            f"The symmetries of the square need a square input, and this network's is "
            f"{spec.height} x {spec.width}.",
            field="symmetry",
            hint="Use flip, or give --size.",
        )
