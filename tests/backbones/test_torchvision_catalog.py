from __future__ import annotations

import math

import pytest
import torch

from headstart.backbones.torchvision_catalog import entries, entry, is_trunk, listings, names
from headstart.errors import UnknownName


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


def test_all_classification_networks_and_trunks_are_named_once():
    from torchvision import models

    assert set(models.list_models(module=models)) < set(names())
    assert len(set(names())) == len(names()) > 90
    trunks = [name for name in names() if is_trunk(name)]
    assert names()[-len(trunks) :] == trunks
    assert {"fasterrcnn_resnet50_fpn", "deeplabv3_resnet50", "ssd300_vgg16"} < set(trunks)
    assert not is_trunk("resnet50")


def test_a_name_without_a_tag_has_torchvisions_default_weights():
    assert entry("resnet50").name == "resnet50@IMAGENET1K_V2"
    assert entry("resnet50@IMAGENET1K_V1").name == "resnet50@IMAGENET1K_V1"
    assert entry("resnet50@IMAGENET1K_V1").url != entry("resnet50").url
    from torchvision.models import get_model_weights

    for name in names():
        assert entry(name).tag == get_model_weights(name).DEFAULT.name


def test_unknown_networks_and_weights_are_told_the_known_ones():
    with pytest.raises(UnknownName, match="torchvision network named 'resnet51'") as caught:
        entry("resnet51")
    assert "resnet50" in caught.value.hint
    with pytest.raises(UnknownName, match=r"torchvision:resnet50 named 'V3'") as caught:
        entry("resnet50@V3")
    assert "IMAGENET1K_V1, IMAGENET1K_V2" in caught.value.hint
    with pytest.raises(UnknownName):
        entry("resnet50@")  # a tag of no name


@pytest.mark.parametrize(
    "name", ["quantized.resnet50", "quantized_resnet50", "r3d_18", "raft_small"]
)
def test_networks_for_other_tasks_or_numbers_are_none(name):
    with pytest.raises(UnknownName):
        entry(name)


def test_weights_that_leave_layers_undefined_are_none():
    assert [each.tag for each in entries("vgg16")] == ["IMAGENET1K_V1"]


@pytest.mark.parametrize(
    ("name", "side", "scaled", "interpolation"),
    [
        ("resnet50", 224, 232, "bilinear"),
        ("resnet50@IMAGENET1K_V1", 224, 256, "bilinear"),
        ("inception_v3", 299, 342, "bilinear"),
        ("efficientnet_b4", 380, 384, "bicubic"),
        ("efficientnet_b5", 456, 456, "bicubic"),
        ("efficientnet_b6", 528, 528, "bicubic"),
        ("efficientnet_b7", 600, 600, "bicubic"),
    ],
)
def test_images_are_scaled_and_cut_as_torchvision_does(name, side, scaled, interpolation):
    spec = entry(name).input_spec
    assert (spec.height, spec.width, spec.resize) == (side, side, "crop")
    assert math.floor(side / spec.crop_fraction) == scaled
    assert spec.interpolation == interpolation
    assert spec.mean == pytest.approx((123.675, 116.28, 103.53))
    assert spec.std == pytest.approx((58.395, 57.12, 57.375))


def test_weights_of_other_mean_and_std_say_so():
    spec = entry("efficientnet_v2_l").input_spec
    assert spec.mean == spec.std == (127.5, 127.5, 127.5)


@pytest.mark.slow
def test_trunks_are_given_the_pixels_that_their_networks_are():
    """Detection networks normalise inside; those for segmentation have transforms that do."""
    from torchvision import models

    for name in filter(is_trunk, names()):
        spec = entry(name).input_spec
        assert spec.height == spec.width == 224
        if name in models.list_models(module=models.segmentation):
            inside = models.get_model_weights(name).DEFAULT.transforms()
            mean, std = inside.mean, inside.std
        else:
            network = models.get_model(name, weights=None, weights_backbone=None)
            mean, std = network.transform.image_mean, network.transform.image_std
        assert spec.mean == pytest.approx([255 * value for value in mean]), name
        assert spec.std == pytest.approx([255 * value for value in std]), name


def test_every_network_is_listed_with_all_its_weights():
    lines = {line.name: line for line in listings()}
    assert {name.partition("@")[0] for name in lines} == {f"torchvision:{name}" for name in names()}
    assert len(lines) == len(listings()) > 120
    line = lines["torchvision:resnet50@IMAGENET1K_V2"]
    assert (line.zoo, line.parameters, line.input, line.top1) == (
        "torchvision",
        25557032,
        224,
        0.80858,
    )
    assert line.licence is None  # of these weights torchvision says nothing
    assert not any(line.cached for line in lines.values())
    names_in_order = list(lines)
    first = names_in_order.index("torchvision:resnet50@IMAGENET1K_V2")
    assert names_in_order[first + 1] == "torchvision:resnet50@IMAGENET1K_V1"


def test_accuracy_is_a_share_and_only_of_what_classifies():
    for line in listings():
        trunk = is_trunk(line.name.removeprefix("torchvision:").partition("@")[0])
        assert (line.top1 is None) == trunk
        assert trunk or 0.5 < line.top1 < 0.9


def test_the_licence_that_forbids_commercial_use_is_told():
    licences = {line.name: line.licence for line in listings() if line.licence is not None}
    assert set(licences.values()) == {"cc-by-nc-4.0"}
    assert all("SWAG" in name for name in licences)
    assert sum("SWAG" in line.name for line in listings()) == len(licences) > 5


def test_the_registry_is_looked_through_once(monkeypatch):
    known = names()
    monkeypatch.setattr("torchvision.models.list_models", None)
    assert names() == known
    assert is_trunk("fcn_resnet50")
    names().clear()
    assert names() == known


def test_what_lies_in_torch_hubs_cache_is_told(cache):
    cache.mkdir()
    (cache / "resnet18-f37072fd.pth").touch()
    assert [line.name for line in listings() if line.cached] == [
        "torchvision:resnet18@IMAGENET1K_V1"
    ]
