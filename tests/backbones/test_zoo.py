from __future__ import annotations

import json

import pytest
import torch

from headstart.backbones import zoo
from headstart.backbones.bundled import NAMES
from headstart.errors import ModelError, UnknownName, UsageError
from networks import images, untrained


def test_the_default_is_bundled():
    zoo_name, _, name = zoo.DEFAULT.partition(":")
    assert zoo_name in zoo.ZOOS
    assert name in NAMES


def unknown(name: str) -> UnknownName:
    with pytest.raises(UnknownName) as caught:
        zoo.create(name)
    assert caught.value.field == "backbone"
    assert len(str(caught.value).splitlines()) <= 5
    return caught.value


@pytest.mark.parametrize("name", ["torchvision:resnet50", "keras:VGG16", "tim:resnet50", ":a"])
def test_an_unknown_zoo_is_told_the_known_ones(name):
    error = unknown(name)
    assert repr(name.partition(":")[0]) in error.message
    assert "bundled, timm" in error.hint


@pytest.mark.parametrize(
    ("bare", "meant"),
    [
        ("resnet50", "timm:resnet50"),
        ("resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
        ("efficientnet_lite0", "bundled:efficientnet_lite0"),
    ],
)
def test_a_bare_name_is_told_its_zoo(bare, meant):
    assert unknown(bare).hint == f"Did you mean {meant}?"


def test_near_names_are_offered():
    assert "timm:resnet50" in unknown("resnet50_").hint
    assert "resnet50" in unknown("timm:resnet5o").hint
    assert "a1_in1k" in unknown("timm:resnet50.a1_in2k").hint
    assert "efficientnet_lite0" in unknown("bundled:efficientnet_lite9").hint


@pytest.mark.parametrize(
    "name", ["timm:", "timm:hf-hub:org/model", "timm:local-dir:folder", "timm:tv_resnet50", ""]
)
def test_nothing_but_listed_names_is_made(name):
    unknown(name)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_a_backbone_is_rebuilt_from_json(name):
    first = untrained(name)
    document = json.loads(json.dumps(first.architecture))
    second = zoo.rebuild(document, first.input_spec)
    assert second.digest() != first.digest()
    second.network.load_state_dict(first.network.state_dict())
    assert second.digest() == first.digest()
    assert second.architecture == first.architecture
    assert [b.name for b in second.blocks] == [b.name for b in first.blocks]
    x = images(first)
    with torch.no_grad():
        assert torch.equal(second.chain()(x), first.chain()(x))


def test_rebuilding_draws_no_global_random_number():
    first = untrained("test_resnet")
    before = torch.get_rng_state()
    zoo.rebuild(first.architecture, first.input_spec)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "changes",
    [
        {"zoo": "torchvision"},
        {"architecture": "hf-hub:org/model"},
        {"architecture": "no_such_net"},
        {"architecture": None},
        {"arguments": {"pretrained": True}},
        {"arguments": {"checkpoint_path": "evil.pth"}},
        {"arguments": None},
        {"num_classes": "many"},
    ],
)
def test_a_description_that_headstart_did_not_write_is_refused(changes):
    backbone = untrained("test_resnet")
    with pytest.raises(ModelError):
        zoo.rebuild(backbone.architecture | changes, backbone.input_spec)


def test_a_description_may_not_miss_anything():
    backbone = untrained("test_resnet")
    for key in ("zoo", "name", "architecture", "num_classes", "arguments"):
        document = {k: v for k, v in backbone.architecture.items() if k != key}
        with pytest.raises(ModelError):
            zoo.rebuild(document, backbone.input_spec)


# --- random weights --------------------------------------------------------------------------

RANDOM = {
    "bundled:efficientnet_lite0": 64,
    "bundled:small_cnn": 32,
    "timm:test_resnet": 64,
    "timm:test_vit": None,
}


@pytest.mark.parametrize("name", RANDOM)
def test_random_weights_are_decided_by_their_seed(name):
    before = torch.get_rng_state()
    first, again, other = (zoo.create(name, size=RANDOM[name], random=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.digest() == again.digest() != other.digest()
    assert (first.weights, other.weights) == ("random, seed 0", "random, seed 1")
    assert first.licence is None
    assert not first.network.training
    features = first.chain()(images(first))
    assert features.shape == (3, first.feature_dim)


def test_a_network_starts_from_a_file_or_from_random_weights(tmp_path):
    with pytest.raises(UsageError, match="not from both") as raised:
        zoo.create("timm:test_resnet", weights=tmp_path / "x.safetensors", random=0)
    assert raised.value.field == "weights"
    assert raised.value.hint
