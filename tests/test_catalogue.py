"""The list of all networks: searched by glob or part, and what a network's blocks are."""

from __future__ import annotations

import pytest
from torch import nn

from headstart import catalogue
from headstart.backbones import zoo
from headstart.errors import UnknownName, UsageError
from headstart.measuring import Measured
from headstart.training.model import Model


@pytest.fixture(scope="module")
def everything():
    return catalogue.models()


def names(pattern: str) -> set[str]:
    return {each.name for each in catalogue.models(pattern)}


def test_every_zoo_is_listed_and_no_name_twice(everything):
    assert {each.zoo for each in everything} == set(zoo.ZOOS)
    assert len({each.name for each in everything}) == len(everything)
    for each in everything:
        assert each.name.startswith(f"{each.zoo}:")
        assert each.top1 is None or 0.4 < each.top1 < 0.95
        assert each.parameters is None or each.parameters > 1000


def test_the_default_is_here_with_all_that_is_known_of_it(everything):
    (found,) = (each for each in everything if each.name == zoo.DEFAULT)
    assert found.cached
    assert (found.parameters, found.input, found.licence) == (4_652_008, 224, "Apache-2.0")
    assert found.top1 == 0.751


@pytest.mark.parametrize("pattern", ["squeezenet1_1", "SqueezeNet1_1", "torchvision:squeezenet1_1"])
def test_part_of_a_name_finds_it_whatever_the_case(pattern):
    assert names(pattern) == {"torchvision:squeezenet1_1@IMAGENET1K_V1"}


def test_a_glob_is_about_the_whole_name():
    found = names("*efficientnet*")
    assert "bundled:efficientnet_lite0" in found
    assert any(name.startswith("torchvision:efficientnet_b0") for name in found)
    assert any(name.startswith("timm:tf_efficientnet_b0") for name in found)
    assert "keras:EfficientNetB0" in found
    only = names("EFFICIENTNET_b0*")
    assert all(":efficientnet_b0" in name for name in only)
    assert names("timm:efficientnet_b0*") == {name for name in only if name.startswith("timm:")}


def test_what_nothing_is_called_suggests_what_is():
    with pytest.raises(UnknownName, match="efficentnet_lite0") as caught:
        catalogue.models("bundled:efficentnet_lite0")
    assert "bundled:efficientnet_lite0" in str(caught.value.hint)


def test_blocks_say_where_everything_is():
    found = catalogue.blocks(zoo.create("timm:resnet18", random=0, size=64))
    assert (found["feature_dim"], found["classifier"], found["input"]) == (512, "fc", [64, 64])
    assert found["stages"] == ["stem", "layer1", "layer2", "layer3", "layer4"]
    assert sum(block["parameters"] for block in found["blocks"]) == 11_176_512
    # Twenty convolutions with a batch norm each, the shortcuts' included, and a ReLU after all but
    # these three; then two poolings, and the flattening.
    assert found["layers"] == sum(block["layers"] for block in found["blocks"]) == 40 + 17 + 3
    lines = catalogue.blocks_table(found)
    assert lines[0] == "timm:resnet18.a1_in1k: 64 x 64 pixels -> 512 features"
    assert "layer4.1" in lines[-3]
    assert "4,720,640" in lines[-3]
    assert lines[-1] == "last layer: fc, taken off"


@pytest.mark.parametrize("name", ["timm:resnet18", "timm:test_vit", "torchvision:squeezenet1_1"])
def test_layers_are_those_that_a_strategy_counts(name):
    backbone = zoo.outline(name)
    found = catalogue.blocks(backbone)
    described = Model(backbone, nn.Identity()).describe()
    start = 0
    for block in found["blocks"]:
        numbers = {each.layer for each in described if each.block == block["name"]}
        assert numbers <= set(range(start, start + block["layers"]))
        start += block["layers"]
    assert start == found["layers"] > len({each.layer for each in described}) > 0


def test_a_network_without_a_linear_classifier_says_so():
    found = catalogue.blocks(zoo.create("torchvision:squeezenet1_1", random=0))
    assert found["classifier"] is None
    assert "none was taken off" in "\n".join(catalogue.blocks_table(found))


def test_names_to_measure_are_taken_as_they_are_and_patterns_searched():
    assert catalogue.chosen(["timm:resnet18"]) == ["timm:resnet18"]  # not its many weights
    one = "torchvision:resnet50@IMAGENET1K_V1"
    assert catalogue.chosen([one, one, "bundled:*lite1"]) == [one, "bundled:efficientnet_lite1"]


def test_too_many_to_measure_are_refused_and_so_is_none():
    with pytest.raises(
        UsageError, match=r"at most 20 of them, and [0-9,]+ are called so"
    ) as caught:
        catalogue.chosen(["*resnet*"])
    assert "headstart models " in str(caught.value.hint)
    with pytest.raises(UsageError, match="must know which"):
        catalogue.chosen([])
    with pytest.raises(UnknownName, match="nosuchnetwork"):
        catalogue.chosen(["timm:nosuchnetwork"])


def measured(**changes) -> Measured:
    numbers = {"peak_bytes": 812_300_000, "gpu_bytes": None, "disk_bytes": 13_600_000}
    where = {"precision": "bf16", "bf16_ms": 5.514, "fp32_ms": 9.1, "device": "cpu", "threads": 2}
    about = {"parameters": 4_652_008, "top1": 0.751, "input": (224, 224), "weights": "pretrained"}
    return Measured(name="bundled:one", **{**numbers, **where, **about, **changes})


def test_what_was_measured_is_a_table_with_its_units():
    other = {"top1": None, "bf16_ms": None, "input": (224, 160), "peak_bytes": None}
    heading, first, second, *notes = catalogue.measured_table([measured(), measured(**other)])
    assert heading.split("  ")[0] == "name"
    shown = [" ".join(line.split()) for line in (first, second)]
    assert shown == [
        "bundled:one pretrained 4.7 M 224 0.751 5.51 9.10 812 MB 14 MB",
        "bundled:one pretrained 4.7 M 224 x 160 - - 9.10 - 14 MB",
    ]
    assert "batch of 32 on cpu, 2 threads; fit tries bf16 first" in notes[0]
    assert not [note for note in notes if "GPU" in note]
    *_, gpu, _ = catalogue.measured_table([measured(device="cuda", gpu_bytes=2 * 10**9)])
    assert gpu == "memory of the GPU: at most 2,000 MB."
