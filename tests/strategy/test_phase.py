from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart import options
from headstart.data import augment, symmetry
from headstart.errors import UsageError
from headstart.strategy import phase as module
from headstart.strategy.patterns import HEAD, Parameter
from headstart.strategy.phase import Phase, Rate, Solve, Train

SOLVE = Solve((1.0,))
TRAIN = Train(epochs=2)


def parameter(name: str, block: str, stage: str, kind: str = "weight") -> Parameter:
    return Parameter(name, block, stage, kind, 10)  # type: ignore[arg-type]


NETWORK = (
    parameter("conv1.weight", "stem", "conv1"),
    parameter("bn1.weight", "stem", "conv1", "norm"),
    parameter("bn1.bias", "stem", "conv1", "norm"),
    parameter("layer1.0.conv.weight", "layer1.0", "layer1"),
    parameter("layer1.0.conv.bias", "layer1.0", "layer1", "bias"),
    parameter("layer1.1.conv.weight", "layer1.1", "layer1"),
    parameter("layer10.0.conv.weight", "layer10.0", "layer10"),
    parameter("head.norm.weight", "pool", "layer10", "norm"),
    parameter("head.weight", HEAD, HEAD),
    parameter("head.bias", HEAD, HEAD, "bias"),
)
THE_HEAD = ["head.weight", "head.bias"]
HEAD_ONLY = (Rate("head", 1.0), Rate("stage:0..-1", None))
ALL = (Rate("head", 1.0), Rate("stage:0..-1", 0.1))


def problems(phase: Phase) -> list[str]:
    return list(phase.problems(NETWORK))


# Rates


def test_the_first_match_wins() -> None:
    rates = (Rate("bn1", 3.0), Rate("@norm", 2.0), Rate("stage:0", 1.0), Rate("stage:0..-1", None))
    resolved = Phase((*rates, Rate("head", 9.0)), TRAIN).resolve(NETWORK)
    assert resolved["bn1.weight"] == 3.0
    assert resolved["head.norm.weight"] == 2.0
    assert resolved["conv1.weight"] == 1.0
    assert resolved["layer1.0.conv.weight"] is None
    turned = Phase((*reversed(rates), Rate("head", 9.0)), TRAIN).resolve(NETWORK)
    assert set(turned.values()) == {None, 9.0}


patterns = st.sampled_from(
    ["head", "stage:0", "stage:-1", "stage:0..1", "@norm", "@bias", "layer1", "layer10", "pool"]
)
rate_lists = st.lists(st.builds(Rate, patterns, st.none() | st.floats(1e-6, 1.0)), max_size=6)


@settings(deadline=None)
@given(first=rate_lists, later=rate_lists)
def test_every_parameter_has_one_rate_and_later_patterns_change_none(first, later) -> None:
    # The first rate keeps something awake whatever is drawn.
    covering = [Rate("bn1.bias", 0.2), *first, Rate("head", 0.1), Rate("stage:0..-1", None)]
    resolved = Phase(tuple(covering), TRAIN).resolve(NETWORK)
    assert set(resolved) == {p.name for p in NETWORK}
    assert Phase((*covering, *later), TRAIN).resolve(NETWORK) == resolved


def test_a_pattern_that_others_forestall_is_not_idle() -> None:
    assert problems(Phase((*ALL, Rate("stage:0", 1.0)), TRAIN)) == []


def test_uncovered_parameters_and_empty_patterns_are_told_together() -> None:
    phase = Phase((Rate("layer2", None), Rate("stage:7", None), Rate("stage:0", 0.1)), SOLVE)
    with pytest.raises(UsageError) as raised:
        phase.resolve(NETWORK)
    message = raised.value.message
    assert "'layer2' matches no parameter" in message
    assert "'stage:7' matches no parameter" in message
    assert "no pattern covers layer1.0.conv.weight, layer1.0.conv.bias" in message
    assert "4 more" in message  # of the seven that are not covered three are shown
    assert "conv1.weight, bn1.weight, bn1.bias would be trained" in message
    assert raised.value.field == "rates"
    assert "headstart.Rate" in raised.value.hint


@pytest.mark.parametrize("rate", [0.0, -1e-3, math.nan, math.inf])
def test_a_rate_is_above_zero_or_none(rate) -> None:
    assert list(Rate("head", None).problems()) == []
    (problem,) = Rate("head", rate).problems()
    assert "rate of 'head' must be above 0" in problem
    assert str(rate) in problem
    with pytest.raises(UsageError, match="rate of 'head'"):
        Phase((Rate("head", rate), HEAD_ONLY[1]), TRAIN).resolve(NETWORK)


# Solving


def test_a_head_is_solved_only_behind_a_frozen_backbone() -> None:
    rates = (Rate("head", 1.0), Rate("layer10", 0.1), Rate("stage:0..-1", None))
    (problem,) = problems(Phase(rates, SOLVE))
    assert "layer10.0.conv.weight would be trained" in problem
    frozen = Phase((rates[0], rates[2]), SOLVE).resolve(NETWORK)
    assert [name for name, rate in frozen.items() if rate is not None] == THE_HEAD


@pytest.mark.parametrize("augment", ["light", "custom"])
def test_a_head_is_solved_on_the_plain_images(augment) -> None:
    (problem,) = problems(Phase(HEAD_ONLY, SOLVE, augment))
    assert "augment must be none" in problem


@pytest.mark.parametrize("penalties", [(), (0.0,), (1.0, -1.0), (math.nan,), (1.0, math.inf)])
def test_penalties_are_above_zero_and_one_at_least(penalties) -> None:
    (problem,) = Solve(penalties).problems()
    assert "one or more penalties" in problem
    assert problems(Phase(HEAD_ONLY, Solve(penalties))) == [problem]


@pytest.mark.parametrize("fit", [SOLVE, TRAIN])
def test_a_phase_that_would_change_nothing_is_a_problem(fit) -> None:
    frozen = Phase((Rate("head", None), Rate("stage:0..-1", None)), fit)
    assert problems(frozen) == ["every parameter is frozen: nothing would be trained"]


# Training


WRONG = {
    "epochs": [0, -1, 2.5, "ten", True, None],
    "batch_size": [0, 1.5, "32", None],
    "optimizer": ["lion", "AdamW", None],
    "schedule": ["linear", None],
    "warmup": [-0.1, 1.0, math.nan, "0.1"],
    "weight_decay": [-0.1, math.inf, math.nan, None],
    "clip": [0, -1.0, math.nan, "1"],
    "label_smoothing": [-0.1, 1.0, None],
    "mixup": [-1, math.inf, "0.2"],
    "cutmix": [-1, math.nan],
    "l1": [-1, math.inf],
    "l2": [-1, None],
    "ema": [1.0, -0.1, math.nan, "0.9"],
    "monitor": ["loss", None],
    "patience": [0, 1.5, "3"],
    "batch_norm": ["freeze", None],
    "sampling": ["weighted", None],
    "views": [-1, 0.5, "4"],
}
RIGHT = {
    "epochs": [1, 100],
    "batch_size": [1],
    "optimizer": list(module.OPTIMIZERS),
    "schedule": list(module.SCHEDULES),
    "warmup": [0, 0.99],
    "weight_decay": [0, 10],
    "clip": [None, 1e-9, 5],
    "label_smoothing": [0, 0.9],
    "mixup": [0, 0.2, 8],
    "cutmix": [0, 1],
    "l1": [0, 1],
    "l2": [0, 1],
    "ema": [None, 0.0, 0.999],
    "monitor": list(module.MONITORS),
    "patience": [None, 1],
    "batch_norm": ["hold", "train"],
    "sampling": ["shuffle", "balanced"],
    "views": [None, 0, 8],
}


def test_the_tables_know_every_field() -> None:
    assert set(WRONG) == set(RIGHT) == set(Train.__dataclass_fields__)


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_a_value_out_of_range_is_told_with_its_field(name, value) -> None:
    (problem,) = replace(TRAIN, **{name: value}).problems()
    assert problem.startswith(f"{name} must be ")
    assert repr(value) in problem
    assert problem in problems(Phase(ALL, replace(TRAIN, **{name: value})))


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in RIGHT.items() for v in values])
def test_values_at_the_limits_can_be_used(name, value) -> None:
    assert list(replace(TRAIN, **{name: value}).problems()) == []


def test_a_plateau_is_seen_on_a_monitor() -> None:
    (problem,) = replace(TRAIN, schedule="plateau", monitor="none").problems()
    assert "plateau needs a monitor" in problem


@pytest.mark.parametrize(("changes", "mixes"), [({}, False), ({"mixup": 0.2}, True)])
def test_mixing_is_mixup_or_cutmix(changes, mixes) -> None:
    assert replace(TRAIN, **changes).mixes is mixes
    assert replace(TRAIN, cutmix=1.0).mixes


# Augmentation


@pytest.mark.parametrize("name", module.AUGMENTATIONS)
@pytest.mark.parametrize("symmetry", module.SYMMETRIES)
def test_every_augmentation_and_symmetry_has_a_name(name, symmetry) -> None:
    assert problems(Phase(ALL, TRAIN, name, symmetry)) == []


def test_an_augmentation_or_symmetry_without_a_name_is_a_problem() -> None:
    first, second = problems(Phase(ALL, TRAIN, "heavy", "round"))
    assert "augment must be one of none, light" in first
    assert "'heavy'" in first
    assert "symmetry must be one of none, flip, square, not 'round'" in second


def test_the_names_are_those_of_the_options_and_of_the_augmentations() -> None:
    assert (*augment.AUGMENTATIONS, "custom") == module.AUGMENTATIONS
    assert augment.AUGMENTATIONS == options.AUGMENTATIONS
    assert symmetry.SYMMETRIES == options.SYMMETRIES == module.SYMMETRIES


def test_all_that_is_wrong_with_a_phase_is_told_together() -> None:
    fit = Train(epochs=0, optimizer="lion", views=-1)
    with pytest.raises(UsageError) as raised:
        Phase((Rate("layer7", -1.0),), fit, "heavy").resolve(NETWORK)
    for part in (
        *("rate of 'layer7'", "optimizer must be", "epochs must be", "views must be"),
        *("augment must be", "'layer7' matches no parameter", "no pattern covers conv1.weight"),
        "nothing would be trained",
    ):
        assert part in raised.value.message


def test_a_phase_may_have_to_be_better() -> None:
    assert problems(Phase(ALL, TRAIN, keep="better")) == []
    assert problems(Phase(ALL, TRAIN, keep="always")) == []
    assert problems(Phase(ALL, TRAIN, keep="sometimes")) == [
        "keep must be one of always, better, not 'sometimes'"
    ]
    blind = Train(epochs=1, monitor="none")
    assert problems(Phase(ALL, blind, keep="better")) == ["keep = better needs a monitor"]
    assert problems(Phase(ALL, blind)) == []
    rates = (Rate("head", 1.0), Rate("stage:0..-1", None))
    assert problems(Phase(rates, Solve((1.0,)), keep="better")) == [
        "a solved head stays: keep = better is for phases that train"
    ]
