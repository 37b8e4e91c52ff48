"""Plans that are looked at and not carried out."""

from __future__ import annotations

import pytest

from headstart import proposing
from headstart.cache import Cache
from headstart.errors import UnknownName
from headstart.proposing import proposal_lines, propose
from planned import LAST, decided_for


@pytest.fixture
def asked(monkeypatch) -> list:
    """Have it decided to train the last stage; the plans that were asked about."""
    plans: list = []

    def decide(plan, *, cache, log, spent):
        plans.append(plan)
        first, second = spent(), spent()
        assert 0 <= first <= second
        decided = decided_for(plan, LAST, resize="pad")
        for decision in decided.decisions:
            log.emit("decision", **decision.to_dict())
        return decided

    monkeypatch.setattr(proposing, "decide", decide)
    return plans


@pytest.fixture
def proposed(photos, small, tmp_path):
    """Propose what to do with the photos."""

    def make(**options):
        return propose(photos, cache=Cache(tmp_path / "cache"), **small | options)

    return make


def test_what_was_decided_is_planned_and_its_strategy_can_be_kept(proposed, asked):
    plan = proposed(strategy="auto", seed=3)
    assert len(asked) == 1
    assert asked[0].given.seed == plan.options.seed == 3
    assert plan.backbone.input_spec.resize == "pad"
    assert [phase.fit for phase in plan.asked.phases][1] == LAST.fit
    assert plan.to_dict()["auto"] == plan.decided.explained()


def test_nothing_is_trained_and_no_folder_is_written(proposed, asked, tmp_path, monkeypatch):
    def never(*_, **__):
        raise AssertionError("trained")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("headstart.training.engine.Engine.run", never)
    monkeypatch.setattr("headstart.training.features.Forward", never)
    proposed(strategy="auto")
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_the_story_is_told_in_order(proposed, asked):
    events: list = []
    proposed(strategy="auto", listener=events.append)
    story = [event["event"] for event in events if event["event"] != "progress"]
    assert story == ["stage", "plan", "stage", "decision"]
    assert [e["stage"] for e in events if e["event"] == "stage"] == ["read", "choose"]
    (told,) = [event for event in events if event["event"] == "plan"]
    assert told["lines"] == asked[0].lines()


def test_a_strategy_that_is_named_leaves_nothing_to_decide(proposed, asked):
    plan = proposed(strategy="last-blocks:1")
    assert not asked
    assert plan.decided is None
    assert proposal_lines(plan) == plan.lines()


def test_the_lines_are_of_the_data_then_of_what_was_decided(proposed, asked):
    plan = proposed(strategy="auto")
    lines = proposal_lines(plan)
    assert [line.split()[0] for line in lines[:3]] == ["data", "split", "decided"]
    assert lines[2] == "decided   in 1 s:"
    assert lines[3] == "  resize: crop"
    assert lines[-len(plan.lines()) :] == plan.lines()
    assert plan.lines()[0].startswith("backbone")


def test_what_can_not_be_used_is_told(proposed):
    with pytest.raises(UnknownName, match="strategy"):
        proposed(strategy="magic")
