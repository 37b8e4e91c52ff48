from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones import small, zoo
from headstart.backbones.base import Backbone, Request
from headstart.errors import ModelError, UsageError
from headstart.inputspec import InputSpec
from networks import images, shake

NAME = "bundled:small_cnn"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return zoo.create(NAME, random=0)


def test_it_says_what_it_is(backbone):
    assert backbone.full_name == NAME
    assert backbone.feature_dim == 256
    assert backbone.classifier is None
    assert backbone.licence is None
    assert backbone.notes == ()
    half = (127.5, 127.5, 127.5)
    assert backbone.input_spec == InputSpec(128, 128, half, half, "crop", 0.875, "bilinear")
    json.dumps(backbone.architecture)


def test_it_has_four_stages_each_half_as_wide_and_twice_as_deep(backbone):
    stages = tuple(f"stages.{number}" for number in range(4))
    assert backbone.stages == stages
    assert [block.name for block in backbone.blocks] == [*stages, "pool"]
    assert [block.stride for block in backbone.blocks] == [2, 4, 8, 16, 0]
    values, shapes = images(backbone), []
    for block in backbone.blocks:
        values = block.module(values)
        shapes.append(tuple(values.shape[1:]))
    assert shapes == [(32, 64, 64), (64, 32, 32), (128, 16, 16), (256, 8, 8), (256,)]


def test_each_stage_is_a_convolution_norm_relu_and_pooling(backbone):
    for block in backbone.blocks[:-1]:
        kinds = [type(m) for m in block.module.modules() if not list(m.children())]
        assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d]
    weights = sum(parameter.numel() for parameter in backbone.network.parameters())
    assert weights == 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 256) + 2 * (32 + 64 + 128 + 256)


def test_the_chain_is_the_network(backbone):
    own = zoo.rebuild(backbone.architecture, backbone.input_spec)
    shake(own.network)
    with torch.no_grad():
        assert torch.equal(own.chain()(images(own)), own.network(images(own)))


def test_it_takes_other_sizes():
    other = zoo.create(NAME, size=48, random=0)
    assert (other.input_spec.height, other.input_spec.width) == (48, 48)
    assert other.chain()(images(other)).shape == (3, 256)


def test_a_size_too_small_for_its_pooling_is_refused():
    with pytest.raises(UsageError, match=r"at least 16 x 16 pixels, not 15 x 15") as raised:
        zoo.create(NAME, size=15, random=0)
    assert raised.value.field == "size"
    least = zoo.create(NAME, size=16, random=0)
    assert least.chain()(images(least)).shape == (3, 256)


def test_there_are_no_pretrained_weights():
    with pytest.raises(UsageError, match="no pre-trained weights of bundled:small_cnn") as raised:
        zoo.create(NAME)
    assert raised.value.field == "backbone"
    assert "scratch:small-cnn" in raised.value.hint


def test_the_seed_and_nothing_else_decides_the_weights():
    before = torch.get_rng_state()
    digests = [small.create(Request(random=seed)).digest() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert digests[0] == digests[1] != digests[2]


def test_it_is_rebuilt_for_saved_weights(backbone):
    document = json.loads(json.dumps(backbone.architecture))
    spec = zoo.create(NAME, size=64, random=5).input_spec
    again = zoo.rebuild(document, spec)
    assert again.input_spec == spec
    assert again.architecture == backbone.architecture
    again.network.load_state_dict(backbone.network.state_dict())
    assert again.digest() == backbone.digest()


def test_a_users_file_is_loaded(backbone, tmp_path):
    path = tmp_path / "mine.safetensors"
    state = {name: value + 1 for name, value in backbone.network.state_dict().items()}
    save_file(state, path)
    mine = zoo.create(NAME, weights=path)
    assert all(torch.equal(v, state[n]) for n, v in mine.network.state_dict().items())
    assert mine.weights == f"mine.safetensors ({len(state)} of {len(state)} tensors matched)"
    assert not mine.network.training


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"fc.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(ModelError, match="does not fit"):
        zoo.create(NAME, weights=path)
