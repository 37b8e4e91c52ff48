from __future__ import annotations

import pytest

from headstart.backbones import zoo
from headstart.backbones.from_keras import new_model
from headstart.backbones.keras_backend import building, load_keras
from headstart.backbones.keras_blocks import cut_graph, own_names, to_steps
from headstart.inputspec import InputSpec


def named(*kinds_and_names):
    """Stand-ins for operations: a class's name and what Keras called one of it."""
    return [type(kind, (), {"name": name})() for kind, name in kinds_and_names]


def test_layers_without_a_name_are_numbered_as_in_a_program_of_their_own():
    operations = named(
        ("Conv2D", "conv2d_97"),
        ("Conv2D", "conv2d_103"),
        ("Conv2D", "conv2d_99"),
        ("ReLU", "re_lu_4"),
        ("Conv2D", "block1_conv1"),
        ("BatchNormalization", "batch_normalization_7"),
    )
    assert own_names(operations) == [
        *("conv2d", "conv2d_2", "conv2d_1", "re_lu", "block1_conv1", "batch_normalization")
    ]


def test_a_network_has_the_same_names_however_many_were_made_before():
    first, second = (zoo.create("keras:MobileNetV3Small", size=64, random=0) for _ in range(2))
    assert list(first.network.state_dict()) == list(second.network.state_dict())
    names = [name for name, _ in first.network.named_modules()]
    assert names == [name for name, _ in second.network.named_modules()]
    assert first.digest() == second.digest()


def test_the_networks_own_name_is_left_away():
    operations = named(("Conv2D", "convnext_tiny_stem_conv"), ("Add", "add.1/x"))
    assert own_names(operations, prefix="convnext_tiny_") == ["stem_conv", "add_1_x"]


@pytest.mark.parametrize(
    ("name", "size", "stages", "blocks"),
    [
        ("MobileNetV2", 64, ["stem", "expanded_conv", "block_1", "block_16"], 19),
        ("VGG16", 32, ["block1", "block2", "block3", "block4", "block5"], 14),
        ("ResNet50", 32, ["stem", "conv2", "conv3", "conv4", "conv5"], 18),
        ("EfficientNetB0", 32, ["stem", "block1", "block7"], 19),
        ("MobileNet", 32, ["stem", "conv_1", "conv_13"], 15),
        pytest.param(
            "ConvNeXtTiny", 32, ["stem", "stage_0", "stage_3"], 18, marks=pytest.mark.slow
        ),
        pytest.param("InceptionV3", 75, ["stem", "mixed0", "mixed10"], 13, marks=pytest.mark.slow),
        ("MobileNetV3Large", 32, ["stem", "expanded_conv", "expanded_conv_14"], 18),
        pytest.param(
            *("InceptionResNetV2", 75, ["stem", "block35", "block17", "block8"], 18),
            marks=pytest.mark.slow,
        ),
        pytest.param("DenseNet121", 32, ["stem", "conv2", "conv5"], 6, marks=pytest.mark.slow),
        pytest.param("Xception", 71, ["block1", "block14"], 17, marks=pytest.mark.slow),
        pytest.param("NASNetMobile", 64, ["stem", "cells"], 3, marks=pytest.mark.slow),
    ],
)
def test_blocks_have_the_names_of_their_family(name, size, stages, blocks):
    backbone = zoo.create(f"keras:{name}", size=size, random=0)
    assert set(stages) <= set(backbone.stages)
    assert (backbone.stages[0], backbone.stages[-1]) == (stages[0], stages[-1])
    assert abs(len(backbone.blocks) - blocks) <= 1
    assert len(backbone.blocks) <= 20
    assert backbone.blocks[-1].name == "pool"
    assert backbone.notes == ()
    parameters = [name for block in backbone.blocks for name in block.parameters]
    assert parameters == [name for name, _ in backbone.network.named_parameters()]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ResNet50", 32),  # with branches of the same shapes
        ("MobileNetV3Small", 32),  # with operations that are no layers
        ("ConvNeXtTiny", 32),  # with a Sequential
        pytest.param("NASNetMobile", 32, marks=pytest.mark.slow),
        pytest.param("InceptionV3", 75, marks=pytest.mark.slow),
        pytest.param("Xception", 71, marks=pytest.mark.slow),
    ],
)
def test_weights_come_in_the_order_in_which_keras_saves_them(name, size):
    model = new_model(name, InputSpec(size, size, (0, 0, 0), (1, 1, 1)))
    ours = [v for step in to_steps(model) for v in step.module._template.variables.values()]
    theirs = [v for layer in model.layers for v in _legacy_weights(layer)]
    assert [id(v) for v in ours] == [id(v) for v in theirs]


def _legacy_weights(layer):
    from keras.src.legacy.saving import legacy_h5_format

    return legacy_h5_format._legacy_weights(layer)


def test_sequential_models_inside_are_taken_apart_and_branches_stay_together():
    keras = load_keras("a test")
    with building(keras):
        layers = keras.layers
        x = inputs = layers.Input((8, 8, 3))
        x = keras.Sequential([layers.Conv2D(4, 3, name="a"), layers.ReLU(name="b")])(x)
        y = layers.Conv2D(4, 1, name="block1_left")(x)
        x = layers.Add(name="block1_add")([x, y]) * 2.0
        x = layers.GlobalAveragePooling2D(name="gap")(x)
        steps = to_steps(keras.Model(inputs, x))
    names = [step.name for step in steps]
    assert names == ["a", "b", "block1_left", "block1_add", "multiply", "gap"]
    stem, block, pool = cut_graph(steps, (8, 8))
    assert (stem.name, stem.parameters) == ("stem", ("a.kernel", "a.bias"))
    assert (block.name, block.stride) == ("block1", 1)
    assert pool.parameters == ()
