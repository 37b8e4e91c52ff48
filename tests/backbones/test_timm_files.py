from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones import zoo
from headstart.backbones.timm_files import conversion
from headstart.errors import ModelError


@pytest.fixture(scope="module")
def state():
    """A transformer's tensors for images of 160 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return timm.create_model("test_vit").state_dict()


def as_timm_loads(name: str, state: dict[str, torch.Tensor], **arguments) -> dict:
    overlay = {"state_dict": dict(state)}
    network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **arguments)
    return network.state_dict()


@pytest.mark.parametrize("size", [64, 224])
def test_positions_are_resampled_to_another_size_as_timm_does(state, size, tmp_path):
    save_file(state, tmp_path / "vit.safetensors")
    made = zoo.create("timm:test_vit", weights=tmp_path / "vit.safetensors", size=size)
    expected = as_timm_loads("test_vit", state, img_size=size)
    own = made.network.state_dict()
    assert own["pos_embed"].shape != state["pos_embed"].shape
    assert all(torch.equal(tensor, expected[name]) for name, tensor in own.items())
    total = len(own)
    assert made.weights == f"vit.safetensors ({total} of {total} tensors matched)"
    assert made.input_spec.height == size


def test_the_same_under_a_prefix_and_without_a_head(state, tmp_path):
    wrapped = {f"backbone.{k}": v for k, v in state.items() if not k.startswith("head.")}
    torch.save({"teacher": wrapped, "epoch": 3}, tmp_path / "dino.pth")
    made = zoo.create("timm:test_vit", weights=tmp_path / "dino.pth", size=64)
    expected = as_timm_loads("test_vit", state, img_size=64)
    assert torch.equal(made.network.state_dict()["pos_embed"], expected["pos_embed"])


def test_a_file_of_the_original_authors_is_renamed(tmp_path):
    """DINOv2 calls its layer scale and its register tokens otherwise, and has a mask token."""
    network = timm.create_model("vit_small_patch14_reg4_dinov2", img_size=28, depth=2)
    own = network.state_dict()
    raw = {name: tensor for name, tensor in own.items() if name != "reg_token"}
    raw |= {"register_tokens": own["reg_token"], "mask_token": torch.zeros(1, 384)}
    # Its class token has a position, which timm adds to the token.
    raw["pos_embed"] = torch.cat([torch.ones(1, 1, 384), own["pos_embed"]], dim=1)
    convert = conversion("vit_small_patch14_reg4_dinov2", network)
    converted = convert(raw)
    assert converted.keys() == own.keys()
    assert torch.equal(converted["cls_token"], own["cls_token"] + 1)
    assert torch.equal(converted["reg_token"], own["reg_token"])


def test_torchvisions_files_are_renamed_where_timm_knows_them():
    """What is a linear layer of a VGG there is a convolution here."""
    convert = conversion("vgg11", nn.Identity())
    linear = torch.arange(2 * 512 * 49.0).reshape(2, 512 * 49)
    converted = convert({"features.0.weight": torch.ones(1), "classifier.0.weight": linear})
    assert torch.equal(converted["pre_logits.fc1.weight"], linear.reshape(2, 512, 7, 7))
    assert torch.equal(converted["features.0.weight"], torch.ones(1))


def test_a_file_that_timm_stumbles_over_is_none_of_these(state):
    convert = conversion("test_vit", timm.create_model("test_vit", img_size=64))
    assert convert({"pos_embed": torch.ones(3)}) is None


def test_a_size_that_timm_can_t_resample_to_is_said_to_be_one(tmp_path):
    save_file(timm.create_model("levit_128s").state_dict(), tmp_path / "levit.safetensors")
    with pytest.raises(ModelError, match="attention_biases has the shape") as caught:
        zoo.create("timm:levit_128s", weights=tmp_path / "levit.safetensors", size=160)
    assert "and its --size" in caught.value.hint


def test_networks_without_a_conversion_have_none():
    assert conversion("test_resnet", timm.create_model("test_resnet")) is None


def test_what_fits_nothing_is_refused_as_ever(tmp_path):
    save_file({"pos_embed": torch.ones(3)}, tmp_path / "odd.safetensors")
    with pytest.raises(ModelError, match="does not fit this network"):
        zoo.create("timm:test_vit", weights=tmp_path / "odd.safetensors", size=64)
