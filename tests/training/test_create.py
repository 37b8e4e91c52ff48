from __future__ import annotations

import pytest
import torch

import headstart
from headstart.errors import UnknownName, UsageError
from headstart.strategy import names

SMALL = "bundled:small_cnn"


def test_it_takes_pixels_and_gives_logits():
    model = headstart.create("bundled:efficientnet_lite0", 5, size=64).eval()
    pixels = torch.randint(0, 256, (3, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        logits = model(pixels)
        normalised = (pixels.permute(0, 3, 1, 2).float() - 127.5) / 127.5
        assert torch.allclose(model(normalised), logits, atol=1e-4)
    assert logits.shape == (3, 5)
    assert model.input_spec.height == 64


def test_seeds_decide_the_weights_and_nothing_else_is_drawn():
    before = torch.get_rng_state()
    one, same, other = (
        headstart.create(SMALL, 3, random=True, seed=seed).state_dict() for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])
    convolution = next(name for name in one if one[name].ndim == 4)
    assert not torch.equal(one[convolution], other[convolution])


def test_the_head_is_as_asked():
    model = headstart.create(SMALL, 3, random=True, head="mlp:16,dropout=0.5")
    assert [type(layer).__name__ for layer in model.head] == [
        *("Dropout", "Linear", "ReLU", "Dropout", "Linear")
    ]


def test_an_optimizer_of_its_groups_trains_what_the_phase_says():
    model = headstart.create(SMALL, 3, random=True)
    phase = names.create("last-blocks:1").phases[-1]
    headstart.apply(model, phase)
    before = {name: value.clone() for name, value in model.parameters_by_name().items()}
    optimizer = torch.optim.SGD(headstart.parameter_groups(model, phase), lr=1.0)
    model.train()
    pixels = torch.randint(0, 256, (4, 128, 128, 3), dtype=torch.uint8)
    model(pixels).square().sum().backward()
    optimizer.step()
    after = model.parameters_by_name()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert moved == {name for name in after if name.startswith(("stages.3", "head"))}


@pytest.mark.parametrize("classes", [1, 0, -2])
def test_too_few_classes_are_refused(classes):
    with pytest.raises(UsageError, match=r"2 classes or more, not -?\d.\n.*labels"):
        headstart.create(SMALL, classes, random=True)


def test_an_unknown_network_and_an_unknown_head_are_refused():
    with pytest.raises(UnknownName):
        headstart.create("timm:resnet51", 3)
    with pytest.raises(UsageError, match="mlp:WIDTH"):
        headstart.create(SMALL, 3, random=True, head="deep")
