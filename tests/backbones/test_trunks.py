from __future__ import annotations

import pytest
import torch
from torch import nn

from headstart.backbones.blocks import cut
from headstart.backbones.torchvision_catalog import entry
from headstart.backbones.trunks import (
    Trunk,
    arguments_of,
    classifier_of,
    new_network,
    stages_of,
)
from headstart.errors import ModelError


def document(name: str, **arguments: object) -> dict[str, object]:
    return {"architecture": name, "num_classes": 1000, "arguments": arguments}


def test_the_seed_decides_the_numbers_and_no_global_one_is_drawn():
    before = torch.get_rng_state()
    first, again, other = (new_network(document("squeezenet1_1"), seed=s) for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    weights = [network.get_parameter("features.0.weight") for network in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_auxiliary_classifiers_are_left_away_and_the_input_converted():
    for name in ("googlenet", "inception_v3"):
        network = new_network(document(name))
        assert network.transform_input
        assert not any("aux" in key.lower() for key in network.state_dict())


def test_weights_without_a_version_fit_mnasnet():
    network = new_network(document("mnasnet0_5"))
    network.load_state_dict({key: value + 1 for key, value in network.state_dict().items()})


def test_only_few_networks_are_told_their_size_or_their_statistics():
    assert arguments_of("resnet50", "IMAGENET1K_V2", 96) == {}
    assert arguments_of("vit_b_16", "IMAGENET1K_V1", 96) == {"image_size": 96}
    assert arguments_of("maxvit_t", "IMAGENET1K_V1", 448) == {"input_size": [448, 448]}
    assert arguments_of("fasterrcnn_resnet50_fpn", "COCO_V1", 96) == {"frozen_epsilon": 0.0}
    assert arguments_of("fcos_resnet50_fpn", "COCO_V1", 96) == {"frozen_epsilon": 1e-5}
    assert arguments_of("keypointrcnn_resnet50_fpn", "COCO_V1", 96) == {"frozen_epsilon": 0.0}
    older = arguments_of("keypointrcnn_resnet50_fpn", "COCO_LEGACY", 96)
    assert older == {"frozen_epsilon": 1e-5}
    assert arguments_of("fcos_resnet50_fpn", "COCO_V1", 96, random=True) == {}


@pytest.mark.parametrize(("name", "side"), [("vit_b_32", 100), ("maxvit_t", 100)])
def test_a_size_a_network_can_t_be_made_for_is_named(name, side):
    arguments = arguments_of(name, "IMAGENET1K_V1", side)
    with pytest.raises(ModelError, match=f"{name} can't take images of 100 x 100") as caught:
        new_network(document(name, **arguments))
    assert caught.value.field == "size"
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        document("resnet18", weights="IMAGENET1K_V1"),
        document("resnet18", image_size=64),
        document("vit_b_32", image_size="64"),
        document("maxvit_t", input_size=[224]),
        document("fcn_resnet50", image_size=64),
        document("fcos_resnet50_fpn", frozen_epsilon=0.5),
        document("no_such_network"),
        document("quantized_resnet18"),
        {"architecture": "resnet18", "num_classes": "many", "arguments": {}},
        {"architecture": "resnet18", "num_classes": 1000},
        {"architecture": "resnet18", "num_classes": 1000, "arguments": None},
        {"architecture": ["resnet18"], "num_classes": 1000, "arguments": {}},
    ],
)
def test_a_description_that_headstart_did_not_write_is_refused(wrong):
    with pytest.raises(ModelError):
        new_network(wrong)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "fc"),
        ("squeezenet1_1", "classifier.1"),
        ("densenet121", "classifier"),
        ("mobilenet_v3_small", "classifier.3"),
        ("googlenet", "fc"),
        ("mnasnet0_5", "classifier.1"),
        ("shufflenet_v2_x0_5", "fc"),
    ],
)
def test_the_classifier_is_the_last_layer(name, layer):
    network = new_network(document(name))
    assert classifier_of(network) == layer
    assert len(network.get_submodule(layer).weight) == 1000


def test_a_trunk_has_the_names_and_the_statistics_of_its_network():
    frozen = new_network(document("fasterrcnn_resnet50_fpn", frozen_epsilon=0.0))
    assert isinstance(frozen, Trunk)
    assert classifier_of(frozen) is None
    assert "backbone.body.layer4.2.bn3.running_var" in frozen.state_dict()
    assert not any("bn" in name for name, _ in frozen.named_parameters())
    assert frozen.get_submodule("backbone.body.bn1").eps == 0.0
    free = new_network(document("fasterrcnn_resnet50_fpn"))
    assert isinstance(free.get_submodule("backbone.body.bn1"), nn.BatchNorm2d)
    assert all(parameter.requires_grad for parameter in free.parameters())
    assert "backbone.layer4.2.bn3.weight" in new_network(document("fcn_resnet50")).state_dict()


def small_vit() -> nn.Module:
    """A vision transformer as torchvision's, which has none this small."""
    from torchvision.models import VisionTransformer

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = VisionTransformer(32, 16, 3, 4, 32, 64)
    network.heads = nn.Identity()
    return network.eval()


def stages(name: str, network: nn.Module, side: int = 64) -> list[str]:
    classifier = classifier_of(network)
    if classifier is not None and "heads" not in classifier and name != "vit":
        network.set_submodule(classifier, nn.Identity())
    blocks = cut(network.eval(), (side, side), stages_of(name, network)).blocks
    return list(dict.fromkeys(block.stage for block in blocks if block.parameters))


def test_each_block_of_a_vision_transformer_is_a_stage():
    network = small_vit()
    numbers = stages_of("vit", network)
    assert numbers["class_token"] == numbers["encoder.pos_embedding"] == 0
    assert numbers["encoder.ln.weight"] == max(numbers.values()) == 3
    assert stages("vit", network, 32) == ["stem"] + [
        f"encoder.layers.encoder_layer_{index}" for index in range(3)
    ]


@pytest.mark.parametrize(
    ("name", "first", "last", "count"),
    [
        ("resnet18", "stem", "layer4", 5),
        ("mobilenet_v3_small", "features.0", "features.12", 13),
        ("densenet121", "features.conv0", "features.denseblock4", 8),
        ("shufflenet_v2_x0_5", "conv1", "stage4", 4),
        ("squeezenet1_1", "features.0", "features.12", 9),
        ("regnet_y_400mf", "stem", "trunk_output.block4", 5),
        ("mnasnet0_5", "layers.0", "layers.14", 10),
        pytest.param(
            *("ssd300_vgg16", "backbone.features.0", "backbone.extra.0.7", 6),
            marks=pytest.mark.slow,
        ),
        ("fcn_resnet50", "backbone.conv1", "backbone.layer4", 5),
        ("fasterrcnn_resnet50_fpn", "backbone.body.conv1", "backbone.body.layer4", 5),
        ("ssdlite320_mobilenet_v3_large", "backbone.features.0.0", "backbone.features.1.3", 18),
    ],
)
def test_stages_are_what_people_call_them(name, first, last, count):
    found = stages(name, new_network(document(name)))
    assert (found[0], found[-1], len(found)) == (first, last, count)


def test_vggs_stages_lie_between_its_poolings():
    with torch.device("meta"):
        from torchvision.models import vgg16

        network = vgg16()
    numbers = stages_of("vgg16", network)
    groups = {n: [k for k, v in numbers.items() if v == n and "weight" in k] for n in range(7)}
    assert [len(groups[n]) for n in range(7)] == [2, 2, 3, 3, 3, 0, 3]
    assert groups[6][0] == "classifier.0.weight"


def test_every_entry_has_the_parameters_that_are_listed():
    for name in ("resnet18", "squeezenet1_1", "mnasnet0_5"):
        network = new_network(document(name))
        assert sum(p.numel() for p in network.parameters()) == entry(name).parameters
