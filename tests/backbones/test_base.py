from __future__ import annotations

import pytest
import torch
from torch import nn

from headstart.backbones.base import Backbone, Block, layers
from headstart.inputspec import InputSpec
from networks import images, untrained


def backbone(network: nn.Module, blocks: list[Block]) -> Backbone:
    spec = InputSpec(8, 8, (0, 0, 0), (255, 255, 255))
    return Backbone("zoo", "net", network, tuple(blocks), spec, 4, None, {}, None, "random")


@pytest.fixture
def simple() -> Backbone:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1))
    return backbone(
        network,
        [
            Block("conv", "stem", 1, network[0], ("0.weight", "0.bias")),
            Block("norm", "last", 1, network[1], ("1.weight", "1.bias")),
            Block("pool", "pool", 0, nn.Sequential(network[2], nn.Flatten()), ()),
        ],
    )


def test_stages_are_those_with_parameters_in_order(simple):
    assert simple.stages == ("stem", "last")


def test_the_full_name_is_what_the_zoo_takes(simple):
    assert simple.full_name == "zoo:net"


def test_the_chain_shares_the_networks_parameters(simple):
    assert {id(p) for p in simple.chain().parameters()} == {
        id(p) for p in simple.network.parameters()
    }


def test_the_digest_is_of_values_not_of_layout_or_mode():
    first = untrained("test_resnet", 64)
    before = first.digest()
    chain = first.chain().to(memory_format=torch.channels_last).train()
    assert first.digest() == before
    first.network.requires_grad_(False)
    assert first.digest() == before
    chain(images(first))  # batch norm learns
    assert first.digest() != before


def test_the_digest_of_a_prefix_ignores_what_comes_after(simple):
    before = [simple.digest(cut) for cut in range(4)]
    with torch.no_grad():
        simple.network[1].running_mean += 1
    after = [simple.digest(cut) for cut in range(4)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False, False]
    assert before[3] == before[2]  # pooling holds no tensors
    assert len(set(before)) == 3


def test_the_digest_knows_names_types_and_shapes():
    def digest(name: str, tensor: torch.Tensor) -> str:
        network = nn.Module()
        network.register_buffer(name, tensor)
        return backbone(network, [Block("all", "all", 0, network, ())]).digest()

    zeros = torch.zeros(4)
    different = [
        digest("a", zeros),
        digest("b", zeros),
        digest("a", zeros.reshape(2, 2)),
        digest("a", zeros.to(torch.int32)),
        digest("a", torch.zeros(4, dtype=torch.bfloat16)),
        digest("a", torch.tensor(0.0)),
    ]
    assert len(set(different)) == len(different)
    assert digest("a", zeros) == digest("a", zeros.clone())


def test_layers_are_leaves_and_what_has_parameters_of_its_own():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.inner = nn.ReLU()

    parts = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Identity(), nn.Sequential(nn.MaxPool2d(2)), Scaled()]
    found = list(layers(nn.Sequential(*parts)))
    assert found == [parts[0], parts[1], parts[3][0], parts[4], parts[4].inner]
