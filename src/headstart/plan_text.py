"""The plan of a run in words, line by line, as ``fit`` prints it before it begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from headstart.data.checks.check import Finding
from headstart.strategy.phase import Phase, Solve
from headstart.training.solve import TINY_VAL

if TYPE_CHECKING:
    from headstart.plan import Plan
    from headstart.sizing import PhaseSize

__all__ = ["plan_lines"]

_CLASSES = 6  # that the first line names
_SHOWN = 3  # findings of a kind


def plan_lines(plan: Plan) -> list[str]:
    """Return a plan as lines for people: data, split, network, phases, notes and findings."""
    return [
        *_what_with(plan),
        *_phase_lines(plan),
        *(f"note      {note}" for note in plan.notes),
        *_finding_lines(plan.findings),
    ]


def _what_with(plan: Plan) -> Iterator[str]:
    """Yield the lines on the images and the network."""
    counts = Counter(item.label for item in plan.checked.items)
    classes, split, backbone = plan.task.classes, plan.split, plan.backbone
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
    yield (
        f"backbone  {backbone.full_name}, {plan.sizes[0].total / 1e6:.1f} million parameters, "
        f"weights {backbone.weights} ({backbone.licence or 'licence not stated'})"
    )
    spec = backbone.input_spec
    yield f"input     {spec.height} x {spec.width}, {spec.resize}, {spec.interpolation}"


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
