from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import UsageError
from headstart.strategy.phase import HEAD, Parameter, Phase, Rate, Solve, Strategy

SOLVE = Solve((1.0,))


def parameter(name: str, block: str, stage: str, kind: str = "weight") -> Parameter:
    return Parameter(name, block, stage, kind, 10)  # type: ignore[arg-type]


# A stage of two blocks; a stage whose name begins with another's; parameters whose names in the
# network are not their block's; and a norm that lies in the pool block.
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
EVERYTHING = ("stage:0..-1", "head")


def hit(*patterns: str) -> list[str]:
    """Name the parameters that the first of the patterns gives a rate, all others being frozen."""
    rates = tuple(Rate(pattern, 0.5) for pattern in patterns)
    rest = tuple(Rate(pattern, None) for pattern in EVERYTHING)
    resolved = training(*rates, *rest)
    return [name for name, rate in resolved.items() if rate is not None]


def training(*rates: Rate) -> dict[str, float | None]:
    """Resolve a phase that is not solved, so that any parameter may be awake."""
    phase = Phase(rates, SOLVE)
    object.__setattr__(phase, "fit", None)
    return phase.resolve(NETWORK)


STEM = ["conv1.weight", "bn1.weight", "bn1.bias"]
LAYER1 = ["layer1.0.conv.weight", "layer1.0.conv.bias", "layer1.1.conv.weight"]
LAYER10 = ["layer10.0.conv.weight", "head.norm.weight"]
THE_HEAD = ["head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("head", THE_HEAD),
        ("stage:0", STEM),
        ("stage:1", LAYER1),
        ("stage:2", LAYER10),
        ("stage:-1", LAYER10),
        ("stage:-3", STEM),
        ("stage:0..1", STEM + LAYER1),
        ("stage:1..-1", LAYER1 + LAYER10),
        ("stage:-2..-1", LAYER1 + LAYER10),
        ("stage:-3..2", STEM + LAYER1 + LAYER10),
        ("stage:0..-1", STEM + LAYER1 + LAYER10),
        ("stage:1..1", LAYER1),
        ("@norm", ["bn1.weight", "bn1.bias", "head.norm.weight"]),
        ("@bias", ["layer1.0.conv.bias"]),
        ("stem", STEM),
        ("layer1", LAYER1),
        ("layer10", ["layer10.0.conv.weight"]),
        ("layer1.0", LAYER1[:2]),
        ("layer1.0.conv.bias", ["layer1.0.conv.bias"]),
        ("bn1", ["bn1.weight", "bn1.bias"]),
        ("pool", ["head.norm.weight"]),
        ("head.norm", ["head.norm.weight"]),
    ],
)
def test_a_pattern_hits_what_it_says(pattern, names) -> None:
    assert hit(pattern) == names


@pytest.mark.parametrize(
    "pattern",
    [
        *("stage:3", "stage:-4", "stage:0..3", "stage:-4..-1", "stage:2..1", "stage:-1..0"),
        *("stage:", "stage:a", "stage:0..", "stage:0...1", "stage:1.0", "stage: 0"),
        *("layer", "layer1.", "layer1.0.con", "Layer1", "@weight", "@", "", "*"),
    ],
)
def test_a_pattern_that_hits_nothing_is_an_error_that_names_it(pattern) -> None:
    with pytest.raises(UsageError, match="matches no parameter") as raised:
        hit(pattern)
    assert repr(pattern) in raised.value.message


def test_a_network_without_norms_has_no_norms() -> None:
    with pytest.raises(UsageError, match="'@norm' matches no parameter"):
        Phase((Rate("@norm", None), Rate("head", 1.0), Rate("stage:0", None)), SOLVE).resolve(
            [parameter("conv.weight", "stem", "stem"), NETWORK[-1]]
        )


def test_the_first_match_wins() -> None:
    rates = [Rate("bn1", 3.0), Rate("@norm", 2.0), Rate("stage:0", 1.0), Rate("stage:0..-1", None)]
    resolved = training(*rates, Rate("head", 9.0))
    assert resolved["bn1.weight"] == 3.0
    assert resolved["head.norm.weight"] == 2.0
    assert resolved["conv1.weight"] == 1.0
    assert resolved["layer1.0.conv.weight"] is None
    turned = training(*reversed(rates), Rate("head", 9.0))
    assert set(turned.values()) == {None, 9.0}


patterns = st.sampled_from(
    ["head", "stage:0", "stage:-1", "stage:0..1", "@norm", "@bias", "layer1", "layer10", "pool"]
)
rate_lists = st.lists(st.builds(Rate, patterns, st.none() | st.floats(1e-6, 1.0)), max_size=6)


@settings(deadline=None)
@given(first=rate_lists, later=rate_lists)
def test_every_parameter_has_one_rate_and_later_patterns_change_none(first, later) -> None:
    covering = [*first, Rate("head", 0.1), Rate("stage:0..-1", None)]
    resolved = training(*covering)
    assert set(resolved) == {p.name for p in NETWORK}
    assert training(*covering, *later) == resolved


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


def test_a_head_is_solved_only_behind_a_frozen_backbone() -> None:
    rates = (Rate("head", 1.0), Rate("layer10", 0.1), Rate("stage:0..-1", None))
    with pytest.raises(UsageError, match=r"layer10\.0\.conv\.weight would be trained"):
        Phase(rates, SOLVE).resolve(NETWORK)
    frozen = Phase((rates[0], rates[2]), SOLVE).resolve(NETWORK)
    assert [name for name, rate in frozen.items() if rate is not None] == THE_HEAD


@pytest.mark.parametrize("rate", [0.0, -1e-3, math.nan, math.inf])
def test_a_rate_is_above_zero_or_none(rate) -> None:
    assert Rate("head", None).rate is None
    with pytest.raises(UsageError, match=r"rate of 'head' must be above 0"):
        Rate("head", rate)


@pytest.mark.parametrize("penalties", [(), (0.0,), (1.0, -1.0), (math.nan,), (1.0, math.inf)])
def test_penalties_are_above_zero_and_one_at_least(penalties) -> None:
    with pytest.raises(UsageError, match="one or more penalties") as raised:
        Solve(penalties)
    assert raised.value.field == "penalties"


def test_a_strategy_has_a_phase() -> None:
    with pytest.raises(UsageError, match="at least one phase"):
        Strategy("empty", ())


rates = st.builds(Rate, st.text(), st.none() | st.floats(0, 1e9, exclude_min=True))
penalties = st.lists(st.floats(0, 1e9, exclude_min=True), min_size=1, max_size=4).map(tuple)
phases = st.builds(Phase, st.lists(rates, max_size=4).map(tuple), st.builds(Solve, penalties))
strategies = st.builds(Strategy, st.text(), st.lists(phases, min_size=1, max_size=3).map(tuple))


@settings(deadline=None)
@given(strategy=strategies)
def test_a_strategy_comes_back_from_json_as_it_was(strategy) -> None:
    document = json.dumps(strategy.to_dict(), allow_nan=False)
    again = Strategy.from_dict(json.loads(document))
    assert again == strategy
    assert hash(again) == hash(strategy)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"name": "x"},
        {"name": "x", "phases": []},
        {"name": "x", "phases": [{}]},
        {"name": "x", "phases": [{"rates": [["head", 0.1]], "fit": {"train": {"epochs": 1}}}]},
        {"name": "x", "phases": [{"rates": [["head"]], "fit": {"solve": {"penalties": [1.0]}}}]},
        {"name": "x", "phases": [{"rates": [["head", -1]], "fit": {"solve": {"penalties": [1]}}}]},
        {"name": "x", "phases": [{"rates": [["head", "1"]], "fit": {"solve": {"penalties": [1]}}}]},
        {"name": "x", "phases": [{"rates": [["head", 1]], "fit": {"solve": {"penalties": [0]}}}]},
        {"name": "x", "phases": [{"rates": [["head", 1]], "fit": {"solve": {"penalties": 1}}}]},
        {"name": "x", "phases": 1},
        [],
    ],
)
def test_a_document_that_is_no_strategy_is_a_usage_error(document) -> None:
    with pytest.raises(UsageError):
        Strategy.from_dict(document)
