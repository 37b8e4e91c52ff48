"""The ladder of ``auto``: which steps fit into the time, and what they train."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from headstart.strategy import names
from headstart.strategy.decision import Decision
from headstart.strategy.ladder import (
    LEAST_EPOCHS,
    LEAST_VAL,
    Choice,
    Step,
    choose_steps,
    ladder,
    possible_steps,
)
from headstart.strategy.phase import Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.model import Model
from networks import untrained

LAST, EVERYTHING = possible_steps(7)


def step(named, seconds) -> Step:
    return Step(named[0], named[1], tuple(seconds))


def even(named, each: float, most: int = 10) -> Step:
    return step(named, [each * (n + 1) for n in range(most)])


def choose(seconds: float, n_val: int = 100, **options) -> Choice:
    steps = [even(LAST, 2.0), even(EVERYTHING, 10.0)]
    return choose_steps(steps, n_val=n_val, seconds=seconds, **options)


def epochs_of(choice: Choice) -> list[int]:
    return [phase.fit.epochs for phase in choice.strategy.phases if isinstance(phase.fit, Train)]


lasting = st.lists(st.floats(0.01, 100), min_size=1, max_size=10).map(
    lambda each: tuple(accumulate(each))
)
steps_of = st.tuples(lasting, lasting).map(
    lambda both: [step(LAST, both[0]), step(EVERYTHING, both[1])]
)


def test_the_head_is_solved_first_whatever_else() -> None:
    for choice in (choose(0.0), choose(1e6)):
        first = choice.strategy.phases[0]
        assert isinstance(first.fit, Solve)
        assert first.keep == "always"
        assert choice.strategy.name == "auto"


def test_with_time_enough_every_step_has_all_its_epochs() -> None:
    choice = choose(1000.0)
    assert epochs_of(choice) == [10, 10]
    assert choice.seconds == (20.0, 100.0)
    assert [decision.choice for decision in choice.decisions] == ["10 epochs", "10 epochs"]
    for decision in choice.decisions:
        assert "as many as have been of use. Kept only if val improves" in decision.reason
    assert (
        "10 epochs would take about 20 s here, and 17 min are left: " in choice.decisions[0].reason
    )


def test_the_cheapest_comes_first_and_the_next_has_what_is_left() -> None:
    choice = choose(65.0)
    assert epochs_of(choice) == [10, 4]
    assert choice.seconds == (20.0, 40.0)
    last = choice.decisions[1]
    assert "4 epochs would take about 40 s here, and 45 s are left: as many as fit." in last.reason
    assert last.numbers["left_s"] == 45.0
    assert last.numbers["epochs"] == 4


def test_a_step_that_fits_only_in_part_is_left_out() -> None:
    choice = choose(59.0)
    assert epochs_of(choice) == [10]
    assert choice.decisions[1] == Decision(
        "everything",
        "left out",
        "4 epochs, the least that are of use, would take about 40 s, and 39 s are left.",
        choice.decisions[1].otherwise,
        {"seconds": [10.0 * n for n in range(1, 11)], "left_s": 39.0, "epochs": 0},
    )
    assert "--budget" in choice.decisions[1].otherwise


@pytest.mark.parametrize("seconds", [0.0, -50.0])
def test_without_time_there_is_the_probe_alone(seconds) -> None:
    choice = choose(seconds)
    assert epochs_of(choice) == []
    assert choice.seconds == ()
    assert all("and 0 s are left" in decision.reason for decision in choice.decisions)


def test_with_few_val_images_nothing_is_tried() -> None:
    choice = choose(1e6, n_val=LEAST_VAL - 1)
    assert epochs_of(choice) == []
    assert {decision.choice for decision in choice.decisions} == {"left out"}
    assert {decision.numbers["epochs"] for decision in choice.decisions} == {0}
    for decision in choice.decisions:
        assert (
            "val has 29 images, so that one image is 3.4\N{NO-BREAK SPACE}% of them"
            in decision.reason
        )
        assert decision.otherwise == "30 val images or more."
    assert epochs_of(choose(1e6, n_val=LEAST_VAL)) == [10, 10]
    assert "100.0\N{NO-BREAK SPACE}%" in choose(1e6, n_val=0).decisions[0].reason


def test_epochs_that_were_named_are_all_or_none() -> None:
    steps = [even(LAST, 2.0, 3), even(EVERYTHING, 10.0, 3)]
    choice = choose_steps(steps, n_val=100, seconds=25.0, fixed_epochs=True)
    assert epochs_of(choice) == [3]
    first, second = choice.decisions
    assert "as many as were asked for." in first.reason
    assert second.reason.startswith("3 epochs, as asked for, would take about 30 s, and 19 s")


def test_one_epoch_is_told_as_one() -> None:
    for seconds, said in ((5.0, "1 epoch would take"), (1.0, "1 epoch, as asked for, would take")):
        choice = choose_steps([even(LAST, 2.0, 1)], n_val=100, seconds=seconds, fixed_epochs=True)
        assert choice.decisions[0].reason.startswith(said)


@pytest.mark.parametrize("seconds", [0.0, 5.0, 1e6])
def test_a_step_of_few_epochs_needs_no_more_than_it_has(seconds) -> None:
    choice = choose_steps([even(LAST, 2.0, 3)], n_val=100, seconds=seconds)
    assert epochs_of(choice) == ([3] if seconds > 6.0 else [])


@settings(deadline=None)
@given(steps_of, st.floats(-10, 3000), st.integers(0, 100), st.booleans())
def test_never_more_is_planned_than_is_allowed(steps, seconds, n_val, fixed) -> None:
    choice = choose_steps(steps, n_val=n_val, seconds=seconds, fixed_epochs=fixed)
    assert sum(choice.seconds) <= max(0.0, seconds) + 1e-9
    assert len(choice.decisions) == len(steps)
    assert len(choice.strategy.phases) == 1 + len(choice.seconds)
    planned = epochs_of(choice)
    least = [each.most if fixed else min(LEAST_EPOCHS, each.most) for each in steps]
    taken = [d.choice != "left out" for d in choice.decisions]
    wanted = [number for number, there in zip(least, taken, strict=True) if there]
    assert all(epochs >= number for epochs, number in zip(planned, wanted, strict=True))


@settings(deadline=None)
@given(lasting, st.floats(0, 1200), st.floats(0, 1200))
def test_more_time_never_means_fewer_epochs(lasts, first, second) -> None:
    less, more = sorted((first, second))
    few, many = (
        sum(epochs_of(choose_steps([step(LAST, lasts)], n_val=100, seconds=seconds)))
        for seconds in (less, more)
    )
    assert few <= many


@settings(deadline=None)
@given(lasting, st.floats(0, 1200))
def test_what_is_within_a_time_takes_no_longer_and_one_more_would(lasts, seconds) -> None:
    made = step(LAST, lasts)
    epochs = made.within(seconds)
    assert 0 <= epochs <= made.most == len(lasts)
    assert epochs == 0 or lasts[epochs - 1] <= seconds
    assert epochs == made.most or lasts[epochs] > seconds


# What the steps are


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (1, ["last 1 of 1 stages"]),
        (2, ["last 1 of 2 stages", "everything"]),
        (4, ["last 2 of 4 stages", "everything"]),
        (7, ["last 3 of 7 stages", "everything"]),
        (12, ["last 5 of 12 stages", "everything"]),
    ],
)
def test_the_last_stages_are_three_sevenths(stages, said) -> None:
    assert [name for name, _ in possible_steps(stages)] == said


@pytest.mark.parametrize("symmetry", ["none", "flip", "square"])
def test_every_step_is_kept_only_where_it_pays(symmetry) -> None:
    for _, phase in possible_steps(7, symmetry):
        assert phase.keep == "better"
        assert phase.symmetry == symmetry
        assert phase.augment == "light"
        assert phase.fit.epochs >= LEAST_EPOCHS
        assert phase.fit.batch_norm == "adapt"


def test_the_steps_train_what_their_names_say() -> None:
    backbone = untrained("test_resnet", 64)
    model = Model(backbone, nn.Linear(backbone.feature_dim, 3))
    strategy = names.create("auto", len(backbone.stages))
    head = sum(parameter.numel() for parameter in model.head.parameters())
    trained = []
    for rates in strategy.resolve(model.describe()):
        model.freeze(rates)
        trained.append(sum(p.numel() for p in model.parameters() if p.requires_grad))
    everything = sum(parameter.numel() for parameter in model.parameters())
    assert trained[0] == head < trained[1] < trained[2] == everything


def test_auto_is_the_ladder_of_all_that_can_be_taken() -> None:
    for stages in (1, 4, 7):
        named = possible_steps(stages)
        assert names.create("auto", stages) == ladder([phase for _, phase in named])
    assert names.create("auto") == names.create("auto", 7)
    assert "auto" in names.NAMES


def test_a_ladder_goes_through_toml(tmp_path) -> None:
    file = tmp_path / "auto.toml"
    file.write_text(names.create("auto", 7).to_toml(), encoding="utf-8")
    assert Strategy.from_toml(file).phases == names.create("auto", 7).phases
