"""The choice of ``auto`` in a run: made once, kept, taken up again."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import pytest

import headstart
from commands import tree
from headstart import fitting
from headstart.cache import Cache
from headstart.errors import ModelError
from planned import LAST, decided_for


@pytest.fixture
def cache(tmp_path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.fixture
def auto(few_photos, small, tmp_path, cache, monkeypatch):
    """Fit what is decided without trying anything: to train the last stage.

    ``auto.asked`` are the plans that were decided on.
    """
    asked = []

    def decide(plan, **_):
        asked.append(plan)
        return decided_for(plan, LAST, average="flip")

    def fit(**options):
        usual = {"strategy": "auto", "size": 32}
        return headstart.fit(few_photos, tmp_path / "run", cache=cache, **small | usual | options)

    monkeypatch.setattr("headstart.choice.decide", decide)
    return SimpleNamespace(fit=fit, asked=asked, folder=tmp_path / "run")


def crash(*_, **__):
    raise RuntimeError("crash")


def test_auto_chooses_once_and_keeps_what_it_chose_in_the_run(auto):
    events = []
    report = auto.fit(listener=events.append).report
    kept = json.loads((auto.folder / "plan.json").read_text())
    assert kept == decided_for(auto.asked[0], LAST, average="flip").to_dict()
    assert (report.strategy["name"], len(report.training)) == ("auto", 2)
    stages = [event["stage"] for event in events if event["event"] == "stage"]
    assert stages == ["read", "choose", "features", "train", "evaluate", "audit"]
    assert "choose_s" in report.timings
    first, second = [event["lines"] for event in events if event["event"] == "plan"]
    assert first == auto.asked[0].lines()
    assert second[0].startswith("decided ")
    assert headstart.load(auto.folder).average == "flip"


def test_the_same_auto_run_again_is_done_and_decides_nothing(auto):
    auto.fit()
    events = []
    again = auto.fit(listener=events.append)
    assert len(auto.asked) == 1
    assert events[-1]["event"] == "done"
    assert events[-1]["already"]
    assert again.folder == auto.folder
    with pytest.raises(ModelError, match="other strategy"):
        auto.fit(budget=90.0)  # another run, which has no place in this folder


def test_an_interrupted_run_takes_up_what_it_had_chosen(auto, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("headstart.fitting.probabilities", crash)
        with pytest.raises(RuntimeError, match="crash"):
            auto.fit()
    kept = (auto.folder / "plan.json").read_bytes()
    monkeypatch.setattr("headstart.choice.decide", crash)
    report = auto.fit().report
    assert (auto.folder / "plan.json").read_bytes() == kept
    assert [phase["kind"] for phase in report.training] == ["solve", "train"]


def test_what_is_interrupted_while_it_is_decided_is_decided_anew(auto, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("headstart.choice.decide", crash)
        with pytest.raises(RuntimeError, match="crash"):
            auto.fit()
    assert {file.name for file in auto.folder.iterdir()} >= {"spec.json"}
    assert not (auto.folder / "plan.json").exists()
    assert headstart.resume(auto.folder).report.strategy["name"] == "auto"
    assert len(auto.asked) == 1


@pytest.mark.parametrize("text", ["", '{"format": 1', "{}", "[]", '{"format": 2}'])
def test_a_damaged_plan_is_refused_and_nothing_is_overwritten(auto, monkeypatch, text):
    with monkeypatch.context() as patch:
        patch.setattr("headstart.fitting.prepare", crash)
        with pytest.raises(RuntimeError, match="crash"):
            auto.fit()
    (auto.folder / "plan.json").write_text(text)
    before = tree(auto.folder)
    with pytest.raises(ModelError, match=r"can't be read|not valid JSON") as raised:
        auto.fit()
    assert raised.value.exit_code == 4
    assert tree(auto.folder) == before
    assert len(auto.asked) == 1


@pytest.fixture
def deadlines(monkeypatch):
    """The deadlines that phases are given, as seconds after the clock was first looked at."""
    given, start, make = [], time.monotonic(), fitting.Phases

    def phases(*arguments, **options):
        deadline = options["deadline"]
        given.append(None if deadline is None else deadline.at - start)
        return make(*arguments, **options)

    monkeypatch.setattr(fitting, "Phases", phases)
    monkeypatch.setattr("headstart.choice.measure", lambda _: None)
    monkeypatch.setattr("headstart.choice.seconds_after", lambda *_: 8.0)
    return SimpleNamespace(given=given, start=start)


def test_training_ends_in_time_for_what_follows_it(auto, deadlines):
    # The clock of the run starts later than the test's, so that none is earlier than promised.
    auto.fit()
    late = time.monotonic() - deadlines.start
    (given,) = deadlines.given
    assert 600 - 2 - 0.1 <= given <= 600 - 2 + late  # as decided_for has it


def test_a_head_that_is_solved_can_not_be_cut_short(auto, deadlines):
    auto.fit(strategy="feature-extraction", budget=500.0)
    assert deadlines.given == [None]


@pytest.mark.parametrize("budget", [None, 500.0])
def test_a_named_strategy_has_a_deadline_where_there_is_a_budget(auto, deadlines, budget):
    auto.fit(strategy="last-blocks:1", epochs=1, budget=budget)
    late = time.monotonic() - deadlines.start
    (given,) = deadlines.given
    if budget is None:
        assert given is None
    else:
        assert 500 - 8 - 0.1 <= given <= 500 - 8 + late
    assert not auto.asked
