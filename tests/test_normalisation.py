"""What networks were trained to see."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from headstart.inputspec import InputSpec
from headstart.normalisation import (
    HALF,
    IMAGENET,
    Scaling,
    expected,
    is_triple,
    listed,
    triple,
)
from headstart.training.model import Model, Normalise
from networks import untrained

numbers = st.floats(-2, 2, allow_nan=False)
positive = st.floats(0.05, 3)


@given(st.tuples(numbers, numbers, numbers), st.tuples(positive, positive, positive))
def test_a_scaling_is_what_to_tensor_and_normalize_compute(mean, std):
    pixels = torch.tensor([0, 100, 255], dtype=torch.uint8).expand(3, 1, 3)
    usual = torchvision.transforms.Normalize(mean, std)(pixels / 255)
    scaling = Scaling.of(mean, std, 255)
    ours = torch.tensor([scaling.at(pixel) for pixel in (0, 100, 255)]).T[:, None]
    assert torch.allclose(usual, ours.float(), atol=1e-4)
    assert scaling.distance(scaling) == 0
    assert scaling.range == (
        min(scaling.at(0) + scaling.at(255)),
        max(scaling.at(0) + scaling.at(255)),
    )


def test_a_scaling_of_an_input_spec_is_what_our_network_computes():
    spec = InputSpec(2, 2, mean=(120.0, 110.0, 100.0), std=(60.0, 55.0, 50.0))
    pixels = torch.full((1, 2, 2, 3), 77, dtype=torch.uint8)
    ours = Scaling.of(spec.mean, spec.std).at(77)
    assert torch.allclose(Normalise(spec)(pixels)[0, :, 0, 0], torch.tensor(ours))


def test_a_scaling_is_said_as_normalize_takes_it():
    assert str(Scaling.of(*IMAGENET, 255)) == (
        "mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225]"
    )


def test_what_is_not_like_three_numbers():
    assert triple(torch.tensor([1.0, 2.0, 3.0])) == (1, 2, 3)
    assert triple(0.5) == triple([0.5]) == (0.5, 0.5, 0.5)
    assert is_triple((1, 2, 3))
    assert is_triple(0.5)
    assert not any(map(is_triple, ((1, 2), "abc", object(), None)))
    assert listed((0.48512345, 1)) == "[0.4851, 1]"


@pytest.mark.parametrize(
    ("make", "mean_and_std", "source"),
    [
        (lambda: timm.create_model("test_resnet"), HALF, "timm says of test_resnet"),
        (lambda: timm.create_model("resnet10t"), IMAGENET, "timm says of resnet10t"),
        (lambda: torchvision.models.squeezenet1_1(), IMAGENET, "torchvision"),
    ],
)
def test_what_zoos_networks_expect_inside_of_others_too(make, mean_and_std, source):
    network = make()
    for model in (network, nn.Sequential(network, nn.Linear(1000, 3))):
        told = expected(model)
        assert told.source.startswith(source)
        assert told.scaling.distance(Scaling.of(*mean_and_std, 255)) < 1e-6
        assert not told.takes_pixels


def test_torchvisions_one_network_with_another_normalisation_is_told_from_its_kin():
    with torch.device("meta"):
        kin = {
            n: getattr(torchvision.models, f"efficientnet_{n}")()
            for n in ("b0", "v2_s", "v2_m", "v2_l")
        }
    for name, network in kin.items():
        weights = torchvision.models.get_model_weights(f"efficientnet_{name}").DEFAULT
        preset = weights.transforms()
        assert expected(network).scaling.distance(Scaling.of(preset.mean, preset.std, 255)) < 1e-6


def test_ours_says_so_itself_and_takes_pixels():
    backbone = untrained("test_resnet", 32)
    told = expected(Model(backbone, nn.Linear(backbone.feature_dim, 2)))
    spec = backbone.input_spec
    assert told.takes_pixels
    assert told.scaling == Scaling.of(spec.mean, spec.std)


def test_what_the_user_says_counts_in_either_unit():
    network = timm.create_model("test_resnet")
    ours = Scaling.of(*IMAGENET, 255)
    for unit in (1, 255):
        mean, std = ([unit * value for value in values] for values in IMAGENET)
        told = expected(network, mean, std)
        assert told.source == "you say"
        assert told.scaling.distance(ours) < 1e-6


def test_of_other_networks_nothing_is_known():
    assert expected(nn.Sequential(nn.Conv2d(3, 4, 3))) is None
    with torch.device("meta"):
        other = torchvision.models.video.r3d_18()
    assert expected(other) is None
