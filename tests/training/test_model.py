from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SPEC, make_backbone, make_model, pixels
from torch import nn

from headstart.data.transforms import normalise
from headstart.strategy import presets
from headstart.training.model import Model, Normalise, prepare
from networks import untrained

BLOCKS = ["stem", "layer1", "drop", "layer10", "pool"]
AWAKE = {
    "the head": ("head",),
    "the last stage": ("layer10", "head"),
    "a stage in the middle": ("layer1", "head"),
    "the first stage alone": ("stem",),
    "everything": ("stem", "layer1", "layer10", "head"),
    "nothing": (),
    "a convolution without its norm": ("layer1.conv", "layer10", "head"),
    "a norm without its convolution": ("layer1.norm", "head"),
    "a part of a norm": ("layer1.norm.bias", "head"),
}
# The blocks of which something is trained, and those in which the batch norm learns statistics.
MOVING = {
    "a convolution without its norm": {"layer10"},
    "a norm without its convolution": {"layer1"},
    "a part of a norm": {"layer1"},
}
awake_sets = pytest.mark.parametrize("awake", AWAKE.values(), ids=AWAKE)


def rates_of(model: Model, awake: tuple[str, ...]) -> dict[str, float | None]:
    """Give these parameters a rate, and None to all others."""
    names = [parameter.name for parameter in model.describe()]
    return {n: 0.1 if any((n + ".").startswith(a + ".") for a in awake) else None for n in names}


def frozen_model(awake: tuple[str, ...]) -> Model:
    model = make_model()
    model.freeze(rates_of(model, awake))
    return model.train()


def step(model: Model, seed: int = 0) -> None:
    """Take one step of SGD with weight decay, which would move even what has no gradient."""
    awake = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = model(torch.from_numpy(pixels(6, seed))).square().sum()
    if awake:
        optimizer = torch.optim.SGD(awake, lr=0.1, weight_decay=0.1)
        loss.backward()
        optimizer.step()


def state(model: Model) -> dict[str, torch.Tensor]:
    """Return all parameters and statistics by the names a plan knows them by."""
    tensors = dict(model._backbone.network.state_dict())
    tensors |= {f"head.{name}": tensor for name, tensor in model.head.state_dict().items()}
    return {name: tensor.clone() for name, tensor in tensors.items()}


def moved(model: Model, work: Callable[[], None]) -> set[str]:
    before = state(model)
    work()
    return {name for name, tensor in state(model).items() if not torch.equal(tensor, before[name])}


def standing(model: Model) -> dict[str, Any]:
    """Return all that freezing decides."""
    return {
        "gradients": {n: p.requires_grad for n, p in model.named_parameters()},
        "modes": {n: module.training for n, module in model.named_modules()},
        "prefix": model.frozen_prefix,
    }


# Freezing


@pytest.mark.parametrize("case", AWAKE)
def test_a_step_moves_what_is_awake_and_no_bit_of_what_is_frozen(case) -> None:
    model = frozen_model(AWAKE[case])
    rates = rates_of(model, AWAKE[case])
    statistics = {name for name in state(model) if name not in rates}
    changed = moved(model, lambda: step(model))
    assert changed - statistics == {name for name, rate in rates.items() if rate is not None}
    learning = MOVING.get(case, set(AWAKE[case]) - {"head"})
    assert changed & statistics == {n for n in statistics if n.partition(".")[0] in learning}


@awake_sets
def test_what_is_frozen_has_no_gradient_and_its_optimizer_nothing_to_hold(awake) -> None:
    model = frozen_model(awake)
    step(model)
    gradients = {n for n, p in model._backbone.network.named_parameters() if p.grad is not None}
    gradients |= {f"head.{n}" for n, p in model.head.named_parameters() if p.grad is not None}
    assert gradients == {name for name, rate in rates_of(model, awake).items() if rate is not None}


@awake_sets
def test_freezing_twice_is_freezing_once(awake) -> None:
    model = frozen_model(awake)
    once = standing(model)
    model.freeze(rates_of(model, awake))
    assert standing(model) == once


@awake_sets
def test_what_was_frozen_before_does_not_matter(awake) -> None:
    fresh = standing(frozen_model(awake))
    for before in AWAKE.values():
        model = frozen_model(before)
        model.freeze(rates_of(model, awake))
        assert standing(model) == fresh


@awake_sets
def test_training_mode_does_not_wake_what_is_frozen(awake) -> None:
    model = frozen_model(awake)
    in_training = standing(model)
    assert in_training["modes"]["head"]
    assert not any(standing(model.eval())["modes"].values())
    assert standing(model.train()) == in_training


def test_freezing_keeps_inference_mode() -> None:
    model = make_model().eval()
    model.freeze(rates_of(model, ("stem", "head")))
    assert not any(standing(model)["modes"].values())


def test_a_batch_norm_holds_its_statistics_only_while_its_own_parameters_are_frozen() -> None:
    model = frozen_model(("layer1.conv", "head"))
    held, convolution = model.blocks[1].norm, model.blocks[1].conv
    assert (held.training, convolution.training, model.blocks[0].training) == (False, True, False)
    model.freeze(rates_of(model, ("layer1", "head")))
    assert held.training
    assert any(".running_mean" in name for name in moved(model, lambda: step(model)))


def test_all_batch_norms_hold_their_statistics_where_that_is_asked_for() -> None:
    model = make_model().train()
    rates = rates_of(model, ("layer1", "layer10", "head"))
    model.freeze(rates, hold_statistics=True)
    changed = moved(model, lambda: step(model))
    assert changed == {name for name, rate in rates.items() if rate is not None}
    model.freeze(rates)
    assert any(".running_mean" in name for name in moved(model, lambda: step(model)))


def test_a_batch_norm_without_parameters_learns_with_its_block() -> None:
    blocks = {
        "conv": nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)),
        "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    }
    model = make_model(make_backbone(blocks)).train()
    norm = model.blocks[0][1]
    for awake, hold, learns in ((("conv",), False, True), (("conv",), True, False), ((), 0, False)):
        model.freeze(rates_of(model, awake), hold_statistics=bool(hold))
        assert norm.training is learns


def test_dropout_of_a_frozen_block_is_off_and_of_a_trained_one_on() -> None:
    ones = torch.ones(1000)
    assert torch.equal(frozen_model(("layer10", "head")).blocks[2](ones), ones)
    assert not torch.equal(frozen_model(("layer1", "head")).blocks[2](ones), ones)


@pytest.mark.parametrize(
    ("awake", "prefix"),
    [
        ((), 5),
        (("head",), 5),
        (("layer10",), 3),
        (("layer10.norm.weight",), 3),
        (("layer1",), 1),
        (("stem", "layer10"), 0),
        (("stem",), 0),
    ],
)
def test_the_frozen_prefix_ends_at_the_first_block_that_is_trained(awake, prefix) -> None:
    assert frozen_model(awake).frozen_prefix == prefix


def test_nothing_is_frozen_until_it_is_said() -> None:
    assert make_model().frozen_prefix == 0


@awake_sets
def test_the_frozen_prefix_builds_no_graph_and_the_rest_does(awake) -> None:
    model = frozen_model(awake)
    tracked, with_grad = [], []
    for block in model.blocks:
        block.register_forward_hook(lambda m, i, output: tracked.append(output.requires_grad))
        block.register_forward_hook(lambda m, i, o: with_grad.append(torch.is_grad_enabled()))
    model(torch.from_numpy(pixels(2)))
    prefix, rest = model.frozen_prefix, len(BLOCKS) - model.frozen_prefix
    assert tracked == [False] * prefix + [True] * rest
    assert with_grad == [False] * prefix + [True] * rest


def test_a_preset_is_frozen_as_it_says() -> None:
    model = make_model()
    (phase,) = presets.feature_extraction().phases
    model.freeze(phase.resolve(model.describe()))
    assert moved(model.train(), lambda: step(model)) == {"head.weight", "head.bias"}
    assert model.frozen_prefix == len(BLOCKS)


# What a plan sees


def test_parameters_are_described_in_the_order_of_the_blocks_and_then_the_head() -> None:
    model = make_model()
    described = model.describe()
    assert [p.name for p in described] == [
        *(name for name, _ in model._backbone.network.named_parameters()),
        "head.weight",
        "head.bias",
    ]
    assert [p.size for p in described] == [p.numel() for p in model.parameters()]
    assert {(p.block, p.stage) for p in described} == {
        *(("stem", "stem"), ("layer1", "layer1"), ("layer10", "layer10"), ("head", "head"))
    }


@pytest.mark.parametrize(
    ("module", "kinds"),
    [
        (nn.Conv2d(3, 8, 1), {"weight": "weight", "bias": "bias"}),
        (nn.BatchNorm2d(3), {"weight": "norm", "bias": "norm"}),
        (nn.GroupNorm(1, 3), {"weight": "norm", "bias": "norm"}),
        (nn.Sequential(nn.PReLU(), nn.InstanceNorm2d(3, affine=True)), None),
    ],
)
def test_parameters_are_weights_biases_or_a_norms(module, kinds) -> None:
    kinds = kinds or {"0.weight": "weight", "1.weight": "norm", "1.bias": "norm"}
    backbone = make_backbone({"block": module, "pool": nn.Flatten()})
    described = {p.name: p.kind for p in make_model(backbone).describe() if p.block != "head"}
    assert described == {f"block.{name}": kind for name, kind in kinds.items()}


def test_names_are_those_of_the_network_whatever_the_blocks_call_them() -> None:
    backbone = make_backbone()
    names = tuple(f"encoder.{name}" for name in backbone.blocks[0].parameters)
    blocks = (replace(backbone.blocks[0], parameters=names), *backbone.blocks[1:])
    model = make_model(replace(backbone, blocks=blocks))
    assert [p.name for p in model.describe()][:3] == list(names)
    model.freeze({p.name: 0.1 if p.name == names[1] else None for p in model.describe()})
    assert [n for n, p in model.named_parameters() if p.requires_grad] == ["blocks.0.norm.weight"]


def test_layers_are_numbered_as_keras_counts_them() -> None:
    model = make_model()
    # conv, norm, act; conv, norm, act; drop; conv, norm, act; pool, flatten.
    assert {p.name: p.layer for p in model.describe()} == {
        "stem.conv.weight": 0,
        "stem.norm.weight": 1,
        "stem.norm.bias": 1,
        "layer1.conv.weight": 3,
        "layer1.conv.bias": 3,
        "layer1.norm.weight": 4,
        "layer1.norm.bias": 4,
        "layer10.conv.weight": 7,
        "layer10.norm.weight": 8,
        "layer10.norm.bias": 8,
        "head.weight": -1,
        "head.bias": -1,
    }


class Scaled(nn.Module):
    """A container with a parameter of its own beside its layers, as ConvNeXt's blocks are."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(3))
        self.conv = nn.Conv2d(3, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x) * self.gamma.reshape(1, 3, 1, 1)


def test_identities_and_containers_are_no_layers_and_parameters_of_their_own_make_one() -> None:
    blocks = {
        "first": nn.Sequential(nn.Identity(), nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1))),
        "second": Scaled(),
        "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    }
    described = make_model(make_backbone(blocks)).describe()
    assert {p.name: p.layer for p in described if p.block != "head"} == {
        "first.1.1.weight": 1,
        "first.1.1.bias": 1,
        "second.gamma": 2,
        "second.conv.weight": 3,
        "second.conv.bias": 3,
    }


def test_layers_of_a_real_network_are_its_leaves_in_order() -> None:
    backbone = untrained("test_resnet", 64)
    layers = [p.layer for p in make_model(backbone).describe() if p.block != "head"]
    assert layers == sorted(layers)
    leaves = [
        module
        for block in backbone.blocks
        for module in block.module.modules()
        if not list(module.children()) and not isinstance(module, nn.Identity)
    ]
    owners = [n for n, leaf in enumerate(leaves) if list(leaf.parameters())]
    assert sorted(set(layers)) == owners


def test_parameters_by_name_are_the_networks_own_in_the_order_of_the_description() -> None:
    backbone = untrained("test_vit")
    model = Model(backbone, nn.Linear(backbone.feature_dim, 3))
    found = model.parameters_by_name()
    assert list(found) == [parameter.name for parameter in model.describe()]
    own = dict(backbone.network.named_parameters())
    assert {n for n, value in found.items() if value is own.get(n)} == set(own)
    assert found["head.weight"] is model.head.weight


# The forward pass


@pytest.mark.parametrize("channels", ["rgb", "bgr"])
def test_pixels_are_normalised_as_the_data_says(channels) -> None:
    spec = replace(SPEC, channels=channels)
    values = Normalise(spec)(torch.from_numpy(pixels(3)))
    assert np.array_equal(values.numpy(), normalise(pixels(3), spec))
    assert values.dtype == torch.float32


def test_normalised_pixels_have_their_channels_last_in_memory() -> None:
    values = Normalise(SPEC)(torch.from_numpy(pixels(3)))
    assert values.is_contiguous(memory_format=torch.channels_last)


def test_normalisation_is_no_part_of_the_saved_weights() -> None:
    assert not any("normalise" in name for name in make_model().state_dict())


@pytest.mark.parametrize("case", AWAKE)
def test_the_model_is_normalisation_chain_and_head_whatever_is_frozen(case) -> None:
    model = frozen_model(AWAKE[case]).eval()
    backbone = make_backbone()
    images = torch.from_numpy(pixels(3))
    with torch.no_grad():
        features = backbone.chain().eval()(torch.from_numpy(normalise(pixels(3), SPEC)))
        torch.testing.assert_close(model.features(images), features)
        torch.testing.assert_close(model(images), model.head(features))


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_pixels_are_normalised_and_normalised_images_taken_as_they_are(kind) -> None:
    model = make_model().eval()
    raw = torch.from_numpy(pixels(3))
    ready = torch.from_numpy(normalise(pixels(3), SPEC))
    with torch.no_grad():
        torch.testing.assert_close(prepare(model.normalise, raw.to(kind)), ready)
        assert prepare(model.normalise, ready) is ready
        torch.testing.assert_close(model(raw.to(kind)), model(ready))


def test_the_network_of_the_backbone_learns_with_the_model() -> None:
    backbone = make_backbone()
    before = copy.deepcopy(backbone.network.state_dict())
    model = make_model(backbone)
    model.freeze(rates_of(model, ("layer10",)))
    step(model.train())
    after = backbone.network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("layer10.")}


def test_a_head_of_several_layers_is_described_and_frozen_by_name() -> None:
    backbone = make_backbone()
    head = nn.Sequential(OrderedDict(hidden=nn.Linear(8, 4), norm=nn.LayerNorm(4)))
    model = Model(backbone, head)
    kinds = {p.name: p.kind for p in model.describe() if p.block == "head"}
    assert kinds == {
        "head.hidden.weight": "weight",
        "head.hidden.bias": "bias",
        "head.norm.weight": "norm",
        "head.norm.bias": "norm",
    }
    model.freeze(rates_of(model, ("head.norm",)))
    assert [n for n, p in head.named_parameters() if p.requires_grad] == [
        "norm.weight",
        "norm.bias",
    ]
