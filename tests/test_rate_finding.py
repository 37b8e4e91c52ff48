"""The range test of a phase from images on: which phase, from which start, what is told."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from headstart.cache import Cache
from headstart.errors import UsageError
from headstart.feeding import examples_of
from headstart.fitting import fit
from headstart.log import Log
from headstart.options import Options
from headstart.phases import Phases
from headstart.rate_finding import RateFinding, find_phase_rate, find_rate
from headstart.strategy.phase import Rate, Train
from headstart.strategy.strategy import Strategy
from headstart.training.engine import Engine
from headstart.training.range_record import RangeTest
from headstart.training.range_test import RangeTester
from planned import HEAD, HEAD_ONLY, LAST, LAST_TWO
from reports import size_of


@pytest.fixture(autouse=True)
def few_steps(monkeypatch):
    """Fifteen steps a test: five rounds of these images."""
    monkeypatch.setattr("headstart.training.range_batches.FEWEST", 10)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def find(few_photos, small, cache):
    """Find the rate of a phase of these phases."""

    def found(*phases, listener=None, phase=None, out=None, seconds=None, **options):
        asked = Options(**small | {"size": 32, "strategy": Strategy("mine", phases)} | options)
        return find_rate(
            few_photos,
            asked,
            phase=phase,
            out=out,
            seconds=seconds,
            cache=cache,
            listener=listener,
        )

    return found


def test_the_first_phase_that_trains_is_tested_for_all_rates_and_for_each(find):
    found = find(HEAD, LAST)
    assert (found.strategy, found.phase, found.alone) == ("mine", 2, True)
    assert (found.optimizer, found.batch_size) == ("adamw", 8)
    assert [test.group for test in found.tests] == ["all", "head", "stage:-1"]
    assert found.skipped == ()
    assert found.files == ()
    assert found.suggestion == found.tests[0].suggestion
    assert found.highest_good_rate == found.tests[0].highest_good_rate


def test_it_starts_where_the_fit_would(find, few_photos, small, cache, tmp_path, monkeypatch):
    """The head is solved on train alone, and the loss is that of the fit's own first batch."""
    starts: list[dict[str, torch.Tensor]] = []
    events: list = []
    run = Engine.run

    def spied(self):
        starts.append({n: v.detach().clone() for n, v in self.model.state_dict().items()})
        return run(self)

    tested: list[dict[str, torch.Tensor]] = []
    make = RangeTester.__init__

    def seen(self, model, *arguments, **options):
        tested.append({n: v.detach().clone() for n, v in model.state_dict().items()})
        make(self, model, *arguments, **options)

    monkeypatch.setattr(Engine, "run", spied)
    monkeypatch.setattr(RangeTester, "__init__", seen)
    found = find(HEAD, LAST)
    assert starts == []  # nothing was trained
    options = small | {"size": 32, "strategy": Strategy("mine", (HEAD, LAST))}
    fit(few_photos, tmp_path / "run", listener=events.append, cache=cache, **options)
    assert starts[0].keys() == tested[0].keys()
    assert all(torch.equal(value, tested[0][name]) for name, value in starts[0].items())
    steps = [event["loss"] for event in events if event["event"] == "step"]
    assert found.tests[0].losses[0] == pytest.approx(steps[1], rel=0.05)  # at almost no rate


def test_a_phase_is_chosen_by_its_number_and_those_before_it_are_run(find, monkeypatch):
    trained: list[int] = []
    run = Engine.run

    def counted(self):
        trained.append(self.number)
        return run(self)

    monkeypatch.setattr(Engine, "run", counted)
    found = find(HEAD_ONLY, LAST_TWO, phase=2)
    assert trained == [1]
    assert (found.phase, found.alone) == (2, False)
    assert [test.group for test in found.tests] == ["all", "head", "stage:-2..-1"]
    assert find(HEAD_ONLY, LAST_TWO).phase == 1
    assert trained == [1]


def test_where_every_phase_solves_there_is_no_rate_to_find(find):
    with pytest.raises(UsageError, match="no rate to find") as raised:
        find(HEAD)
    assert "--epochs" in raised.value.hint


@pytest.mark.parametrize("phase", [0, 1, 3, -1])
def test_a_phase_that_does_not_train_is_an_error(find, phase):
    with pytest.raises(UsageError, match=rf"for phase 2, not for {phase}\."):
        find(HEAD, LAST, phase=phase)


def test_a_phase_that_is_not_reached_is_an_error(find):
    wild = replace(
        LAST,
        rates=(Rate("head", 1e38), Rate("stage:0..-1", 1e38)),
        fit=Train(epochs=2, batch_size=8, schedule="constant", optimizer="sgd", clip=None),
    )
    with pytest.raises(UsageError, match=r"Phase 2 is never reached: the loss of phase 1"):
        find(wild, LAST, phase=2)


def test_what_is_written_is_a_figure_and_the_numbers(find, tmp_path):
    found = find(LAST, out=tmp_path / "rates")
    figure, numbers = found.files
    assert size_of(figure.read_bytes())[0] > 1000
    document = json.loads(numbers.read_text())
    assert document == found.to_dict()
    assert document["tests"][0]["rates"] == list(found.tests[0].rates)
    assert [line for line in found.lines() if line.startswith("written")] == [
        f"written   {figure}",
        f"written   {numbers}",
    ]


def test_the_listener_is_told_of_the_steps(find):
    events: list = []
    find(LAST, listener=events.append)
    steps = [e for e in events if e["event"] == "progress" and e["stage"] == "rates"]
    assert steps[-1]["total"] == 4 * 16
    assert [event["lines"] for event in events if event["event"] == "plan"]


def test_the_model_that_is_given_stays_and_some_groups_can_be_chosen(prepared, cache):
    plan, images = prepared(HEAD, LAST)
    model = Phases(plan, images, plan.path, cache, Log()).model
    before = {n: value.clone() for n, value in model.state_dict().items()}
    found = find_phase_rate(plan, images, model, 1, cache, plan.path, groups=["all"])
    assert [test.group for test in found.tests] == ["all"]
    assert found.skipped == ()
    assert all(torch.equal(value, before[n]) for n, value in model.state_dict().items())


def test_a_phase_is_fed_what_it_would_train_on(prepared, cache):
    plan, images = prepared(HEAD, LAST)
    examples = examples_of(plan, images, 1, cache, plan.path)
    assert examples.train.tolist() == images.parts["train"].tolist()
    assert examples.val.tolist() == images.parts["val"].tolist()
    assert examples.stream.start == plan.sizes[1].prefix > 0
    assert examples.views == plan.strategy.phases[1].fit.views == 1


def test_for_groups_without_time_there_is_a_note(find):
    found = find(LAST, seconds=0.0)
    assert [test.stopped for test in found.tests] == ["deadline"]
    assert found.skipped == ("head", "stage:-1")
    assert "There was no time to test head, stage:-1 alone." in found.notes
    assert "the time was up" in "\n".join(found.lines())


# What is said


def made(group="all", suggestion: float | None = 3.2e-4, **values) -> RangeTest:
    return RangeTest(
        **{
            "group": group,
            "planned": 1e-3,
            "rates": (1e-4, 1e-3),
            "losses": (0.5, 0.4),
            "before": (0.6, 0.6),
            "guessing": 0.69,
            "smoothed": (0.5, 0.4),
            "suggestion": suggestion,
            "highest_good_rate": 1e-2,
            "reason": "the loss falls fastest at 3.2e-04",
            "rules": {},
            "stopped": None,
            "seconds": 1.0,
        }
        | values
    )


def finding(*tests: RangeTest, alone: bool = True) -> RateFinding:
    return RateFinding("last-blocks:2", 2, alone, "adamw", 32, tests or (made(),), ())


def test_the_lines_have_each_groups_rate_and_reason():
    lines = finding(made(), made("head", None, reason="no suggestion: x")).lines()
    assert lines == [
        "rate      range test of phase 2 of last-blocks:2: adamw, 32 images a step",
        "  all together  3.2e-04  (planned 1.0e-03) the loss falls fastest at 3.2e-04",
        "  head          none     (planned 1.0e-03) no suggestion: x",
        "try       --lr 3.2e-04",
    ]


def test_where_several_phases_train_lr_would_change_them_all():
    assert finding(alone=False).lines()[-1].startswith("try       3.2e-04 in a strategy's file")
    assert not [line for line in finding(made(suggestion=None)).lines() if line.startswith("try")]


def test_a_rate_above_the_highest_good_one_is_told():
    assert finding().notes == ()
    (note,) = finding(made(planned=2e-2)).notes
    assert note.startswith("The planned rate, 2.0e-02, is above 1.0e-02")


def test_a_start_worse_than_guessing_is_told():
    (note,) = finding(made(before=(200.0, 204.0), highest_good_rate=None)).notes
    assert note.startswith("The phase starts at a loss of 202, and guessing would give 0.69")
