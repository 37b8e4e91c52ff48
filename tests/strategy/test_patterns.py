from __future__ import annotations

import pytest

from headstart.strategy.patterns import HEAD, Parameter, matcher


def parameter(
    name: str, block: str, stage: str, kind: str = "weight", layer: int = -1
) -> Parameter:
    return Parameter(name, block, stage, kind, 10, layer)  # type: ignore[arg-type]


# A stage of two blocks; a stage whose name begins with another's; parameters whose names in the
# network are not their block's; a norm that lies in the pool block; and layers 2 and 6 without
# parameters, as activations are.
NETWORK = (
    parameter("conv1.weight", "stem", "conv1", layer=0),
    parameter("bn1.weight", "stem", "conv1", "norm", layer=1),
    parameter("bn1.bias", "stem", "conv1", "norm", layer=1),
    parameter("layer1.0.conv.weight", "layer1.0", "layer1", layer=3),
    parameter("layer1.0.conv.bias", "layer1.0", "layer1", "bias", layer=3),
    parameter("layer1.1.conv.weight", "layer1.1", "layer1", layer=4),
    parameter("layer10.0.conv.weight", "layer10.0", "layer10", layer=5),
    parameter("head.norm.weight", "pool", "layer10", "norm", layer=7),
    parameter("head.weight", HEAD, HEAD),
    parameter("head.bias", HEAD, HEAD, "bias"),
)
STEM = ["conv1.weight", "bn1.weight", "bn1.bias"]
LAYER1 = ["layer1.0.conv.weight", "layer1.0.conv.bias", "layer1.1.conv.weight"]
LAYER10 = ["layer10.0.conv.weight", "head.norm.weight"]
THE_HEAD = ["head.weight", "head.bias"]


def hit(pattern: str) -> list[str]:
    matches = matcher(pattern, NETWORK)
    return [parameter.name for parameter in NETWORK if matches(parameter)]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("head", THE_HEAD),
        ("stage:0", STEM),
        ("stage:1", LAYER1),
        ("stage:2", LAYER10),
        ("stage:-1", LAYER10),
        ("stage:-3", STEM),
        ("stage:0..1", STEM + LAYER1),
        ("stage:1..-1", LAYER1 + LAYER10),
        ("stage:-2..-1", LAYER1 + LAYER10),
        ("stage:-3..2", STEM + LAYER1 + LAYER10),
        ("stage:0..-1", STEM + LAYER1 + LAYER10),
        ("stage:1..1", LAYER1),
        ("layer:0", STEM[:1]),
        ("layer:1", STEM[1:]),
        ("layer:0..1", STEM),
        ("layer:0..2", STEM),
        ("layer:2..3", LAYER1[:2]),
        ("layer:3..4", LAYER1),
        ("layer:-1", ["head.norm.weight"]),
        ("layer:-3..-1", LAYER10),
        ("layer:0..7", STEM + LAYER1 + LAYER10),
        ("layer:0..-1", STEM + LAYER1 + LAYER10),
        ("@norm", ["bn1.weight", "bn1.bias", "head.norm.weight"]),
        ("@bias", ["bn1.bias", "layer1.0.conv.bias"]),
        ("stem", STEM),
        ("layer1", LAYER1),
        ("layer10", ["layer10.0.conv.weight"]),
        ("layer1.0", LAYER1[:2]),
        ("layer1.0.conv.bias", ["layer1.0.conv.bias"]),
        ("bn1", ["bn1.weight", "bn1.bias"]),
        ("pool", ["head.norm.weight"]),
        ("head.norm", ["head.norm.weight"]),
    ],
)
def test_a_pattern_hits_what_it_says(pattern, names) -> None:
    assert hit(pattern) == names


@pytest.mark.parametrize(
    "pattern",
    [
        *("stage:3", "stage:-4", "stage:0..3", "stage:-4..-1", "stage:2..1", "stage:-1..0"),
        *("stage:", "stage:a", "stage:0..", "stage:0...1", "stage:1.0", "stage: 0"),
        *("layer:8", "layer:-9", "layer:0..8", "layer:-9..0", "layer:4..3", "layer:", "layer:a"),
        *("layer:2", "layer:6"),  # they are there, and have no parameters
        *("layer", "layer1.", "layer1.0.con", "Layer1", "@weight", "@", "", "*"),
    ],
)
def test_what_no_parameter_answers_to_hits_nothing(pattern) -> None:
    assert hit(pattern) == []


@pytest.mark.parametrize("pattern", ["stage:0", "layer:0", "layer:-1", "@norm", "@bias", "stem"])
def test_without_a_backbone_only_the_head_is_hit(pattern) -> None:
    head = NETWORK[-2:]
    assert not any(map(matcher(pattern, head), head))
    assert all(map(matcher("head", head), head))


@pytest.mark.parametrize("pattern", ["@norm", "@bias", "weight", "head.weight", "head.bias"])
def test_the_head_answers_to_its_own_name_only(pattern) -> None:
    assert not set(hit(pattern)) & set(THE_HEAD)
