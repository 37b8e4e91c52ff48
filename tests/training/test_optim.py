from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import make_model
from torch import nn

from headstart.backbones import zoo
from headstart.errors import UsageError
from headstart.strategy import presets
from headstart.strategy.names import create
from headstart.strategy.phase import OPTIMIZERS, SCHEDULES, Phase, Rate, Train
from headstart.training.heads import HeadSpec
from headstart.training.model import Model
from headstart.training.optim import (
    apply,
    factor,
    head_penalty,
    make_optimizer,
    parameter_groups,
    plateau_drops,
    rates_by_group,
)
from networks import untrained
from strategies import NAMES

NETWORKS = {
    "bundled": lambda: zoo.create(zoo.DEFAULT, size=64, random=0),
    "resnet": lambda: untrained("test_resnet", 64),
    "vit": lambda: untrained("test_vit"),
}
TRAIN = Train(epochs=4, weight_decay=0.05)
ALL = Phase((Rate("head", 1e-3), Rate("stage:0..-1", 1e-4)), TRAIN)


@pytest.fixture(scope="module")
def models() -> dict[str, Model]:
    made = {name: make() for name, make in NETWORKS.items()}
    return {n: Model(b, HeadSpec.parse("mlp:8").build(b.feature_dim, 3)) for n, b in made.items()}


# Who learns how fast (contract 2)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", NAMES)
def test_every_trainable_parameter_is_in_one_group_and_no_frozen_one_is(
    models, network, name
) -> None:
    model = models[network]
    described = model.describe()
    for phase in create(name, len(model.backbone.stages)).phases:
        apply(model, phase)
        groups = parameter_groups(model, phase)
        held = [id(value) for group in groups for value in group["params"]]
        assert len(set(held)) == len(held)
        assert set(held) == {id(p) for p in model.parameters() if p.requires_grad}
        names = [group["name"] for group in groups]
        assert len(set(names)) == len(names)
        rates, values = phase.resolve(described), model.parameters_by_name()
        of = {id(value): group for group in groups for value in group["params"]}
        decay = phase.fit.weight_decay if isinstance(phase.fit, Train) else 0.0
        for parameter in described:
            if (group := of.get(id(values[parameter.name]))) is not None:
                assert group["lr"] == rates[parameter.name]
                decays = parameter.kind == "weight" and values[parameter.name].ndim > 1
                assert group["weight_decay"] == (decay if decays else 0.0)


def test_groups_are_named_by_the_stages_they_span() -> None:
    model = make_model()
    names = [group["name"] for group in parameter_groups(model, ALL)]
    assert names == ["stem..layer10", "stem..layer10 (no decay)", "head", "head (no decay)"]
    rates = (Rate("head", 0.1), Rate("layer10", 0.1), Rate("stem", 0.2), Rate("layer1", None))
    names = [group["name"] for group in parameter_groups(model, Phase(rates, TRAIN))]
    assert names == ["stem", "stem (no decay)", "layer10+head", "layer10+head (no decay)"]
    everything = Phase((Rate("head", 0.1), Rate("stage:0..-1", 0.1)), TRAIN)
    names = [group["name"] for group in parameter_groups(model, everything)]
    assert names == ["stem..layer10+head", "stem..layer10+head (no decay)"]


def test_groups_that_span_the_same_stages_have_names_of_their_own() -> None:
    rates = (
        *(Rate("head", 1.0), Rate("stem.norm.weight", 0.1), Rate("stem.norm.bias", 0.2)),
        Rate("stage:0..-1", 0.3),
    )
    groups = parameter_groups(make_model(), Phase(rates, TRAIN))
    assert [(group["name"], group["lr"]) for group in groups] == [
        ("stem..layer10", 0.3),
        ("stem (no decay)", 0.1),
        ("stem (no decay) #2", 0.2),
        ("layer1..layer10 (no decay)", 0.3),
        ("head", 1.0),
        ("head (no decay)", 1.0),
    ]


def test_a_solved_head_has_no_weight_decay() -> None:
    phase = presets.feature_extraction().phases[0]
    assert {group["weight_decay"] for group in parameter_groups(make_model(), phase)} == {0.0}


def test_a_phase_that_does_not_fit_the_model_is_refused() -> None:
    phase = Phase((Rate("head", 0.1), Rate("stage:9", None)), TRAIN)
    for act in (apply, parameter_groups):
        with pytest.raises(UsageError, match="'stage:9' matches no parameter"):
            act(make_model(), phase)


@pytest.mark.parametrize("batch_norm", ["hold", "train"])
def test_applying_a_phase_freezes_and_holds_as_it_says(batch_norm) -> None:
    model = make_model().train()
    rates = (Rate("head", 0.1), Rate("stem", None), Rate("stage:0..-1", 0.1))
    phase = Phase(rates, replace(TRAIN, batch_norm=batch_norm))
    for _ in range(2):
        apply(model, phase)
        assert {n for n, p in model.parameters_by_name().items() if not p.requires_grad} == {
            n for n in model.parameters_by_name() if n.startswith("stem.")
        }
        norms = [m.training for m in model.blocks.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms == [False, batch_norm == "train", batch_norm == "train"]


# Optimizers


def stepped(train: Train) -> list[torch.Tensor]:
    """Return how far a weight and a bias of equal gradient and value move in each of two steps."""
    model = make_model()
    groups = parameter_groups(model, replace(ALL, fit=train))
    values = [group["params"][0] for group in groups[-2:]]
    with torch.no_grad():
        for value in values:
            value.fill_(10.0)
    optimizer = make_optimizer(groups, train)
    moves = []
    for gradient in (1.0, 0.5):
        before = [value.detach().clone() for value in values]
        for value in values:
            value.grad = torch.full_like(value, gradient)
        optimizer.step()
        moves += [(v - b).flatten()[0] for v, b in zip(values, before, strict=True)]
    return [move.detach() for move in moves]


def test_adamw_decays_weights_beside_the_gradient_and_biases_not_at_all() -> None:
    weight, bias, *_ = stepped(replace(TRAIN, optimizer="adamw", weight_decay=0.5))
    assert float(bias) == pytest.approx(-1e-3, rel=1e-3)
    assert float(weight) == pytest.approx(-1e-3 - 1e-3 * 0.5 * 10, rel=1e-3)


def test_adam_decays_through_the_gradient() -> None:
    weight, bias, *_ = stepped(replace(TRAIN, optimizer="adam", weight_decay=0.5))
    assert float(weight) == pytest.approx(-1e-3, rel=1e-3)  # its size is normalised away
    assert float(bias) == pytest.approx(-1e-3, rel=1e-3)


def test_sgd_has_the_momentum_of_nesterov() -> None:
    _, first, _, second = stepped(replace(TRAIN, optimizer="sgd", weight_decay=0.0))
    assert float(first) == pytest.approx(-1e-3 * (1 + 0.9), rel=1e-3)
    velocity = 0.9 * 1.0 + 0.5
    assert float(second) == pytest.approx(-1e-3 * (0.5 + 0.9 * velocity), rel=1e-3)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_holds_the_rates_of_its_groups(name) -> None:
    optimizer = make_optimizer(parameter_groups(make_model(), ALL), replace(TRAIN, optimizer=name))
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[name]
    assert type(optimizer) is kind
    assert rates_by_group(optimizer) == {
        "stem..layer10": 1e-4,
        "stem..layer10 (no decay)": 1e-4,
        "head": 1e-3,
        "head (no decay)": 1e-3,
    }


# Schedules


def schedule(name: str, warmup: float = 0.1) -> Train:
    return Train(epochs=10, schedule=name, warmup=warmup)


@pytest.mark.parametrize(("name", "end"), [("one-cycle", 1e-4), ("cosine", 0.0)])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
def test_a_rate_rises_to_its_maximum_and_falls_to_almost_nothing(name, end, warmup) -> None:
    train = schedule(name, warmup)
    assert factor(train, 0.0) == pytest.approx(1 / 25 if warmup else 1.0)
    assert factor(train, warmup) == pytest.approx(1.0)
    assert factor(train, warmup / 2) == pytest.approx((1 + 1 / 25) / 2 if warmup else 1.0)
    assert factor(train, (1 + warmup) / 2) == pytest.approx((1 + end) / 2)
    assert factor(train, 1.0) == pytest.approx(end, abs=1e-12)
    rising = [factor(train, done) for done in np.linspace(0, warmup, 50)]
    falling = [factor(train, done) for done in np.linspace(warmup, 1, 50)]
    assert all(a <= b + 1e-12 for a, b in pairwise(rising))
    assert all(a > b for a, b in pairwise(falling))


def test_a_constant_rate_stays() -> None:
    assert {factor(schedule("constant"), done) for done in np.linspace(0, 1, 9)} == {1.0}


def test_a_step_is_a_tenth_after_each_third() -> None:
    epochs = [factor(schedule("step"), epoch / 9) for epoch in range(10)]
    assert epochs == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01])


def test_a_plateau_is_a_tenth_for_each_drop() -> None:
    assert [factor(schedule("plateau"), 0.5, drops) for drops in range(3)] == pytest.approx(
        [1, 0.1, 0.01]
    )
    assert factor(schedule("cosine"), 0.5, drops=3) == factor(schedule("cosine"), 0.5)


@settings(deadline=None)
@given(
    name=st.sampled_from(SCHEDULES),
    done=st.floats(0, 1),
    warmup=st.floats(0, 1, exclude_max=True),
    drops=st.integers(0, 4),
)
def test_no_schedule_leaves_its_range(name, done, warmup, drops) -> None:
    assert 0 <= factor(schedule(name, warmup), done, drops) <= 1


@pytest.mark.parametrize(
    ("scores", "drops"),
    [
        ([], 0),
        ([0.5], 0),
        ([0.5, 0.6, 0.7], 0),
        ([0.5, 0.5], 0),
        ([0.5, 0.5, 0.5], 1),
        ([0.5, 0.4, 0.3], 1),
        ([0.5, 0.4, 0.6, 0.5, 0.5], 1),
        ([0.5, 0.4, 0.4, 0.4, 0.4], 2),
        ([0.5, 0.4, 0.4, 0.4, 0.6, 0.5, 0.4], 2),
        ([0.5, 0.4, 0.6, 0.5, 0.7], 0),
    ],
)
def test_a_rate_drops_after_two_epochs_without_anything_better(scores, drops) -> None:
    assert plateau_drops([(score,) for score in scores]) == drops


def test_equal_scores_are_told_apart_by_what_follows() -> None:
    assert plateau_drops([(0.5, -0.9), (0.5, -0.8), (0.5, -0.7), (0.5, -0.6)]) == 0
    assert plateau_drops([(0.5, -0.6), (0.5, -0.7), (0.5, -0.8)]) == 1


# The head's penalty


def test_without_a_penalty_the_loss_has_no_term() -> None:
    assert head_penalty(nn.Linear(3, 2), TRAIN) is None


@pytest.mark.parametrize(
    ("penalties", "expected"),
    [({"l1": 0.5}, 0.5 * 10), ({"l2": 0.25}, 0.25 * 30), ({"l1": 1.0, "l2": 2.0}, 10 + 60)],
)
def test_the_penalty_is_of_the_heads_weights_and_not_of_its_biases(penalties, expected) -> None:
    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, -2.0], [3.0, -4.0]]))
        head.bias.fill_(100.0)
    penalty = head_penalty(head, replace(TRAIN, **penalties))
    assert penalty is not None
    assert penalty.item() == pytest.approx(expected)
    penalty.backward()
    assert head.bias.grad is None
    assert head.weight.grad is not None
    assert bool((head.weight.grad.sign() == head.weight.sign()).all())


def test_the_penalty_is_of_every_layer_of_the_head() -> None:
    head = HeadSpec.parse("mlp:4,dropout=0.5").build(3, 2)
    total = sum(p.abs().sum().item() for n, p in head.named_parameters() if n.endswith("weight"))
    penalty = head_penalty(head, replace(TRAIN, l1=1.0))
    assert penalty is not None
    assert penalty.item() == pytest.approx(total)
