"""What is timed in a trial, by a clock that only ticks when it is looked at."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from headstart.costs import Costs, PhaseCosts, predict_phase
from headstart.data.loader import load
from headstart.options import Options
from headstart.sizing import PhaseSize, size_up
from headstart.strategy.phase import Phase, Rate, Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.device import InferencePath
from headstart.training.engine import Engine
from headstart.training.model import Model
from headstart.training.task import SingleLabel
from headstart.trial import measure_costs
from networks import untrained

PATH = InferencePath("cpu", "fp32", "channels_last", 8)
TASK = SingleLabel(("a", "b", "c"))
HEAD = (Rate("head", 1e-2), Rate("stage:0..-1", None))
LAST = (Rate("head", 1e-2), Rate("stage:-1", 1e-3), Rate("stage:0..-1", None))
ALL = (Rate("head", 1e-2), Rate("stage:0..-1", 1e-3))
SOLVED = Phase(HEAD, Solve((100.0, 1.0)))
BEHIND = Phase(LAST, Train(epochs=2, batch_size=6), "light")
EVERYTHING = Phase(ALL, Train(epochs=2, batch_size=6), "light")


def make_model(name: str = "test_resnet") -> Model:
    backbone = untrained(name, 32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Model(backbone, nn.Linear(backbone.feature_dim, 3))


class Ticks:
    """A clock that ticks each time it is looked at."""

    def __init__(self) -> None:
        self.time = itertools.count()

    def __call__(self) -> float:
        return float(next(self.time))


def trial(*phases: Phase, model: Model | None = None, budget: int = 10**9, **options: Any) -> Costs:
    """Measure phases, one tick for each part."""
    model = make_model() if model is None else model
    sized = size_up(model, Strategy("mine", phases), Options(), PATH, n_train=40, budget=budget)
    given = {"seconds": 0.0, "timer": Ticks()} | options
    return measure_costs(model, TASK, sized.strategy, sized.sizes, PATH, **given)


def test_every_part_of_every_kind_of_phase_is_timed_by_the_image():
    solved, behind, everything = trial(SOLVED, BEHIND, EVERYTHING).phases
    assert solved == PhaseCosts(solve=solved.solve)
    assert solved.solve > 0
    # One tick a batch: 32 images in the trial, 6 a step, as many judged at once.
    once = PhaseCosts(prefix=1 / 32, step=1 / 6, judge=1 / 6, save=1)
    assert behind == once  # the augmentation is within the tick
    assert everything == replace(once, prefix=0)


def test_to_adapt_is_timed_by_its_parts_and_not_with_the_steps():
    adapting = replace(BEHIND, fit=replace(BEHIND.fit, batch_norm="adapt"))
    plain, found = trial(BEHIND, adapting).phases
    assert found.solve > 0
    assert replace(found, solve=0.0) == plain


def test_an_augmented_view_costs_what_it_takes_beyond_the_plain_one(monkeypatch):
    ticks = Ticks()

    def slow(*arguments):
        ticks()
        return arguments[0].copy()

    monkeypatch.setattr(
        "headstart.training.pixels.in_threads", lambda work, some, **_: iter_of(work, some)
    )
    monkeypatch.setattr("headstart.data.augment._light", slow)
    (found,) = trial(BEHIND, timer=ticks).phases
    assert found.prefix == 1 / 32
    assert found.augment == 1  # a tick for each of the 32
    (plain,) = trial(replace(BEHIND, augment="none"), timer=ticks).phases
    assert (plain.prefix, plain.augment) == (1 / 32, 0)


def iter_of(work, things):
    for thing in things:
        yield work(thing)


def test_what_is_not_remembered_is_in_the_step():
    (found,) = trial(BEHIND, budget=0).phases
    assert (found.prefix, found.augment) == (0, 0)
    assert found.step == 1 / 6


def test_the_plain_features_and_the_decoding_are_timed_by_the_image(photos):
    files = sorted(photos.rglob("*.jpg"))
    found = trial(SOLVED, images=files)
    assert found.forward == 1 / 8
    assert found.decode == 2 / 8  # until the first batch of eight and until the end
    assert trial(SOLVED).decode == 0
    assert found.took > 0


def test_images_that_can_not_be_read_leave_noise(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    found = trial(BEHIND, images=[bad])
    assert found.decode == 0
    assert found.phases[0].step > 0


def test_the_trial_runs_on_the_images_given_taken_evenly(monkeypatch):
    seen = []

    def spied(sources, *rest):
        seen.extend(int(source[0, 0, 0]) for source in sources)
        return load(sources, *rest)

    monkeypatch.setattr("headstart.trial.load", spied)
    given = [np.full((32, 32, 3), number, np.uint8) for number in range(200)]
    trial(SOLVED, images=given)
    assert len(seen) == 48
    assert (seen[0], seen[-1]) == (0, 199)
    assert seen == sorted(set(seen))
    seen.clear()
    trial(SOLVED, images=given[:5])
    assert seen == [0, 1, 2, 3, 4]


def state(model: Model) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_network_is_untouched(precision):
    model = make_model("test_efficientnet")  # with depthwise convolutions
    path = replace(PATH, precision=precision)
    averaged = replace(EVERYTHING, fit=Train(epochs=1, batch_size=6, ema=0.9))
    strategy = Strategy("mine", (SOLVED, BEHIND, averaged))
    sizes = size_up(model, strategy, Options(), path, n_train=40, budget=10**9).sizes
    model.train()
    for parameter in itertools.islice(model.parameters(), 3):
        parameter.requires_grad_(False)
    before = state(model)
    awake = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    strides = [value.stride() for value in model.parameters()]
    random = torch.get_rng_state()
    measure_costs(model, TASK, strategy, sizes, path, seconds=0.0, timer=Ticks())
    after = state(model)
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert [parameter.requires_grad for parameter in model.parameters()] == awake
    assert [module.training for module in model.modules()] == modes
    assert [value.stride() for value in model.parameters()] == strides
    assert all("forward" not in vars(module) for module in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_steps_are_taken_until_the_time_is_up(monkeypatch):
    taken = []
    step = Engine._step

    def counted(self, *arguments):
        taken.append(1)
        return step(self, *arguments)

    monkeypatch.setattr(Engine, "_step", counted)
    trial(EVERYTHING)
    assert len(taken) == 4  # one to warm up, and three
    taken.clear()
    trial(EVERYTHING, seconds=6 * 12.0)  # 6 parts, 12 ticks each
    assert 4 < len(taken) < 30
    taken.clear()
    trial(EVERYTHING, seconds=6 * 150.0)
    assert len(taken) == 30 * EVERYTHING.fit.epochs


def test_a_network_whose_loss_is_not_finite_is_still_timed():
    model = make_model()
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    (found,) = trial(EVERYTHING, model=model).phases
    assert found.step > 0


def test_a_transform_from_python_is_part_of_the_step():
    calls = []

    def custom(image: torch.Tensor) -> torch.Tensor:
        calls.append(image.shape)
        return image

    (found,) = trial(replace(EVERYTHING, augment="custom"), custom=custom).phases
    assert calls[0] == (3, 32, 32)
    assert found.augment == 0


def test_mixing_and_balanced_sampling_are_timed_too():
    fit = Train(epochs=1, batch_size=6, mixup=0.2, sampling="balanced", ema=0.9, l2=1e-3)
    (found,) = trial(replace(EVERYTHING, fit=fit)).phases
    assert found.step == 1 / 6


def test_costs_feed_the_prediction():
    costs = trial(BEHIND)
    size = PhaseSize(1, 2, 3, remembered=True)
    found = predict_phase(costs.phases[0], BEHIND, size, n_train=60, n_val=12)
    assert found.steps == pytest.approx(2 * 60 / 6)
    assert found.judging == pytest.approx(6)


def test_pixels_of_another_size_are_resized():
    given = list(np.zeros((4, 50, 70, 3), np.uint8))
    assert trial(EVERYTHING, images=given).decode > 0
