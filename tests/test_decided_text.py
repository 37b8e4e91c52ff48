"""Decisions in words: every choice with its reason, and the seconds of every step."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

from headstart.decided import Decided
from headstart.decided_text import decided_lines, decision_lines
from headstart.options import Options
from headstart.strategy import names
from headstart.strategy.decision import Decision

LONG = " ".join(["The probe has 86.4 % of 600 training images right with --some-long-option."] * 4)
RESIZE = Decision("resize", "squash", LONG, "A difference within the noise.")
LAST = Decision("last 2 of 4 stages", "10 epochs", "They fit.", "Another --budget.")
DECIDED = Decided(
    options=Options(strategy=names.create("auto", 4)),
    decisions=(RESIZE, LAST),
    seconds=(3.4, 75.0, 301.0),
    rest_s=6.0,
    took_s=12.5,
    budget_s=600.0,
    published=(("bit", "fine-tune everything"), ("table:500-2000", "train the head " * 12)),
)


def plan_of(decided: Decided) -> SimpleNamespace:
    """As much of a plan as the lines are made of."""
    return SimpleNamespace(decided=decided, strategy=decided.options.strategy)


LINES = decided_lines(plan_of(DECIDED))


def test_every_decision_has_its_choice_its_reason_and_what_would_change_it() -> None:
    assert LINES[0] == "decided   in 12 s:"
    assert "  resize: squash" in LINES
    assert LINES.index("  resize: squash") < LINES.index("  last 2 of 4 stages: 10 epochs")
    after = LINES[LINES.index("  last 2 of 4 stages: 10 epochs") + 1 :]
    assert after[:2] == ["      They fit.", "      What would change it: Another --budget."]


def test_a_long_reason_is_wrapped_and_no_word_is_lost() -> None:
    choice, *reason = decision_lines(RESIZE.to_dict())
    assert choice == "resize: squash"
    assert all(line.startswith("    ") and len(line) <= 96 for line in reason)
    told = " ".join(line.strip() for line in reason)
    assert told == f"{LONG} What would change it: A difference within the noise."


def test_the_steps_are_told_with_their_seconds_and_the_whole() -> None:
    start = LINES.index("time      predicted for this machine:")
    shown = [" ".join(line.split()) for line in LINES[start + 1 : start + 7]]
    assert shown == [
        "deciding 12 s done",
        "phase 1: features of all images, head solved 3 s",
        "phase 2: 10 epochs 1 min 15 s",
        "phase 3: 10 epochs 5 min 1 s",
        "evaluation, check of labels and copies, report 6 s",
        "in all about 6 min 38 s of 10 min allowed",
    ]
    # A column of times, right-aligned.
    rows = LINES[start + 1 : start + 7]
    ends = [row.rindex(unit) for row, unit in zip(rows[1:5], ["s"] * 4, strict=True)]
    assert len(set(ends)) == 1


def test_what_was_not_predicted_is_not_told_as_nothing() -> None:
    lines = decided_lines(plan_of(replace(DECIDED, seconds=(None, 75.0, 301.0))))
    (line,) = [line for line in lines if "head solved" in line]
    assert line.split()[-1] == "unknown"


def test_the_tables_are_told_below_each_other() -> None:
    start = next(n for n, line in enumerate(LINES) if line.startswith("tables    published rules"))
    first, second, *more = LINES[start + 1 :]
    assert first == "  bit             fine-tune everything"
    assert second.startswith("  table:500-2000  train the head")
    assert more
    for line in more:
        assert len(line) - len(line.lstrip()) == 18
        assert len(line) <= 100


def test_without_tables_there_is_no_line_of_them() -> None:
    lines = decided_lines(plan_of(replace(DECIDED, published=())))
    assert not [line for line in lines if line.startswith("tables")]
    assert lines == LINES[: len(lines)]
