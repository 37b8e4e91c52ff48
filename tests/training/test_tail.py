"""What a phase trains: the blocks behind the boundary, and the head."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny import make_model, pixels

from headstart.training.tail import Tail


@pytest.mark.parametrize("start", range(6))
def test_prefix_then_tail_is_the_model(start):
    model = make_model().eval()
    images = torch.from_numpy(pixels(4))
    with torch.no_grad():
        values = images if not start else model.normalise(images)
        for block in model.blocks[:start]:
            values = block(values)
        assert torch.equal(Tail(model, start)(values), model(images))


def test_it_holds_the_models_own_parameters_and_those_before_it_not():
    model = make_model()
    tail = Tail(model, 1)
    own = dict(model.named_parameters())
    for name, parameter in tail.named_parameters():
        assert own[name] is parameter
    assert {name for name in own if name not in dict(tail.named_parameters())} == {
        name for name in own if name.startswith("blocks.0.")
    }
    assert not any("whole" in name for name in tail.state_dict())


def test_a_copy_has_weights_of_its_own():
    model = make_model().eval()
    tail = Tail(model, 3)
    other = copy.deepcopy(tail)
    values = torch.rand(2, 6, 8, 8)
    before = tail(values)
    assert torch.equal(other(values), before)
    with torch.no_grad():
        for parameter in tail.parameters():
            parameter.zero_()
    assert torch.equal(other(values), before)
    assert not torch.equal(tail(values), before)


@pytest.mark.parametrize(("start", "frozen"), [(0, 0), (0, 1), (1, 1), (2, 1)])
def test_it_tells_the_blocks_that_are_trained(start, frozen):
    model = make_model()
    first = f"{model.backbone.blocks[0].name}."
    rates = {p.name: None if p.name.startswith(first) else 0.1 for p in model.describe()}
    model.freeze(rates if frozen else dict.fromkeys(rates, 0.1))
    assert list(Tail(model, start).trained()) == list(model.blocks)[max(start, frozen) :]


@pytest.mark.parametrize("start", [0, 2])
def test_its_features_are_the_models_and_what_the_head_takes(start):
    model = make_model().eval()
    rates = {p.name: None if p.name.startswith("stem") else 0.1 for p in model.describe()}
    model.freeze(rates)
    tail = Tail(model, start)
    images = torch.from_numpy(pixels(4))
    with torch.no_grad():
        values = images
        if start:
            values = model.blocks[1](model.blocks[0](model.normalise(images)))
        expected = model.features(images)
    found = tail.features(values)
    assert torch.equal(found, expected)
    assert found.requires_grad  # of the blocks that are trained
    assert torch.equal(tail(values), model.head(expected))


def test_the_head_is_computed_in_fp32_whatever_the_rest_is_computed_in():
    model = make_model().eval()
    tail = Tail(model, 4)  # pooling and the head
    values = torch.rand(2, 8, 6, 6).bfloat16()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = tail(values)
    assert logits.dtype == torch.float32
    with torch.no_grad():
        pooled = model.blocks[4](values)
        assert torch.equal(logits, model.head(pooled.float()))
