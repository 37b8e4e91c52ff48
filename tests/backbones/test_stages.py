from __future__ import annotations

import pytest
import torch
from torch import nn

from headstart.backbones.line import Piece
from headstart.backbones.stages import Step, join, weight_matrices
from networks import untrained


def step(name: str, module: nn.Module, *shape: int) -> Step:
    parameters = tuple(f"{name}.{key}" for key, _ in module.named_parameters())
    return Step(Piece(name, module, whole=True), parameters, torch.zeros(2, *shape))


def conv() -> nn.Module:
    return nn.Conv2d(2, 2, 1, bias=False)


def runs(*names: str) -> list[list[Step]]:
    """A line of convolutions, those called ``norm`` excepted, with a pool at the end."""
    line = [
        [step(name, nn.BatchNorm2d(2) if "norm" in name else conv(), 2, 4, 4)] for name in names
    ]
    return [*line, [step("pool", nn.Flatten(), 2)]]


def table(line, groups) -> list[tuple[str, str]]:
    parameters = [name for run in line for part in run for name in part.parameters]
    numbers = {n: next(g for key, g in groups.items() if n.startswith(key)) for n in parameters}
    return [(block.name, block.stage) for block in join(line, numbers, (8, 8))]


def test_a_stage_in_one_block_lends_it_its_name():
    groups = {"a": 0, "b.0": 1, "b.1": 2}
    assert table(runs("a", "b.0.x", "b.0.y", "b.1"), groups) == [
        ("a", "a"),
        ("b.0.x", "b.0"),
        ("b.0.y", "b.0"),
        ("b.1", "b.1"),
        ("pool", "pool"),
    ]


def test_the_first_stage_is_one_block_called_stem_where_it_has_several_layers():
    groups = {"conv": 0, "other": 0, "b": 1, "c": 2}
    assert table(runs("conv", "other", "b", "c"), groups)[0] == ("stem", "stem")


def test_a_norm_belongs_to_the_block_before_it():
    groups = {"a": 0, "b.0": 1, "norm1": 1, "b.1": 2}
    found = table(runs("a", "b.0", "norm1", "b.1"), groups)
    assert [name for name, _ in found] == ["a", "b.0", "b.1", "pool"]


@pytest.mark.parametrize("last", ["head", "norm"])
def test_a_last_layer_beside_the_stages_belongs_to_the_last_stage(last):
    groups = {"a": 0, "b.0": 1, "b.1": 2, "head": 3, "norm": 3}
    found = table(runs("a", "b.0", "b.1", last), groups)
    assert {stage for _, stage in found} == {"a", "b.0", "b.1", "pool"}


def test_a_last_stage_of_one_layer_among_the_stages_is_a_stage():
    groups = {"b.0": 0, "b.1": 1, "b.2": 2}
    assert table(runs("b.0", "b.1", "b.2"), groups)[2] == ("b.2", "b.2")


def test_a_part_that_reaches_into_several_stages_makes_them_one():
    line = runs("a", "b.0", "b.1", "b.2")
    line[1:3] = [line[1] + line[2]]
    groups = {"a": 0, "b.0": 1, "b.1": 2, "b.2": 3}
    assert table(line, groups)[1] == ("b.0..b.1", "b.0..b.1")


def test_parameters_of_the_pool_belong_to_the_last_stage_or_are_one():
    groups = {"a": 0, "b.0": 1, "b.1": 2, "fc": 3}
    line = runs("a", "b.0", "b.1")
    line[-1].append(step("fc1", nn.Linear(2, 2), 2))
    assert table(line, groups)[-1] == ("pool", "b.1")
    line[-1].append(step("fc2", nn.Linear(2, 2), 2))
    assert table(line, groups)[-1] == ("pool", "fc1")


def test_strides_are_those_of_maps_of_any_layout_and_of_tokens():
    line = [
        [step("a", conv(), 5, 4, 4)],  # (C, H, W)
        [step("b", conv(), 4, 4, 5)],  # (H, W, C)
        [step("c", conv(), 5, 64)],  # (N, C): four positions and a token
        [step("pool", nn.Flatten(), 2)],
    ]
    groups = {name: index for index, name in enumerate(n for r in line for n in r[0].parameters)}
    assert [block.stride for block in join(line, groups, (16, 16))] == [4, 4, 7, 0]


def test_tokens_and_vectors_are_no_weight_matrices():
    module = nn.Module()
    module.token = nn.Parameter(torch.ones(1, 1, 8))
    module.scale = nn.Parameter(torch.ones(8, 1, 1))
    assert weight_matrices(module) == 0
    module.weight = nn.Parameter(torch.ones(8, 3, 1, 1))
    assert weight_matrices(module) == 1


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("test_resnet", "stem layer1 layer2 layer3 layer4"),
        (
            "test_vit3",
            "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4 blocks.5 blocks.6 "
            "blocks.7 blocks.8 attn_pool",
        ),
        ("test_efficientnet", "stem blocks.0 blocks.1 blocks.2 blocks.3 blocks.4"),
        ("test_convnext", "stem stages.0 stages.1 stages.2 stages.3"),
    ],
)
def test_stages_are_what_people_call_them(name, stages):
    size = None if "vit" in name else 64
    assert " ".join(untrained(name, size).stages) == stages


def test_the_fully_connected_layers_of_vgg_are_a_stage():
    """With narrow layers: VGG's own have a hundred million weights."""
    from timm.models.vgg import VGG

    from headstart.backbones.blocks import cut

    network = VGG([8, "M", 8, "M", 16, 16, "M"], num_classes=0, mlp_ratio=0.01)
    found = cut(network, (56, 56)).blocks
    assert [block.stage for block in found][-2:] == ["features", "pre_logits"]
    assert found[-1].name == "pool"
