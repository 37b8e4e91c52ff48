"""What ``auto`` decided, in words: each choice, why, what would change it, and what it costs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headstart.strategy.decision import duration
from headstart.strategy.phase import Solve

if TYPE_CHECKING:
    from headstart.plan import Plan

__all__ = ["decided_lines", "decision_lines"]

_WIDTH = 96


def decided_lines(plan: Plan) -> list[str]:
    """Return the decisions of a plan, its steps with their predicted seconds, and the tables'.

    Args:
        plan: Its ``decided`` is there.
    """
    return [*_decisions(plan), *_steps(plan), *_published(plan)]


def decision_lines(decision: Mapping[str, Any]) -> list[str]:
    """Return a decision, as ``Decision.to_dict`` has it: its choice, then its reason."""
    return [
        f"{decision['question']}: {decision['choice']}",
        *_wrapped(decision["reason"]),
        *_wrapped(f"What would change it: {decision['otherwise']}"),
    ]


def _decisions(plan: Plan) -> Iterator[str]:
    assert plan.decided is not None
    yield f"decided   in {duration(plan.decided.took_s)}:"
    for decision in plan.decided.decisions:
        yield from (f"  {line}" for line in decision_lines(decision.to_dict()))


def _steps(plan: Plan) -> Iterator[str]:
    assert plan.decided is not None
    decided = plan.decided
    yield "time      predicted for this machine:"
    rows: list[tuple[str, float | None, str]] = [("deciding", decided.took_s, "done")]
    for number, (phase, seconds) in enumerate(
        zip(plan.strategy.phases, decided.seconds, strict=True), start=1
    ):
        what = (
            "features of all images, head solved"
            if isinstance(phase.fit, Solve)
            else f"{phase.fit.epochs} epoch{'' if phase.fit.epochs == 1 else 's'}"
        )
        rows.append((f"phase {number}: {what}", seconds, ""))
    rows.append(("evaluation, check of labels and copies, report", decided.rest_s, ""))
    for name, seconds, note in rows:
        took = "unknown" if seconds is None else duration(seconds)
        yield f"  {name:<48}{took:>12}{f'  {note}' if note else ''}"
    allowed = f"of {duration(decided.budget_s)} allowed"
    yield f"  {'in all about':<48}{duration(decided.total_s):>12}  {allowed}"


def _published(plan: Plan) -> Iterator[str]:
    assert plan.decided is not None
    if plan.decided.published:
        yield "tables    published rules go by the number of training images alone, and would take:"
        width = max(len(name) for name, _ in plan.decided.published)
        for name, words in plan.decided.published:
            yield from _hanging(f"  {name:<{width}}  ", words)


def _wrapped(text: str, indent: str = "    ") -> Sequence[str]:
    return _hanging(indent, text, _WIDTH)


def _hanging(first: str, text: str, width: int = _WIDTH + 4) -> Sequence[str]:
    """Wrap a text behind its first words; what has a hyphen, as an option has, stays whole."""
    return textwrap.wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    )
