"""What ``auto`` decides about drawn pictures of which the answers are known.

A budget of an hour leaves time for whatever is tried, however busy the machine is.
"""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from headstart import auto, forecast
from headstart.cache import Cache
from headstart.decided import Decided
from headstart.log import Log
from headstart.options import DEFAULT_BACKBONE, Options
from headstart.planning import make_plan, with_choices
from headstart.strategy.phase import Solve, Train
from probed import write_glyphs

HOUR = 3600.0
HALVES = (0.5, 0.3, 0.2)


@pytest.fixture(scope="module")
def decide(small, tmp_path_factory):
    """Decide on a folder of images; ``small``'s network unless another is given."""
    cache = Cache(tmp_path_factory.mktemp("auto"))

    def made(data, *, spent=0.0, **options):
        events: list = []
        asked = Options(**small | {"strategy": "auto", "budget": HOUR, "split": HALVES} | options)
        plan = make_plan(data, asked, cache=cache)
        decided = auto.decide(plan, cache=cache, log=Log(events.append), spent=lambda: spent)
        told = [event["question"] for event in events if event["event"] == "decision"]
        assert told == [decision.question for decision in decided.decisions]
        return SimpleNamespace(
            plan=plan,
            decided=decided,
            by={decision.question: decision for decision in decided.decisions},
            trains=[p.fit for p in decided.options.strategy.phases if isinstance(p.fit, Train)],
            chosen=with_choices(plan, decided, cache=cache),
        )

    with pytest.MonkeyPatch.context() as patch:
        # The trial is another module's; here it only has to say something.
        patch.setattr(forecast, "measure_costs", partial(forecast.measure_costs, seconds=0.05))
        yield made


def write_banners(root, each: int):
    """Write wide pictures whose ends are dark or bright, and whose middle says nothing."""
    for label, name in enumerate(("dark", "bright")):
        (root / name).mkdir(parents=True)
        for number in range(each):
            draw = np.random.default_rng([label, number])
            pixels = draw.integers(90, 165, (40, 120, 3))
            shade = (40, 210)[label] + draw.integers(-20, 20)
            pixels[:, :36] = pixels[:, -36:] = shade
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def arrows(decide, tmp_path_factory):
    """What is decided of arrows to the left and to the right, with nothing fixed."""
    return decide(write_glyphs(tmp_path_factory.mktemp("arrows"), ("left", "right"), 60))


@pytest.fixture(scope="module")
def banners(decide, tmp_path_factory):
    """What is decided of pictures that are told by their ends, with much fixed."""
    data = write_banners(tmp_path_factory.mktemp("banners"), 60)
    return decide(data, symmetry="flip", epochs=2, lr=5e-4, average="square")


# Arrows


@pytest.mark.slow
def test_left_and_right_are_not_the_same_of_arrows(arrows):
    decision = arrows.by["symmetry"]
    assert decision.choice == "none"
    assert decision.numbers["flip"] < decision.numbers["plain"]
    assert decision.numbers["n"] == len(arrows.plan.split.train)
    options = arrows.decided.options
    assert options.average == "none"
    trained = [p for p in options.strategy.phases if isinstance(p.fit, Train)]
    assert trained
    assert {phase.symmetry for phase in trained} == {"none"}


@pytest.mark.slow
def test_square_pictures_give_no_reason_for_another_resize_rule(arrows):
    decision = arrows.by["resize"]
    assert decision.choice == "crop"
    assert set(decision.numbers) == {"crop", "squash"}  # to pad a square is to squash it
    assert arrows.chosen.backbone.input_spec.resize == "crop"


@pytest.mark.slow
def test_with_time_and_val_enough_every_step_is_taken(arrows):
    assert [decision.question for decision in arrows.decided.decisions][-1] == "everything"
    assert [train.epochs for train in arrows.trains] == [10, 10]
    assert arrows.decided.options.epochs is None
    assert len(arrows.decided.seconds) == len(arrows.decided.options.strategy.phases) == 3
    assert all(seconds > 0 for seconds in arrows.decided.seconds)


@pytest.mark.slow
def test_the_decisions_are_whole_and_go_through_a_file(arrows):
    decided = arrows.decided
    for decision in decided.decisions:
        assert decision.choice
        assert decision.reason.endswith(".")
        assert decision.otherwise.endswith(".")
    read = Decided.from_dict(decided.to_dict(), arrows.plan.given)
    assert read.decisions == decided.decisions
    assert read.options == decided.options
    assert decided.total_s < decided.budget_s == HOUR
    assert dict(decided.published).keys() >= {"bit"}


@pytest.mark.slow
def test_what_was_chosen_is_the_same_run(arrows):
    assert arrows.chosen.spec == arrows.plan.spec
    assert arrows.chosen.lines()


# Banners


@pytest.mark.slow
def test_what_is_told_by_the_border_is_not_cropped(banners):
    decision = banners.by["resize"]
    assert decision.choice in ("squash", "pad")
    assert decision.numbers["squash"]["accuracy"] > decision.numbers["crop"]["accuracy"] + 0.1
    assert banners.decided.options.resize == decision.choice
    assert banners.chosen.backbone.input_spec.resize == decision.choice


@pytest.mark.slow
def test_what_the_user_has_fixed_is_not_decided(banners):
    assert not {"symmetry", "backbone"} & set(banners.by)
    options = banners.decided.options
    assert (options.epochs, options.lr, options.average) == (2, 5e-4, "square")
    assert options.backbone == banners.plan.given.backbone
    assert [train.epochs for train in banners.trains] == [2, 2]
    assert "as many as were asked for" in banners.by["everything"].reason
    highest = max(
        rate.rate
        for phase in banners.chosen.strategy.phases
        if isinstance(phase.fit, Train)
        for rate in phase.rates
        if rate.rate is not None
    )
    assert highest == pytest.approx(5e-4)


# Where there is nothing to go by


def test_of_too_few_images_nothing_is_tried(decide, tmp_path):
    few = decide(write_glyphs(tmp_path / "few", ("ring", "cross"), 3), split=(0.34, 0.33, 0.33))
    assert few.by["facts"].choice == "none measured"
    assert f"{len(few.plan.split.train)} training images" in few.by["facts"].reason
    assert not {"resize", "symmetry", "weights"} & set(few.by)
    assert not few.trains
    assert "val has 2 images" in few.by["everything"].reason


def test_without_time_there_is_the_probe_and_every_question_says_so(decide, photos):
    late = decide(photos, budget=1e-3, epochs=3, augment="strong", split=HALVES)
    for question in ("resize", "symmetry", "weights"):
        assert "are left for what is tried before training" in late.by[question].reason
        assert "--budget" in late.by[question].otherwise
    (probe,) = late.decided.options.strategy.phases
    assert isinstance(probe.fit, Solve)
    assert late.decided.options.average == "none"
    assert len(late.decided.seconds) == 1
    assert late.chosen.strategy.phases[0].fit == probe.fit
    assert not late.chosen.trains


def test_a_resize_rule_that_is_named_is_not_tried(decide, photos):
    late = decide(photos, budget=1e-3, resize="pad")
    assert "resize" not in late.by
    assert late.chosen.backbone.input_spec.resize == "pad"


def test_epochs_given_as_a_setting_of_training_are_fixed_too(decide, photos):
    late = decide(photos, budget=1e-3, train={"epochs": 3}, split=(0.4, 0.45, 0.15))
    assert "3 epochs, as asked for, would take" in late.by["everything"].reason


@pytest.mark.slow
def test_without_time_the_default_network_is_taken(decide, photos):
    late = decide(photos, budget=1e-3, backbone="", weights=None, size=None)
    assert late.by["backbone"].choice == late.decided.options.backbone == DEFAULT_BACKBONE
