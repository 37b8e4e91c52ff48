from __future__ import annotations

from itertools import pairwise

import pytest
from torch import nn

from headstart.backbones import zoo
from headstart.errors import UsageError
from headstart.strategy import names, presets
from headstart.strategy.patterns import HEAD, Parameter
from headstart.strategy.phase import Phase, Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.model import Model
from networks import untrained
from strategies import NAMES

NETWORKS = {
    "bundled": lambda: zoo.create(zoo.DEFAULT, size=64, random=0),
    "resnet": lambda: untrained("test_resnet", 64),
    "vit": lambda: untrained("test_vit"),
    "small": lambda: zoo.create("bundled:small_cnn", size=32, random=0),
}
PLAIN = (
    Parameter("conv1.weight", "stem", "conv1", "weight", 10),
    Parameter("bn1.weight", "stem", "conv1", "norm", 10),
    Parameter("fc.bias", "pool", "fc", "bias", 10),
    Parameter("head.weight", HEAD, HEAD, "weight", 10),
    Parameter("head.bias", HEAD, HEAD, "bias", 10),
)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    made = {name: make() for name, make in NETWORKS.items()}
    return {n: Model(backbone, nn.Linear(backbone.feature_dim, 3)) for n, backbone in made.items()}


def size(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def prefixes_and_sizes(model: Model, name: str) -> list[tuple[int, int]]:
    """Return the frozen prefix of each phase, and how many numbers it trains."""
    found = []
    for rates in names.create(name, len(model.backbone.stages)).resolve(model.describe()):
        model.freeze(rates)
        awake = sum(p.numel() for p in model.parameters() if p.requires_grad)
        found.append((model.frozen_prefix, awake))
    return found


def rates_of(phase: Phase) -> dict[str, float | None]:
    return {rate.pattern: rate.rate for rate in phase.rates}


# All of them


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_has_exactly_one_rate_or_none_in_every_phase(models, network, name) -> None:
    model = models[network]
    strategy = names.create(name, len(model.backbone.stages))
    described = model.describe()
    own = [parameter.name for parameter in described]
    assert len(set(own)) == len(own)
    for phase, rates in zip(strategy.phases, strategy.resolve(described), strict=True):
        assert sorted(rates) == sorted(own)
        assert all(rates[p.name] is not None for p in described if p.block == HEAD)
        if isinstance(phase.fit, Solve):
            assert all(rates[p.name] is None for p in described if p.block != HEAD)


def test_a_network_without_norms_or_of_a_few_parameters_is_enough() -> None:
    for network in (PLAIN, PLAIN[:1] + PLAIN[3:], PLAIN[2:]):
        for name in ("feature-extraction", "fine-tune", "gradual", "last-blocks:1", "scratch"):
            names.create(name, stages=1).resolve(network)


# What is frozen, and how much is trained


def test_a_resnet_is_frozen_as_each_strategy_says(models) -> None:
    model = models["resnet"]
    network = model.backbone.network
    head, whole = size(model.head), size(model)
    last = size(network.layer4) + head
    two = size(network.layer3) + last
    norms = size(*(m for m in network.modules() if isinstance(m, nn.BatchNorm2d)))
    stem = whole - two - size(network.layer1, network.layer2)
    expected = {
        "feature-extraction": [(6, head)],
        "probe-then-fine-tune": [(6, head), (0, whole)],
        "fine-tune": [(0, whole)],
        "last-blocks:1": [(6, head), (4, last)],
        "last-blocks:2": [(6, head), (3, two)],
        "last-blocks:5": [(6, head), (0, whole)],
        "freeze-first:1": [(6, head), (1, whole - stem)],
        "freeze-first:3": [(6, head), (3, two)],
        "freeze-first:5": [(6, head), (6, head)],
        "gradual": [(6, head), (4, last), (0, whole)],
        "gradual:blockwise": [
            *((6, head), (4, last), (3, two), (2, two + size(network.layer2))),
            *((1, whole - stem), (0, whole)),
        ],
        "discriminative": [(6, head), (0, whole)],
        "norm-only": [(6, head), (0, norms + head)],
        "bias-only": [(6, head), (0, norms // 2 + head)],
        "scratch": [(0, whole)],
    }
    assert {name: prefixes_and_sizes(model, name) for name in expected} == expected


def test_a_vision_transformer_is_frozen_as_each_strategy_says(models) -> None:
    model = models["vit"]
    network = model.backbone.network
    head, whole, blocks = size(model.head), size(model), len(model.blocks)
    last = size(network.blocks[5], network.norm, model.head)
    norms = size(*(m for m in network.modules() if isinstance(m, nn.LayerNorm)))
    biases = sum(p.numel() for n, p in network.named_parameters() if n.endswith("bias"))
    expected = {
        "feature-extraction": [(blocks, head)],
        "fine-tune": [(0, whole)],
        "last-blocks:1": [(blocks, head), (6, last)],
        "freeze-first:6": [(blocks, head), (6, last)],
        "norm-only": [(blocks, head), (1, norms + head)],
        "bias-only": [(blocks, head), (0, biases + head)],
    }
    assert {name: prefixes_and_sizes(model, name) for name in expected} == expected


def test_the_bundled_network_is_frozen_as_each_strategy_says(models) -> None:
    model = models["bundled"]
    network = model.backbone.network
    head, whole = size(model.head), size(model)
    last = size(network.blocks[6], network.conv_head, network.bn2) + head
    names = [block.name for block in model.backbone.blocks]
    expected = {
        "feature-extraction": [(len(names), head)],
        "last-blocks:1": [(len(names), head), (names.index("blocks.6"), last)],
        "last-blocks:2": [
            (len(names), head),
            (names.index("blocks.5.0"), last + size(network.blocks[5])),
        ],
        "fine-tune": [(0, whole)],
    }
    assert {name: prefixes_and_sizes(model, name) for name in expected} == expected


def test_a_hundred_layers_are_frozen_as_they_are_counted(models) -> None:
    model = models["bundled"]
    described = model.describe()
    _, rates = names.create("freeze-first:100layers").resolve(described)
    frozen = {p.name for p in described if rates[p.name] is None}
    assert frozen == {p.name for p in described if 0 <= p.layer < 100}
    assert max(p.layer for p in described) >= 100
    with pytest.raises(UsageError, match=r"'layer:0\.\.99' matches no parameter"):
        names.create("freeze-first:100layers").resolve(models["resnet"].describe())


@pytest.mark.parametrize("name", ["last-blocks:6", "freeze-first:6", "freeze-first:60layers"])
def test_more_than_the_network_has_is_refused(models, name) -> None:
    with pytest.raises(UsageError, match="matches no parameter"):
        names.create(name).resolve(models["resnet"].describe())


# How fast, and for how long


def test_the_penalties_are_tried_from_the_strongest_to_the_weakest() -> None:
    assert list(presets.PENALTIES) == sorted(set(presets.PENALTIES), reverse=True)
    (phase,) = presets.feature_extraction().phases
    assert phase.fit == Solve(presets.PENALTIES)


def test_a_head_with_epochs_is_trained_by_adam() -> None:
    (phase,) = presets.feature_extraction(epochs=7).phases
    assert (phase.fit.epochs, phase.fit.optimizer, phase.fit.schedule) == (7, "adam", "constant")
    assert rates_of(phase) == {"head": 1e-3, "stage:0..-1": None}


def test_fine_tuning_is_ten_times_slower_below_the_head() -> None:
    (phase,) = presets.fine_tune().phases
    assert rates_of(phase) == {"head": 1e-3, "stage:0..-1": 1e-4}


@pytest.mark.parametrize(
    ("name", "epochs", "rates"),
    [
        ("gradual", [10, 10, 10], [1e-3, 1e-4, 1e-5]),
        ("gradual:epochs=1/2/3", [1, 2, 3], [1e-3, 1e-4, 1e-5]),
        ("gradual:rates=1e-2/2e-3/3e-4", [10, 10, 10], [1e-2, 2e-3, 3e-4]),
        ("gradual:rates=1/0.5/0.1,epochs=9/8/7", [9, 8, 7], [1, 0.5, 0.1]),
    ],
)
def test_the_three_steps_of_gradual_are_as_given(name, epochs, rates) -> None:
    phases = names.create(name).phases
    assert [phase.fit.epochs for phase in phases] == epochs
    for phase, rate in zip(phases, rates, strict=True):
        assert {r.rate for r in phase.rates if r.rate is not None} == {rate}


def test_blockwise_thaws_one_stage_after_the_other_each_slower_than_the_one_above() -> None:
    probe, *phases = names.create("gradual:blockwise", stages=4).phases
    assert isinstance(probe.fit, Solve)
    for thawed, phase in enumerate(phases, start=1):
        rates = [rate for rate in rates_of(phase).values() if rate is not None]
        assert len(rates) == thawed + 1
        assert rates[0] == rates[1] == 1e-4  # the head and the last stage
        assert all(above / below == pytest.approx(2.6) for above, below in pairwise(rates[1:]))


def staged(strategy: Strategy) -> list[float | None]:
    """Return the rates of the stages from the input on, and then the head's."""
    head, *stages = strategy.phases[-1].rates
    assert [rate.pattern for rate in stages] == [f"stage:{n}" for n in range(len(stages))]
    return [rate.rate for rate in (*stages, head)]


@pytest.mark.parametrize("stages", [1, 2, 5])
@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("discriminative", 1e-5, 1e-3), ("discriminative:low=1e-6,high=1e-2", 1e-6, 1e-2)],
)
def test_rates_rise_by_equal_factors_from_the_input_to_the_head(name, stages, low, high) -> None:
    rates = staged(names.create(name, stages))
    assert len(rates) == stages + 1
    assert (rates[0], rates[-1]) == pytest.approx((low, high))
    factors = [above / below for below, above in pairwise(rates)]
    assert factors == pytest.approx([factors[0]] * stages)


def test_rates_fall_by_the_factor_that_is_given() -> None:
    rates = staged(names.create("discriminative:high=1e-2,decay=0.5", stages=3))
    assert rates == pytest.approx([1.25e-3, 2.5e-3, 5e-3, 1e-2])


def test_rates_can_be_listed() -> None:
    strategy = presets.discriminative(2, rates=(1e-5, 1e-4, 1e-3))
    assert staged(strategy) == [1e-5, 1e-4, 1e-3]
    assert strategy.name == "discriminative:1e-05/0.0001/0.001"
    with pytest.raises(UsageError, match="5 stages and one for the head, not 3 rates") as raised:
        presets.discriminative(5, rates=(1e-5, 1e-4, 1e-3))
    assert "Give 6 rates" in raised.value.hint


def test_scratch_starts_from_nothing() -> None:
    for name in NAMES:
        strategy = names.create(name)
        assert strategy.weights == ("random" if name.startswith("scratch") else "pretrained")
        small = name == "scratch:small-cnn"
        assert strategy.backbone == ("bundled:small_cnn" if small else None)
    (phase,) = presets.scratch().phases
    assert phase.fit.batch_norm == "train"


@pytest.mark.parametrize("name", NAMES)
def test_only_training_by_steps_sees_augmented_images(name) -> None:
    for phase in names.create(name, stages=3).phases:
        behind_the_head = {r.pattern for r in phase.rates if r.rate is not None} == {"head"}
        assert phase.augment == ("none" if behind_the_head else "light")
        if isinstance(phase.fit, Train):
            assert list(phase.fit.problems()) == []
