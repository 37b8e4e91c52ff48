"""The range test: what it is trained on, what it leaves alone, what it says, how it ends."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from streams import EVERYTHING, HEAD_ONLY, PATH, TASK, equal, make_engine, make_examples, weights
from tiny import make_model

from headstart.errors import ResourceError, UnknownName, UsageError
from headstart.strategy.phase import Phase, Rate, Train
from headstart.training import range_test
from headstart.training.model import Model
from headstart.training.range_test import ALL, RangeTester

STAGES = (Rate("head", 1e-2), Rate("stage:-2..-1", 1e-3), Rate("stage:0..-1", None))


def make_tester(model=None, examples=None, *, rates=EVERYTHING, path=PATH, options=None, **train):
    """Make a tester of few steps; ``train`` are fields of ``Train``."""
    fit = Train(**{"epochs": 2, "batch_size": 6} | train)
    return RangeTester(
        make_model() if model is None else model,
        TASK,
        Phase(tuple(rates), fit),
        make_examples() if examples is None else examples,
        path,
        **{"steps": 12} | (options or {}),
    )


def state(model: Model):
    """All that a test could change: values, what is frozen, and the modes."""
    modules = [module.training for module in model.modules()]
    return weights(model), [p.requires_grad for p in model.parameters()], modules


# What it leaves alone


def test_the_model_that_is_given_stays_bit_equal():
    model = make_model().eval()
    before = state(model)
    tests = make_tester(model, rates=STAGES, batch_norm="train").run()
    after = state(model)
    assert equal(before[0], after[0])
    assert before[1:] == after[1:]
    assert all(parameter.grad is None for parameter in model.parameters())
    assert tests[0].losses != tests[0].before  # a copy has learnt


def test_a_phase_that_adapts_is_tested_from_where_it_would_train():
    model = make_model().eval()
    before = state(model)
    plain, adapted = (
        make_tester(model, rates=STAGES, batch_norm=how).run()[0] for how in ("train", "adapt")
    )
    assert equal(before[0], state(model)[0])
    # The head was solved on these very batches' statistics.
    assert np.mean(adapted.before) < np.mean(plain.before)
    again = make_tester(model, rates=STAGES, batch_norm="adapt").run()[0]
    assert again.losses == adapted.losses


def test_it_draws_from_no_global_generator():
    tester = make_tester()
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    tester.run()
    assert torch.equal(torch.rand(1), expected)


def test_it_is_a_function_of_its_seed():
    def curves(seed):
        return [test.losses for test in make_tester(options={"seed": seed}).run()]

    first = curves(0)
    torch.rand(5)
    assert curves(0) == first
    assert curves(1) != first


# What it trains


def test_it_takes_the_batches_that_the_phase_begins_with():
    examples, same = make_examples(views=2), make_examples(views=2)
    make_tester(examples=examples, rates=HEAD_ONLY).run()
    make_engine(examples=same, rates=HEAD_ONLY, epochs=3).run()
    val = set(same.val.tolist())
    trained = [(view, order) for view, order in same.stream.asked if not val & set(order[0])]
    asked = examples.stream.asked
    assert len(asked) % 2 == 0
    for first in (asked[: len(asked) // 2], asked[len(asked) // 2 :]):  # before, and the test
        taken = [(view, batch) for view, order in first for batch in order]
        wanted = [(view, batch) for view, order in trained for batch in order]
        assert len(taken) == 13
        assert taken[: len(wanted)] == wanted
    assert not val & set(itertools.chain(*itertools.chain(*(order for _, order in asked))))


def test_its_first_step_is_the_engines():
    """At a rate of its own, with the same gradients: the loss after the step is the same."""
    options = {"batch_size": 6, "epochs": 1, "schedule": "constant"}
    events: list = []
    make_engine(
        rates=(Rate("stage:0..-1", 1e-3), Rate("head", 1e-2)), events=events, **options
    ).run()
    steps = [event["loss"] for event in events if event["event"] == "step"]
    tester = make_tester(options={"between": (1e-2, 2e-2), "steps": 10}, **options)
    (together, *_) = tester.run([ALL])
    assert together.losses[0] == steps[1]
    assert together.before[0] != steps[1]


def spied(monkeypatch) -> list[list[dict[str, float]]]:
    """Collect the rates that each test's optimizer steps with, by group."""
    found: list[list[dict[str, float]]] = []

    def make(groups, train):
        optimizer = make_optimizer(groups, train)
        found.append([])
        mine, step = found[-1], optimizer.step

        def stepped(*arguments, **options):
            mine.append({group["name"]: group["lr"] for group in optimizer.param_groups})
            return step(*arguments, **options)

        optimizer.step = stepped
        return optimizer

    make_optimizer = range_test.make_optimizer
    monkeypatch.setattr(range_test, "make_optimizer", make)
    return found


def test_all_rates_grow_in_proportion_and_then_each_alone(monkeypatch):
    found = spied(monkeypatch)
    tests = make_tester(rates=STAGES, options={"between": (1e-5, 1e-1)}).run()
    assert [test.group for test in tests] == [ALL, "head", "stage:-2..-1"]
    assert [test.planned for test in tests] == [1e-2, 1e-2, 1e-3]
    wanted = np.geomspace(1e-5, 1e-1, 12)
    for test, steps, head, stages in zip(
        tests, found, (1.0, 1.0, 0.0), (0.1, 0.0, 1.0), strict=True
    ):
        assert test.rates == pytest.approx(wanted)
        for rates, rate in zip(steps, wanted, strict=True):
            theirs = {name: value for name, value in rates.items() if name.startswith("head")}
            others = [value for name, value in rates.items() if name not in theirs]
            assert list(theirs.values()) == pytest.approx([rate * head] * len(theirs))
            assert others == pytest.approx([rate * stages] * len(others))


def test_a_group_alone_moves_nothing_else(monkeypatch):
    tester = make_tester(rates=STAGES)
    start = weights(tester._model)
    tester.run(["head"])
    moved = {n for n, value in weights(tester._model).items() if not torch.equal(value, start[n])}
    assert moved == {"head.weight", "head.bias"}


def test_each_test_starts_from_the_same_weights():
    tests = make_tester(rates=STAGES, batch_norm="train").run()
    again = make_tester(rates=STAGES, batch_norm="train").run(["stage:-2..-1"])
    assert again[0].losses == tests[2].losses
    assert {test.before for test in tests} == {again[0].before}


def test_where_one_pattern_has_a_rate_it_is_all():
    assert make_tester(rates=HEAD_ONLY).groups == (ALL,)
    assert [test.group for test in make_tester(rates=HEAD_ONLY).run()] == [ALL]


def test_a_pattern_that_an_earlier_one_covers_is_no_group():
    rates = (Rate("head", 1e-2), Rate("stage:0..-1", 1e-3), Rate("stage:-1", 1e-4))
    assert make_tester(rates=rates).groups == (ALL, "head", "stage:0..-1")


def test_a_head_that_is_frozen_stays_and_the_rest_is_tested():
    rates = (Rate("head", None), Rate("stage:-1", 1e-3), Rate("stage:0..-1", None))
    tester = make_tester(rates=rates, options={"steps": 40})
    start = weights(tester._model)
    (test,) = tester.run()
    assert torch.equal(tester._model.head.weight, start["head.weight"])
    assert test.losses != test.before


@pytest.mark.parametrize(
    "options",
    [{"mixup": 0.2}, {"sampling": "balanced"}, {"optimizer": "sgd"}, {"l2": 0.1}, {"ema": 0.9}],
)
def test_the_settings_of_the_phase_hold(options):
    test = make_tester(make_model(), **options).run([ALL])[0]
    plain = make_tester(make_model()).run([ALL])[0]
    assert math.isfinite(sum(test.losses))
    assert (test.losses == plain.losses) == ("ema" in options)  # an average is not what is trained


def test_before_anything_is_learnt_the_losses_are_those_of_a_rate_of_nothing():
    """With dropout and mixing drawn alike, a rate of almost nothing changes almost nothing."""
    options = {"between": (1e-12, 1e-11)}
    test = make_tester(mixup=0.2, batch_norm="train", options=options).run([ALL])[0]
    assert test.losses == pytest.approx(test.before, abs=1e-6)
    assert test.suggestion is None
    assert "never falls" in test.reason


def test_weights_of_images_count():
    examples = make_examples()
    heavy = np.where(examples.labels == 0, 5.0, 1.0).astype(np.float32)
    plain, weighed = (
        make_tester(examples=given).run([ALL])[0]
        for given in (examples, replace(make_examples(), weights=heavy))
    )
    assert plain.before != weighed.before


# What it says


def test_a_net_that_can_learn_gets_a_rate_that_teaches():
    model = make_model()
    options = {"steps": 60}
    (test,) = make_tester(model, rates=HEAD_ONLY, options=options, label_smoothing=0.0).run()
    assert test.suggestion is not None
    assert test.suggestion <= test.highest_good_rate
    assert test.reason.startswith("the loss falls fastest at")
    lowest = int(np.argmin(np.abs(np.log(np.array(test.rates) / test.suggestion))))
    assert test.smoothed[lowest] < test.smoothed[0]
    losses = {}
    for rate in (test.suggestion, test.suggestion / 100):
        events: list = []
        rates = (Rate("head", rate), Rate("stage:0..-1", None))
        make_engine(copy.deepcopy(model), rates=rates, events=events, epochs=5).run()
        losses[rate] = [e["loss"] for e in events if e["event"] == "epoch"][-1]
    assert losses[test.suggestion] < losses[test.suggestion / 100]


def test_it_stops_when_the_loss_diverges():
    options = {"between": (1e-3, 1e6), "steps": 30}
    test = make_tester(optimizer="sgd", rates=HEAD_ONLY, clip=None, options=options).run()[0]
    assert test.stopped == "diverged"
    assert 0 < len(test.losses) < 30
    assert test.smoothed[-1] > 4 * min(test.smoothed)
    assert test.highest_good_rate is None or test.highest_good_rate < test.rates[-1]
    assert len(test.rates) == len(test.losses) == len(test.before) == len(test.smoothed)


def test_it_stops_when_a_gradient_is_not_finite(monkeypatch):
    monkeypatch.setattr(range_test, "diverged", lambda losses, before: False)
    options = {"between": (1e-3, 1e37), "steps": 40}
    test = make_tester(optimizer="sgd", clip=None, options=options).run([ALL])[0]
    assert test.stopped == "not-finite"
    assert all(map(math.isfinite, test.losses))
    assert math.isfinite(sum(test.smoothed))


def test_where_not_even_the_start_is_finite_nothing_is_suggested():
    model = make_model()
    with torch.no_grad():
        model.head.bias.fill_(math.nan)
    test = make_tester(model).run([ALL])[0]
    assert (test.stopped, test.losses, test.smoothed) == ("not-finite", (), ())
    assert test.suggestion is None
    assert "not finite" in test.reason


# Time and memory


class Clock:
    """A clock on which each look takes a second."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize(("deadline", "groups", "stopped"), [(500, 3, None), (38, 1, None)])
def test_what_there_is_no_time_for_is_left_out(monkeypatch, deadline, groups, stopped):
    monkeypatch.setattr(range_test, "time", Clock())
    tests = make_tester(rates=STAGES, options={"deadline": deadline}).run()
    assert len(tests) == groups
    assert tests[0].stopped is stopped


def test_a_test_ends_when_its_time_is_up(monkeypatch):
    monkeypatch.setattr(range_test, "time", Clock())
    (test,) = make_tester(rates=STAGES, options={"deadline": 22}).run()
    assert test.stopped == "deadline"
    assert 2 <= len(test.losses) < 12
    assert test.suggestion is None


def test_where_there_is_no_time_at_all_nothing_is_said(monkeypatch):
    monkeypatch.setattr(range_test, "time", Clock())
    (test,) = make_tester(rates=STAGES, options={"deadline": 1}).run()
    assert (test.stopped, test.losses) == ("deadline", ())
    assert "the time was up" in test.reason


def test_progress_counts_the_steps_of_all_tests():
    seen: list[tuple[int, int]] = []
    tester = make_tester(rates=STAGES, options={"progress": lambda *a: seen.append(a)})
    tester.run()
    assert {total for _, total in seen} == {4 * 13}
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1][0] >= 4 * 13 - 1


def short_of_memory(monkeypatch, most: int) -> list[int]:
    """Let more than ``most`` images at once be too many; return the sizes that were tried."""
    tried: list[int] = []
    forward = Model.forward

    def checked(self, values):
        tried.append(len(values))
        if len(values) > most:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        return tail_forward(self, values)

    tail_forward = range_test.Tail.forward
    monkeypatch.setattr(range_test.Tail, "forward", checked)
    assert forward is Model.forward
    return tried


def test_a_batch_is_split_where_memory_is_short(monkeypatch):
    plain = make_tester(rates=HEAD_ONLY).run()[0]
    tried = short_of_memory(monkeypatch, 3)
    split = make_tester(rates=HEAD_ONLY).run()[0]
    assert max(tried[3:]) <= 3
    assert len(split.losses) == len(plain.losses)


def test_one_image_that_is_too_large_is_an_error(monkeypatch):
    short_of_memory(monkeypatch, 0)
    with pytest.raises(ResourceError, match="single image"):
        make_tester().run()


def test_another_error_of_torch_is_not_taken_for_want_of_memory(monkeypatch):
    def broken(self, values):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(range_test.Tail, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        make_tester().run()


# What can't be tested


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 9}, "at least 10 steps"),
        ({"between": (0.0, 1.0)}, "from 0 to 1"),
        ({"between": (1.0, 1.0)}, "from 1 to 1"),
        ({"between": (1e-3, math.inf)}, "from 0.001 to inf"),
    ],
)
def test_a_range_that_is_none_is_an_error(options, words):
    with pytest.raises(UsageError, match=words):
        make_tester(options=options)


def test_a_group_that_there_is_none_of_is_an_error():
    with pytest.raises(UnknownName, match=r"no group of rates named 'stage:7'"):
        make_tester().run(["stage:7"])
