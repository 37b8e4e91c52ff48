"""What timm is told of a classifier: its own words, and the licence of the weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headstart.backbones import zoo
from headstart.backbones.licence import licence_beside
from headstart.backbones.preprocess import from_config
from headstart.backbones.timm_export import timm_config
from headstart.files import write_json

CLASSES = ("cat", "dog", "owl")


def test_it_says_what_timm_needs_and_reads_back_as_the_same_preprocessing():
    backbone = zoo.create("timm:resnet18", random=0, size=64)
    config = timm_config(backbone, CLASSES)
    assert config["architecture"] == "resnet18"
    assert config["num_classes"] == 3
    assert config["pretrained_cfg"]["classifier"] == "fc"
    assert config["pretrained_cfg"]["label_names"] == list(CLASSES)
    assert from_config(config["pretrained_cfg"]) == backbone.input_spec


@pytest.mark.parametrize("licence", ["cc-by-nc-4.0", None])
def test_the_licence_goes_along_where_the_file_is_copied_alone(licence, tmp_path):
    backbone = replace(zoo.create("timm:resnet18", random=0, size=64), licence=licence)
    write_json(tmp_path / "config.json", timm_config(backbone, CLASSES))
    assert licence_beside(tmp_path / "model.safetensors") == licence


@pytest.mark.parametrize("name", ["bundled:small_cnn", "torchvision:squeezenet1_1"])
def test_other_networks_are_none_of_timms(name):
    assert timm_config(zoo.create(name, random=0), CLASSES) is None
