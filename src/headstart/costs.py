"""What the steps of a plan will cost, in seconds: arithmetic on what a short trial measured.

``headstart.trial.measure_costs`` gives the costs of an image in each part of the work, on the
machine at hand; here they are multiplied. What is predicted is within a factor of two of what then
happens (benchmarks/plan_costs.py).
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import asdict, dataclass, replace
from typing import Any

from headstart.data.symmetry import symmetries
from headstart.sizing import MOST_VIEWS, PhaseSize
from headstart.strategy.phase import Phase, Solve, Train
from headstart.strategy.presets import PENALTIES
from headstart.training.adaptation import MOST_ADAPTED
from headstart.training.solve import FOLDS, TINY_VAL

__all__ = [
    "MOST_EPOCHS",
    "Costs",
    "PhaseCosts",
    "PhaseSeconds",
    "RestSeconds",
    "epochs_within",
    "predict_features",
    "predict_phase",
    "predict_rest",
]

MOST_EPOCHS = 100_000
"""More epochs than these are never the answer of ``epochs_within``."""

# Of the solver, a penalty, from the grid of the presets on real features: 48 with 2 classes, 74
# with 6 (solar cells and trashnet, EfficientNet-Lite0). Noise would converge in another number, so
# the trial measures an iteration and not how many there are.
_ITERATIONS = 60
# Of the audit of 20,000 images (docs/audit.md): neighbours grow with the square, probes do not;
# of 596 images it took 1.8 s, most of it whatever their number.
_AUDITED, _NEIGHBOURS_S, _PROBES_S, _AUDIT_S = 20_000, 11.0, 8.0, 1.5
# Measured once: figures, page and model of the bundled network, 0.7 to 2.7 s.
_REPORT_S = 1.5


@dataclass(frozen=True, slots=True)
class PhaseCosts:
    """Seconds of each part of one phase; a part that the phase does not have is 0.

    Attributes:
        prefix: What is remembered of an image's view: the frozen blocks, and storing what they
            give. 0 where nothing is remembered: it is then in ``step`` and ``judge``.
        augment: What an augmented view of an image takes beyond that; 0 likewise.
        step: A training step, an image: reading it, forward, backward, the optimizer's share.
        judge: Judging an image of val.
        save: Writing a checkpoint, once an epoch.
        solve: An image in one iteration of the solver.
    """

    prefix: float = 0.0
    augment: float = 0.0
    step: float = 0.0
    judge: float = 0.0
    save: float = 0.0
    solve: float = 0.0


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of each part of a plan on this machine.

    Attributes:
        decode: Reading, decoding and resizing an image; 0 where the trial had no images.
        forward: An image's features by the frozen network.
        phases: Of each phase.
        took: Of the trial itself.
    """

    decode: float
    forward: float
    phases: tuple[PhaseCosts, ...]
    took: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class PhaseSeconds:
    """Predicted seconds of a phase, by part.

    Attributes:
        views: Computing what is remembered of the images and their views.
        steps: Training steps.
        judging: Judging val before the first epoch and after each.
        saving: Writing checkpoints.
        solving: Solving the head, where statistics are adapted with two passes of the images.
    """

    views: float = 0.0
    steps: float = 0.0
    judging: float = 0.0
    saving: float = 0.0
    solving: float = 0.0

    @property
    def total(self) -> float:
        """All of them together."""
        return self.views + self.steps + self.judging + self.saving + self.solving


@dataclass(frozen=True, slots=True)
class RestSeconds:
    """Predicted seconds of what follows the phases.

    Attributes:
        evaluation: What the finished network says of all images, mirror images included.
        audit: Looking for wrong labels and near copies; measured once, not in the trial.
        report: Writing the run folder; a constant that was measured once.
    """

    evaluation: float
    audit: float
    report: float

    @property
    def total(self) -> float:
        """All of them together."""
        return self.evaluation + self.audit + self.report


def predict_features(costs: Costs, n: int, *, decoded: bool = False) -> float:
    """Return the seconds of computing ``n`` images' features by the frozen network.

    Args:
        costs: Of the plan.
        n: How many images are not remembered.
        decoded: Whether their pixels are.
    """
    return n * (costs.forward + (0.0 if decoded else costs.decode))


def predict_phase(
    costs: PhaseCosts,
    phase: Phase,
    size: PhaseSize,
    n_train: int,
    n_val: int,
    views_remembered: int = 0,
) -> PhaseSeconds:
    """Return the seconds that a phase will take if it runs all its epochs.

    A head that is solved behind a backbone that was trained before needs that backbone's features
    too: ``predict_features``.

    Args:
        costs: Of this phase.
        phase: The phase. Where the number of views is open, it is taken as many as are of use.
        size: Of this phase.
        n_train: How many images are trained on.
        n_val: How many images it is judged by.
        views_remembered: How many augmented views of the images an earlier run has left.
    """
    if isinstance(phase.fit, Solve):
        return PhaseSeconds(solving=_solving(costs, phase.fit, n_train, n_val))
    epochs = phase.fit.epochs
    return PhaseSeconds(
        views=_views(costs, phase, phase.fit, n_train, n_val, views_remembered)
        if size.remembered
        else 0.0,
        steps=epochs * n_train * costs.step,
        judging=(epochs + 1) * n_val * costs.judge,
        saving=epochs * costs.save,
        solving=_adapting(costs, n_train, n_val) if phase.fit.batch_norm == "adapt" else 0.0,
    )


def _views(
    costs: PhaseCosts, phase: Phase, train: Train, n_train: int, n_val: int, remembered: int
) -> float:
    """Return the seconds of the views that a phase shows: each once, the plain image last."""
    views = min(train.epochs, MOST_VIEWS) if train.views is None else train.views
    views = 0 if phase.augment == "none" else views
    augmented = max(min(train.epochs, views) - remembered, 0)
    plain = n_train if train.epochs > views else 0
    return (n_train * augmented + plain + n_val) * costs.prefix + (
        n_train * augmented * costs.augment
    )


def _adapting(costs: PhaseCosts, n_train: int, n_val: int) -> float:
    """Return the seconds of new statistics, and of solving the head on what they give."""
    passes = min(n_train, MOST_ADAPTED) + n_train + n_val
    return passes * costs.judge + _solving(costs, Solve(PENALTIES), n_train, n_val)


def _solving(costs: PhaseCosts, fit: Solve, n_train: int, n_val: int) -> float:
    """Return the seconds of walking the grid, and of solving again on train and val together."""
    # A small val is not asked: each fold then has its own fit, on all folds but one.
    fits = 1 if n_val >= TINY_VAL else FOLDS - 1
    images = len(fit.penalties) * fits * n_train + n_train + n_val
    return _ITERATIONS * images * costs.solve


def epochs_within(
    costs: PhaseCosts, phase: Phase, size: PhaseSize, n_train: int, n_val: int, seconds: float
) -> int:
    """Return the most epochs whose predicted seconds are at most ``seconds``; 0 where none are.

    Args:
        costs: Of this phase.
        phase: A phase that trains; its own number of epochs does not count.
        size: Of this phase.
        n_train: How many images are trained on.
        n_val: How many images it is judged by.
        seconds: What there is.

    Returns:
        0 to ``MOST_EPOCHS``.
    """
    train = phase.fit
    assert isinstance(train, Train)

    def predicted(epochs: int) -> float:
        longer = replace(phase, fit=replace(train, epochs=epochs))
        return predict_phase(costs, longer, size, n_train, n_val).total

    return bisect_right(range(1, MOST_EPOCHS + 1), seconds, key=predicted)


def predict_rest(
    costs: Costs,
    *,
    n_train: int,
    n_val: int,
    n_test: int,
    average: str = "none",
    audits: bool = False,
) -> RestSeconds:
    """Return the seconds of what follows the phases: evaluation, audit and report.

    Args:
        costs: Of the plan.
        n_train: How many images were trained on.
        n_val: How many images chose.
        n_test: How many images are tested on.
        average: The symmetries over which val's and test's answers are averaged.
        audits: Whether the labels are looked at.
    """
    n, last = n_train + n_val + n_test, costs.phases[-1]
    if last.prefix:  # val's plain view is remembered; train's may not be
        plain = n * last.judge + (n_train + n_test) * last.prefix
    else:  # a head that is solved last has all its features
        plain = n * costs.forward if last.step else 0.0
    mirrored = (len(symmetries(average)) - 1) * (n_val + n_test) * costs.forward
    share = n / _AUDITED
    return RestSeconds(
        evaluation=plain + mirrored,
        audit=_AUDIT_S + _NEIGHBOURS_S * share**2 + _PROBES_S * share if audits else 0.0,
        report=_REPORT_S,
    )
