from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from headstart.backbones import zoo
from headstart.backbones.base import Backbone
from headstart.backbones.bundled import NAMES
from headstart.errors import ModelError, UnknownName, UsageError
from headstart.files import file_digest, read_json, write_json
from headstart.inputspec import InputSpec
from networks import images, shake, untrained


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


@pytest.mark.parametrize("name", ["tourchvision:resnet50", "tim:resnet50", ":a"])
def test_an_unknown_zoo_is_told_the_known_ones(name):
    error = unknown(name)
    assert repr(name.partition(":")[0]) in error.message
    assert "bundled, timm" in error.hint


@pytest.mark.parametrize(
    ("bare", "meant"),
    [
        ("resnet26d", "timm:resnet26d"),
        ("resnet50", "timm:resnet50 or torchvision:resnet50"),
        ("resnet50@IMAGENET1K_V1", "torchvision:resnet50@IMAGENET1K_V1"),
        ("fcos_resnet50_fpn", "torchvision:fcos_resnet50_fpn"),
        ("resnet50.a1_in1k", "timm:resnet50.a1_in1k"),
        ("efficientnet_lite0", "bundled:efficientnet_lite0 or timm:efficientnet_lite0"),
        ("tf_efficientnet_lite0", "timm:tf_efficientnet_lite0"),
    ],
)
def test_a_bare_name_is_told_its_zoo(bare, meant):
    assert unknown(bare).hint == f"Did you mean {meant}?"


def test_near_names_are_offered():
    assert "timm:resnet50" in unknown("resnet50_").hint
    assert "resnet50" in unknown("timm:resnet5o").hint
    assert "a1_in1k" in unknown("timm:resnet50.a1_in2k").hint
    assert "efficientnet_lite0" in unknown("bundled:efficientnet_lite9").hint
    assert "resnet50" in unknown("torchvision:resnet5o").hint


@pytest.mark.parametrize(
    "name", ["timm:", "timm:hf-hub:org/model", "timm:local-dir:folder", "timm:tv_resnet50", ""]
)
def test_nothing_but_listed_names_is_made(name):
    unknown(name)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "torchvision:squeezenet1_1"])
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
        {"zoo": "torchvision"},  # which has no such network
        {"zoo": "caffe"},
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


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("test_resnet", {"num_classes": -1}),
        ("test_resnet", {"num_classes": 10**12}),
        ("test_vit", {"arguments": {"img_size": [320_000_000, 320_000_000]}}),
        ("test_vit", {"arguments": {"img_size": [1, 1]}}),
        ("gcvit_xxtiny", {"arguments": {"img_size": [1, 1]}}),  # computes while it is made
        ("torchvision:squeezenet1_1", {"num_classes": -1}),
        ("torchvision:squeezenet1_1", {"arguments": {"image_size": 320_000_000}}),
    ],
)
def test_numbers_no_network_has_are_refused(name, changes):
    full = name if ":" in name else f"timm:{name}"
    architecture = zoo.outline(full).architecture
    with pytest.raises(ModelError):
        zoo.rebuild(architecture | changes, InputSpec(64, 64, (0, 0, 0), (1, 1, 1)))


@pytest.mark.parametrize("side", [320_000_000, 64.5])
def test_an_input_no_network_takes_is_refused(side):
    backbone = untrained("test_resnet")
    spec = InputSpec(64, side, (0, 0, 0), (1, 1, 1))
    with pytest.raises(ModelError, match="from 1 to 4,096 pixels") as raised:
        zoo.rebuild(backbone.architecture, spec)
    assert raised.value.field == "width"


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
    "torchvision:squeezenet1_1": 64,
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


# --- without weights, as with them -----------------------------------------------------------


def test_an_outline_has_the_form_of_the_pretrained_network():
    found = zoo.outline("torchvision:fcos_resnet50_fpn", size=64)
    assert found.architecture["arguments"] == {"frozen_epsilon": 1e-5}
    assert any("can't be trained" in note for note in found.notes)
    assert found.input_spec.height == 64
    scratch = zoo.create("torchvision:fcos_resnet50_fpn", size=64, random=0)
    learnt = [sum(p.numel() for p in it.network.parameters()) for it in (found, scratch)]
    assert learnt[0] < learnt[1]


def test_an_outline_needs_a_known_name():
    with pytest.raises(UnknownName):
        zoo.outline("resnet50")
    with pytest.raises(UnknownName):
        zoo.outline("tim:resnet50")


@pytest.mark.parametrize("name", ["timm:gcvit_xxtiny", "timm:xcit_nano_12_p16_224"])
def test_a_size_a_network_can_not_be_made_for_is_the_users_error(name):
    with pytest.raises(UsageError, match="can't take images of 5 x 5 pixels") as raised:
        zoo.outline(name, size=5)
    assert raised.value.field == "size"


# --- the network of an earlier run -----------------------------------------------------------


FILES = ("model.safetensors", "headstart.json")


def earlier_run(folder: Path, backbone: Backbone, head: str = "fc", licence: str | None = "MIT"):
    """Write what counts of a run's ``model/``, with a head of three classes."""
    folder.mkdir(parents=True)
    state = backbone.network.state_dict() | {f"{head}.weight": torch.ones(3, backbone.feature_dim)}
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / FILES[0])
    document = {
        "architecture": backbone.architecture,
        "input_spec": backbone.input_spec.to_dict(),
        "origin": {"licence": licence},
    }
    write_json(folder / FILES[1], document)
    digests = {name: file_digest(folder / name) for name in FILES}
    write_json(folder / "MANIFEST.json", {"format": 1, "files": digests})
    return folder


@pytest.mark.parametrize(
    ("name", "size", "head"),
    [
        ("timm:test_resnet", 64, "fc"),
        ("timm:test_vit", 64, "head"),
        ("timm:test_resnet", 64, "headstart_head"),
        ("bundled:small_cnn", 32, "headstart_head"),
        ("torchvision:squeezenet1_1", 64, "headstart_head"),
    ],
)
def test_an_earlier_run_gives_its_network_and_its_preprocessing(name, size, head, tmp_path):
    first = zoo.create(name, random=3, size=size)
    first = replace(first, input_spec=replace(first.input_spec, mean=(1, 2, 3), resize="pad"))
    folder = earlier_run(tmp_path / "run" / "model", first, head)
    for location in (folder, folder.parent):
        second = zoo.create(weights=location)
        assert second.full_name == first.full_name
        for key in ("zoo", "architecture", "num_classes", "arguments"):
            assert second.architecture[key] == first.architecture[key]
        assert second.input_spec == first.input_spec
        assert second.digest() == first.digest()
        assert second.licence == "MIT"
        total = len(first.network.state_dict())
        told = f"run/model/model.safetensors ({total} of {total} tensors matched)"
        assert second.weights == told
        assert not any("assumed" in note for note in second.notes)


def test_an_earlier_runs_network_may_be_named_and_have_another_size(tmp_path):
    first = zoo.create("timm:test_vit", random=3, size=64)
    folder = earlier_run(tmp_path / "model", first, "head")
    second = zoo.create("timm:test_vit", weights=folder, size=32)
    assert second.input_spec.height == 32
    assert second.network.state_dict()["pos_embed"].shape == (1, 5, 64)


def test_another_network_than_the_earlier_runs_is_refused(tmp_path):
    folder = earlier_run(tmp_path / "model", untrained("test_resnet"))
    with pytest.raises(UsageError, match="a classifier on timm:test_resnet") as raised:
        zoo.create("timm:test_vit", weights=folder)
    assert raised.value.field == "backbone"


@pytest.mark.parametrize("inner", ["", FILES[0]])
def test_an_earlier_run_stays_under_the_licence_it_started_from(tmp_path, inner):
    folder = earlier_run(tmp_path / "model", untrained("test_resnet"), licence="cc-by-nc-4.0")
    name, weights = ("timm:test_resnet" if inner else None), folder / inner
    with pytest.raises(UsageError, match=r"cc-by-nc-4\.0, which forbids commercial use") as raised:
        zoo.create(name, weights=weights)
    assert raised.value.field == "weights"
    made = zoo.create(name, weights=weights, allow_noncommercial=True)
    assert made.licence == "cc-by-nc-4.0"


def test_a_file_stays_under_the_licence_in_timms_config_beside_it(tmp_path):
    folder = earlier_run(tmp_path / "model", untrained("test_resnet"))
    (folder / FILES[1]).unlink()
    config = {"architecture": "test_resnet", "license": "cc-by-nc-4.0", "input_size": [3, 64, 64]}
    config |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    write_json(folder / "config.json", {"architecture": "test_resnet", "pretrained_cfg": config})
    with pytest.raises(UsageError, match=r"cc-by-nc-4\.0, which forbids commercial use"):
        zoo.create("timm:test_resnet", weights=folder / FILES[0])
    made = zoo.create("timm:test_resnet", weights=folder / FILES[0], allow_noncommercial=True)
    assert made.licence == "cc-by-nc-4.0"


TRUNK = "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"


def test_an_earlier_runs_network_keeps_the_form_it_was_trained_in(tmp_path):
    """From scratch its batch norms learn; under the same name, COCO's weights freeze them."""
    first = zoo.create(TRUNK, random=3, size=64)
    shake(first.network)
    folder = earlier_run(tmp_path / "model", first, "headstart_head")
    second = zoo.create(weights=folder)
    assert second.architecture == first.architecture
    assert norms(second) == norms(first) > 0
    assert norms(zoo.outline(TRUNK, size=64)) == 0
    x = images(first)
    with torch.no_grad():
        assert torch.equal(second.chain()(x), first.chain()(x))
    larger = zoo.create(weights=folder, size=96)
    assert norms(larger) == norms(first)
    assert larger.input_spec.height == 96


def norms(backbone: Backbone) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in backbone.network.modules())


def test_an_alias_of_an_earlier_runs_network_is_that_network(tmp_path):
    first = zoo.create("bundled:efficientnet_lite0", random=3, size=64)
    folder = earlier_run(tmp_path / "model", first, "classifier")
    second = zoo.create("timm:tf_efficientnet_lite0", weights=folder)
    assert second.full_name == "bundled:efficientnet_lite0"
    assert second.digest() == first.digest()


@pytest.mark.parametrize(
    "changes", [{"num_classes": -1}, {"arguments": None}, {"architecture": "test_vit"}]
)
def test_an_earlier_runs_description_is_checked(tmp_path, changes):
    folder = earlier_run(tmp_path / "model", untrained("test_resnet"))
    document = read_json(folder / FILES[1])
    write_json(folder / FILES[1], document | {"architecture": document["architecture"] | changes})
    digests = {name: file_digest(folder / name) for name in FILES}
    write_json(folder / "MANIFEST.json", {"format": 1, "files": digests})
    with pytest.raises(ModelError):
        zoo.create(weights=folder)


def test_another_zoos_network_of_the_same_name_is_refused(tmp_path):
    folder = earlier_run(tmp_path / "model", zoo.outline("timm:resnet18", size=64))
    with pytest.raises(UsageError, match="not on torchvision:resnet18"):
        zoo.create("torchvision:resnet18", weights=folder)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ModelError, match="without a finished classifier"):
        zoo.create("timm:test_resnet", weights=tmp_path)


# --- a part of the weights -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["timm:test_resnet", "bundled:small_cnn", "torchvision:squeezenet1_1"]
)
def test_a_part_of_the_weights_is_taken_where_that_is_allowed(name, tmp_path):
    first = zoo.create(name, random=0, size=64)
    state = first.network.state_dict()
    kept = {key: tensor.contiguous() for key, tensor in list(state.items())[:3]}
    save_file(kept, tmp_path / "part.safetensors")
    with pytest.raises(ModelError, match=f"3 of its {len(state)} tensors are there") as raised:
        zoo.create(name, weights=tmp_path / "part.safetensors", size=64)
    assert "--allow-partial" in raised.value.hint
    second = zoo.create(name, weights=tmp_path / "part.safetensors", size=64, allow_partial=True)
    assert f"3 of {len(state)} tensors matched" in second.weights
    assert any("Only a part of the network is pre-trained" in note for note in second.notes)
    own = second.network.state_dict()
    assert all(torch.equal(own[key], tensor) for key, tensor in kept.items())
