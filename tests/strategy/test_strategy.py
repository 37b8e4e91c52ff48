from __future__ import annotations

import json
import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import UsageError
from headstart.strategy import names, phase, presets
from headstart.strategy.patterns import HEAD, Parameter
from headstart.strategy.phase import Phase, Rate, Solve, Train
from headstart.strategy.strategy import Strategy
from strategies import NAMES

NETWORK = (
    Parameter("conv.weight", "stem", "stem", "weight", 10),
    Parameter("layer1.weight", "layer1", "layer1", "weight", 10),
    Parameter("head.weight", HEAD, HEAD, "weight", 10),
    Parameter("head.bias", HEAD, HEAD, "bias", 10),
)
FROZEN = Rate("stage:0..-1", None)
PROBE = Phase((Rate("head", 1.0), FROZEN), Solve((1.0, 10.0)))
TUNE = Phase((Rate("head", 1e-3), Rate("stage:0..-1", 1e-4)), Train(epochs=3), "light")


# Resolving


def test_each_phase_has_its_own_rates() -> None:
    first, second = Strategy("both", (PROBE, TUNE)).resolve(NETWORK)
    assert first == {n: 1.0 if "head" in n else None for n in (p.name for p in NETWORK)}
    assert second == {n: 1e-3 if "head" in n else 1e-4 for n in (p.name for p in NETWORK)}


def test_whatever_is_wrong_with_any_phase_is_told_at_once() -> None:
    wrong = Strategy(
        "wrong",
        (
            Phase((Rate("head", 1.0), Rate("stage:0", 0.5), FROZEN), Solve(()), "light"),
            TUNE,
            Phase((Rate("layer9", 0.1), Rate("head", 0.0)), Train(epochs=0, optimizer="lion")),
            Phase((Rate("head", None), FROZEN), Train(epochs=1)),
        ),
        weights="imagenet",  # type: ignore[arg-type]
    )
    with pytest.raises(UsageError) as raised:
        wrong.resolve(NETWORK)
    assert "headstart.Rate" in raised.value.hint
    told = raised.value.message.removeprefix("The strategy wrong can't run: ").split("; ")
    expected = [
        "weights must be pretrained or random, not 'imagenet'",
        "phase 1: solve needs one or more penalties",
        "phase 1: a head is solved only behind a frozen backbone, and conv.weight",
        "phase 1: a head is solved on the plain images",
        "phase 3: the rate of 'head' must be above 0",
        "phase 3: optimizer must be one of adamw, adam, sgd, not 'lion'",
        "phase 3: epochs must be a whole number of at least 1, not 0",
        "phase 3: the pattern 'layer9' matches no parameter",
        "phase 3: no pattern covers conv.weight, layer1.weight",
        "phase 4: every parameter is frozen",
    ]
    assert len(told) == len(expected)
    assert all(part.startswith(start) for part, start in zip(told, expected, strict=True))
    assert raised.value.field == "strategy"


def test_a_strategy_without_phases_cannot_run() -> None:
    with pytest.raises(UsageError, match="it has no phase"):
        Strategy("empty", ()).resolve(NETWORK)


# Rates


def test_scaling_keeps_the_proportions_and_leaves_a_solved_head_alone() -> None:
    scaled = Strategy("both", (PROBE, TUNE, PROBE)).scaled(1e-2)
    assert scaled.phases[0] == scaled.phases[2] == PROBE
    assert [rate.rate for rate in scaled.phases[1].rates] == pytest.approx([1e-2, 1e-3])
    assert scaled.highest_rate == pytest.approx(1e-2)


def test_all_phases_are_scaled_by_one_factor() -> None:
    scaled = presets.gradual().scaled(2e-3)
    rates = [{r.rate for r in phase.rates} - {None} for phase in scaled.phases]
    assert [rate for (rate,) in rates] == pytest.approx([2e-3, 2e-4, 2e-5])
    assert [r.rate is None for r in scaled.phases[0].rates] == [False, True]


def test_without_training_there_is_no_rate_to_scale() -> None:
    solved = Strategy("probe", (PROBE,))
    assert solved.highest_rate == 0.0
    assert solved.scaled(0.5) == solved


# Documents


whole = st.integers(0, 100)
numbers = st.floats(0, 1e9, allow_nan=False)
rates = st.builds(Rate, st.text(), st.none() | st.floats(0, 1e9, exclude_min=True))
trains = st.builds(
    Train,
    epochs=whole,
    batch_size=whole,
    optimizer=st.sampled_from(phase.OPTIMIZERS),
    schedule=st.sampled_from(phase.SCHEDULES),
    warmup=numbers,
    weight_decay=numbers,
    clip=st.none() | numbers,
    label_smoothing=numbers,
    mixup=numbers,
    cutmix=numbers,
    l1=numbers,
    l2=numbers,
    ema=st.none() | numbers,
    monitor=st.sampled_from(phase.MONITORS),
    patience=st.none() | whole,
    batch_norm=st.sampled_from(["hold", "train"]),
    sampling=st.sampled_from(["shuffle", "balanced"]),
    views=st.none() | whole,
)
solves = st.builds(Solve, st.lists(numbers, max_size=4).map(tuple))
phases = st.builds(
    Phase,
    st.lists(rates, min_size=1, max_size=4).map(tuple),
    solves | trains,
    st.sampled_from(phase.AUGMENTATIONS),
    st.sampled_from(phase.SYMMETRIES),
)
strategies = st.builds(
    Strategy,
    st.text(min_size=1),
    st.lists(phases, min_size=1, max_size=3).map(tuple),
    st.sampled_from(["pretrained", "random"]),
    st.none() | st.text(),
)


def from_json(strategy: Strategy) -> Strategy:
    return Strategy.from_dict(json.loads(json.dumps(strategy.to_dict(), allow_nan=False)))


def from_toml(strategy: Strategy) -> Strategy:
    return Strategy.from_dict(tomllib.loads(strategy.to_toml()))


@settings(deadline=None)
@given(strategy=strategies)
def test_a_strategy_comes_back_from_json_and_toml_as_it_was(strategy) -> None:
    assert from_json(strategy) == strategy
    assert from_toml(strategy) == strategy
    assert hash(from_toml(strategy)) == hash(strategy)


@pytest.mark.parametrize("name", [*NAMES, "discriminative:1e-5/1e-4/1e-3/1e-2/0.1/1"])
def test_every_preset_comes_back_from_json_and_toml_as_it_was(name) -> None:
    strategy = names.create(name, stages=5)
    assert from_json(strategy) == from_toml(strategy) == strategy


# Files


FILE = """
[[phases]]
rates = [["head", 0.001], ["stage:0..-1", "frozen"]]
solve = { penalties = [1000, 10.0] }

[[phases]]
rates = [["head", 1], ["stage:-1", 3e-4], ["stage:0..-1", "frozen"]]
augment = "standard"
symmetry = "square"
train = { epochs = 10, label_smoothing = 0.2, clip = "none", monitor = "none" }
"""


def test_a_file_is_read_and_named_by_its_stem(tmp_path) -> None:
    path = tmp_path / "two steps.toml"
    path.write_text(FILE, encoding="utf-8")
    train = Train(epochs=10, label_smoothing=0.2, clip=None, monitor="none")
    last = (Rate("head", 1.0), Rate("stage:-1", 3e-4), FROZEN)
    assert Strategy.from_toml(path) == Strategy(
        "two steps",
        (
            Phase((Rate("head", 1e-3), FROZEN), Solve((1000.0, 10.0))),
            Phase(last, train, "standard", "square"),
        ),
    )
    path.write_text('name = "mine"\nweights = "random"\nbackbone = "timm:x"' + FILE, "utf-8")
    read = Strategy.from_toml(path)
    assert (read.name, read.weights, read.backbone) == ("mine", "random", "timm:x")


def test_a_written_file_is_read_back(tmp_path) -> None:
    path = tmp_path / "x.toml"
    strategy = names.create("discriminative", stages=3)
    path.write_text(strategy.to_toml(), encoding="utf-8")
    assert Strategy.from_toml(path) == strategy


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "can't be read"),
        (b"phases = [", "is not TOML"),
        (b'name = "\xff"', "is not TOML"),
        (b'name = "x"', "is not a strategy: phases must be a list"),
        (b'[[phases]]\nrates = [["head", nan]]\n', "needs either solve or train"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_path(tmp_path, content, problem) -> None:
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=problem) as raised:
        Strategy.from_toml(path)
    assert str(path) in raised.value.message
    assert raised.value.field == "strategy"


def test_what_is_out_of_range_in_a_file_is_told_where_it_is_to_run(tmp_path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(FILE.replace("0.001", "nan").replace("epochs = 10", 'epochs = "ten"'), "utf-8")
    read = Strategy.from_toml(path)
    assert math.isnan(read.phases[0].rates[0].rate or 0.0)
    with pytest.raises(UsageError, match=r"phase 1: the rate of 'head'.*phase 2: epochs must be"):
        read.resolve(NETWORK)
