"""Which rates are said to be high for pre-trained weights, and which are not."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from headstart.strategy.names import create
from headstart.training.anatomy import head_of
from headstart.training.model import Model
from headstart.training.optim import apply, make_optimizer, parameter_groups
from headstart.training.rate_guard import HIGHEST_RATES, peak, rate_findings
from networks import untrained
from strategies import NAMES


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return timm.create_model("test_resnet", num_classes=3)


def found(network, optimizer, **options):
    parameters = dict(network.named_parameters())
    return list(rate_findings(parameters, optimizer, head=head_of(network), **options))


def two_groups(network, kind, rate, head_rate, **options):
    head = head_of(network)
    rest = [value for value in network.parameters() if id(value) not in head]
    tops = [value for value in network.parameters() if id(value) in head]
    return kind([{"params": rest, "lr": rate}, {"params": tops, "lr": head_rate}], **options)


def test_usual_rates_give_no_finding(network):
    assert found(network, torch.optim.AdamW(network.parameters(), 1e-4)) == []
    assert found(network, torch.optim.SGD(network.parameters(), 0.01, momentum=0.9)) == []
    assert found(network, two_groups(network, torch.optim.Adam, 1e-4, 1e-2)) == []


def test_adams_rate_for_pre_trained_weights_is_found(network):
    [one] = found(network, torch.optim.AdamW(network.parameters(), 0.01))
    assert (one.kind, one.severity) == ("rate", "warning")
    assert "AdamW has a rate of 0.01" in one.message
    assert "Above 0.001" in one.message
    assert "Begin with 0.0001" in one.hint


def test_torchs_default_for_the_whole_network_is_worth_a_note_and_for_its_end_is_not(network):
    [one] = found(network, torch.optim.Adam(network.parameters()))
    assert (one.severity, "torch's default" in one.message) == ("note", True)
    last = [*network.layer4.parameters(), *network.fc.parameters()]
    assert found(network, torch.optim.Adam(last)) == []


@pytest.mark.parametrize(("rate", "momentum", "high"), [(0.1, 0.9, True), (0.1, 0, False)])
def test_for_sgd_the_momentum_counts(network, rate, momentum, high):
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=momentum)
    assert bool(found(network, optimizer)) == high


def test_a_range_test_decides_where_there_is_one(network):
    optimizer = torch.optim.AdamW(network.parameters(), 5e-4)
    [one] = found(network, optimizer, highest_good_rate=2e-4)
    assert "In the range test the loss falls up to a rate of 0.0002" in one.message
    assert "Begin with 7e-05" in one.hint
    assert found(network, optimizer, highest_good_rate=2e-3) == []


def test_a_warm_up_hides_no_rate(network):
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    assert peak(optimizer.param_groups[0]) == 0.01
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=10)
    assert optimizer.param_groups[0]["lr"] < 1e-3
    [one] = found(network, optimizer)
    assert "a rate of 0.02" in one.message
    optimizer = torch.optim.AdamW(network.parameters(), 0.01)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: step / 100)
    assert len(found(network, optimizer)) == 1


def test_groups_of_one_rate_are_one_finding(network):
    from timm.optim import param_groups_weight_decay

    optimizer = torch.optim.AdamW(param_groups_weight_decay(network, 0.05), lr=0.01)
    assert len(optimizer.param_groups) == 2
    assert len(found(network, optimizer)) == 1


def test_frozen_weights_and_unknown_optimizers_are_not_judged(network):
    assert found(network, torch.optim.Adadelta(network.parameters(), 1.0)) == []
    frozen = timm.create_model("test_resnet", num_classes=3).requires_grad_(requires_grad=False)
    assert found(frozen, torch.optim.Adam(frozen.parameters(), 1.0)) == []


def test_every_limit_is_of_an_optimizer_that_steps_by_its_rate():
    assert HIGHEST_RATES["SGD"] > HIGHEST_RATES["AdamW"] > HIGHEST_RATES["Lion"]


# Without those that train from nothing, and one in which the high rate is what is asked for.
@pytest.mark.parametrize("name", [n for n in NAMES if "scratch" not in n and "1e-2" not in n])
def test_no_strategy_of_ours_has_a_rate_that_is_high(name):
    backbone = untrained("test_resnet", 64)
    model = Model(backbone, nn.Linear(backbone.feature_dim, 3))
    for phase in create(name, len(backbone.stages)).phases:
        apply(model, phase)
        if hasattr(phase.fit, "epochs"):
            optimizer = make_optimizer(parameter_groups(model, phase), phase.fit)
            head = {id(value) for value in model.head.parameters()}
            assert list(rate_findings(model.parameters_by_name(), optimizer, head=head)) == []
