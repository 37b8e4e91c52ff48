"""What a study tells: only what its verdicts allow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from comparisons import comparison
from headstart.study import Reached, Result, studies
from headstart.study_text import answers, markdown


@pytest.fixture
def result() -> Result:
    made = comparison()
    reached = tuple(
        Reached(label=g.label, seeds=3, reached=3 * (g.label != "last-blocks:2"), seconds=s)
        for g, s in zip(made.summary, (400.0, 4.0, 30.0, None), strict=True)
    )
    return Result(study=studies()[0], comparison=made, reached=reached)


def test_the_answer_says_who_is_better_by_how_much_and_how_soon(result):
    better, reached, chosen = answers(result)
    assert better.startswith("Better than scratch: feature-extraction (by ")
    for pair in result.comparison.pairs:
        if pair.b == "scratch":
            assert f"{pair.a} (by {100 * pair.difference:.1f} points)" in better
    assert "feature-extraction after 4.0\N{NO-BREAK SPACE}s" in reached
    assert "last-blocks:2" not in reached
    assert chosen.startswith("Val would choose probe-then-fine-tune, which is right on ")


def test_the_answer_may_be_that_nobody_can_tell(result):
    pairs = [replace(pair, p_value=0.5) for pair in result.comparison.pairs]
    unsure = replace(result, comparison=replace(result.comparison, pairs=tuple(pairs)), reached=())
    assert unsure.answer.startswith(
        "Not to be told apart from scratch: feature-extraction, probe-then-fine-tune, last-blocks"
    )


def test_the_answer_says_who_is_worse(result):
    study = replace(result.study, baseline="probe-then-fine-tune")
    told = list(answers(replace(result, study=study, reached=())))
    assert told[0].startswith("Worse than probe-then-fine-tune: scratch (by ")
    assert "Not to be told apart from probe-then-fine-tune: last-blocks:2." in told


def test_the_page_has_question_table_verdicts_and_setup(result):
    text = markdown(result)
    made = result.comparison
    assert text.startswith("# Transfer or scratch?\n\n**What does pre-training buy")
    assert "![accuracy against time](figures/accuracy-time.png)" in text
    for pair in made.pairs:
        assert f"- {pair.verdict}\n" in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + len(made.summary)
    assert len({line.count("|") for line in rows}) == 1
    assert "| never (0 of 3 seeds) |" in text
    assert "split b2b2b2b2b2b2" in text
    assert "2 CPU cores" in text
    assert "seeds: 0, 1, 2" in text


def test_a_study_that_asks_for_no_time_has_no_column_for_it(result):
    text = markdown(replace(result, reached=()))
    assert "never" not in text
    assert "baseline after" not in text


def test_failed_runs_are_told(result):
    made = comparison(failed=["last-blocks:2"])
    text = markdown(replace(result, comparison=made, reached=()))
    assert "- last-blocks:2, seed 1: The loss is not finite." in text
