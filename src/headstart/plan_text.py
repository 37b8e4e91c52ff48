"""The plan of a run in words, line by line, as ``fit`` prints it before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from headstart.data.checks.check import Finding
from headstart.options import DEFAULT_BUDGET_S
from headstart.strategy.decision import duration
from headstart.strategy.phase import Phase, Solve
from headstart.training.solve import TINY_VAL

if TYPE_CHECKING:
    from headstart.plan import Plan
    from headstart.sizing import PhaseSize

__all__ = ["data_lines", "plan_lines"]

_CLASSES = 6  # that the first line names
_SHOWN = 3  # findings of a kind


def plan_lines(plan: Plan) -> list[str]:
    """Return a plan as lines for people: data, split, network, phases, notes and findings.

    Where ``auto`` chooses, these are the lines before it has; ``decided_text`` has the others.
    """
    if plan.decided is not None:  # what the images are was told before
        notes = (*plan.backbone.notes, *plan.remarks)
        return [*_network(plan), *_phase_lines(plan), *(f"note      {note}" for note in notes)]
    return [
        *data_lines(plan),
        *(_phase_lines(plan) if plan.given is None else _open_lines(plan)),
        *(f"note      {note}" for note in plan.notes),
        *_finding_lines(plan.findings),
    ]


def data_lines(plan: Plan) -> Iterator[str]:
    """Yield the lines on the images, and on the network where it is settled."""
    counts = Counter(item.label for item in plan.checked.items)
    classes, split = plan.task.classes, plan.split
    shown = ", ".join(f"{name} {counts[name]:,}" for name in classes[:_CLASSES])
    more = f" and {len(counts) - _CLASSES} more" if len(counts) > _CLASSES else ""
    yield (
        f"data      {plan.dataset.name}: {len(plan.checked.items):,} images in "
        f"{len(classes)} classes ({shown}{more})"
    )
    yield (
        f"split     train {len(split.train):,}, val {len(split.val):,}, test "
        f"{len(split.test):,} ({split.origin}; digest {split.digest[:12]})"
    )
    if plan.given is None:
        yield from _network(plan)


def _network(plan: Plan) -> Iterator[str]:
    """Yield the lines on the network."""
    backbone = plan.backbone
    yield (
        f"backbone  {backbone.full_name}, {plan.sizes[0].total / 1e6:.1f} million parameters, "
        f"weights {backbone.weights} ({backbone.licence or 'licence not stated'})"
    )
    spec = backbone.input_spec
    yield f"input     {spec.height} x {spec.width}, {spec.resize}, {spec.interpolation}"


def _open_lines(plan: Plan) -> Iterator[str]:
    """Yield what there is to say of the strategy before it is chosen."""
    assert plan.given is not None
    budget = plan.given.budget
    yield (
        "strategy  auto: facts are measured on some training images, then it is decided what pays "
        f"within {duration(DEFAULT_BUDGET_S if budget is None else budget)}"
        + (" (--budget changes that)" if budget is None else "")
    )


def _phase_lines(plan: Plan) -> Iterator[str]:
    yield f"strategy  {plan.strategy.name}"
    phases = zip(plan.strategy.phases, plan.sizes, strict=True)
    for number, (phase, size) in enumerate(phases, start=1):
        yield f"  phase {number} {_phase_line(plan, phase, size)}"


def _phase_line(plan: Plan, phase: Phase, size: PhaseSize) -> str:
    fit = phase.fit
    trained = f"{size.trainable:,} of {size.total:,} parameters"
    if isinstance(fit, Solve):
        choice = (
            f"{len(fit.penalties)} penalties from {max(fit.penalties):g} to {min(fit.penalties):g}"
        )
        chooser = "val" if len(plan.split.val) >= TINY_VAL else "cross-validation on train"
        return f"solve the head: {trained}; {chooser} chooses of {choice}"
    rates = [rate.rate for rate in phase.rates if rate.rate is not None]
    span = f"{max(rates):g}" if min(rates) == max(rates) else f"{min(rates):g}..{max(rates):g}"
    behind = f" behind {size.prefix} remembered blocks" if size.remembered else ""
    return (
        f"train {trained}{behind}: {fit.epochs} epochs of {len(plan.split.train):,} images, "
        f"{fit.optimizer} {span}, {fit.schedule}, augment {phase.augment}"
    )


def _finding_lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Say each finding in a line, a few of a kind; report.json has them all."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    for kind, some in kinds.items():
        for finding in some[:_SHOWN]:
            names = ", ".join(finding.files[:2]) + (", …" if len(finding.files) > 2 else "")
            known = not names or finding.files[0] in finding.message
            yield f"{finding.severity:<9} {finding.message}" + ("" if known else f" ({names})")
        if len(some) > _SHOWN:
            more = f"{len(some) - _SHOWN} more findings of the kind {kind}"
            yield f"{some[0].severity:<9} … and {more}"
