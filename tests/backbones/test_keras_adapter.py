from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from headstart.backbones.keras_adapter import Graph, Operation, Step, Value, wrap
from headstart.backbones.keras_backend import building, load_keras
from headstart.training.device import InferencePath, autocast
from headstart.training.model import _kinds
from headstart.training.precision import depthwise_in_fp32


@pytest.fixture(scope="module")
def keras():
    return load_keras("a test")


@pytest.fixture
def made(keras):
    """Make a layer for inputs of a shape, and its module."""

    def make(layer, *shape):
        with building(keras, seed=1):
            layer.build((None, *shape))
        return layer, wrap(layer)

    return make


def test_a_layer_computes_what_keras_computes(keras, made):
    layer, module = made(keras.layers.Conv2D(4, 3, strides=2, padding="same"), 9, 9, 3)
    x = torch.randn(2, 9, 9, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), keras.device("cpu"):
        assert torch.equal(module(x), layer(x))
    assert [n for n, _ in module.named_parameters()] == ["kernel", "bias"]


def test_statistics_are_buffers_and_no_parameters(keras, made):
    _, module = made(keras.layers.BatchNormalization(), 4, 4, 3)
    assert [n for n, _ in module.named_parameters()] == ["gamma", "beta"]
    assert [n for n, _ in module.named_buffers()] == ["moving_mean", "moving_variance"]
    assert set(_kinds(module).values()) == {"norm"}
    _, dense = made(keras.layers.Dense(2), 3)
    assert list(_kinds(dense).values()) == ["weight", "bias"]


def test_statistics_follow_batches_in_training_mode_only(keras, made):
    _, module = made(keras.layers.BatchNormalization(momentum=0.9), 4, 4, 3)
    x = 5 + 2 * torch.randn(8, 4, 4, 3, generator=torch.Generator().manual_seed(0))
    module.eval()(x)
    assert not module.moving_mean.any()
    module.train()(x)
    expected = 0.1 * x.mean((0, 1, 2))
    torch.testing.assert_close(module.moving_mean, expected)
    assert not module.moving_mean.requires_grad
    before = module.moving_variance.clone()
    module.eval()(x)
    assert torch.equal(module.moving_variance, before)


def test_copies_share_nothing_that_changes(keras, made):
    _, module = made(keras.layers.BatchNormalization(), 4, 4, 3)
    other = copy.deepcopy(module)
    other.train()(torch.randn(8, 4, 4, 3))
    with torch.no_grad():
        other.gamma += 1
    assert not module.moving_mean.any()
    assert (module.gamma == 1).all()
    assert other.moving_mean.any()


def test_dropout_draws_from_torchs_generator(keras, made):
    _, module = made(keras.layers.Dropout(0.5), 100)
    x = torch.ones(2, 100)
    torch.manual_seed(0)
    first = module.train()(x)
    torch.manual_seed(0)
    assert torch.equal(module(x), first)
    assert set(first.unique().tolist()) == {0.0, 2.0}
    assert module.eval()(x) is x


def test_dropout_of_whole_images_drops_whole_images(keras, made):
    _, module = made(keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 1)), 2, 2, 3)
    torch.manual_seed(0)
    rows = module.train()(torch.ones(40, 2, 2, 3)).flatten(1)
    assert all(len(row.unique()) == 1 for row in rows)
    assert set(rows[:, 0].tolist()) == {0.0, 2.0}


def test_normalisation_uses_the_numbers_it_has_now(keras, made):
    _, module = made(keras.layers.Normalization(axis=-1), 2, 2, 3)
    module.load_state_dict(
        {"mean": torch.full((3,), 5.0), "variance": torch.full((3,), 4.0), "count": module.count}
    )
    assert torch.equal(module(torch.full((1, 2, 2, 3), 9.0)), torch.full((1, 2, 2, 3), 2.0))
    assert not list(module.parameters())


def test_it_runs_where_its_input_is(keras, made):
    _, module = made(keras.layers.BatchNormalization(), 4, 4, 3)
    with keras.device("meta"):  # as Keras would choose a GPU
        assert module(torch.ones(1, 4, 4, 3)).device == torch.device("cpu")
    assert module.to("meta")(torch.ones(1, 4, 4, 3, device="meta")).device.type == "meta"


def test_stored_numbers_are_kerass(keras, made):
    layer, module = made(keras.layers.Dense(2), 3)
    module.kernel = nn.Parameter(torch.ones(3, 2))
    module.store()
    assert (layer.kernel.value == 1).all()


def test_depthwise_convolutions_say_so_and_run_in_fp32_where_bf16_is_slow(keras, made):
    path = InferencePath("cpu", "bf16", "channels_last", 8)
    for layer, depthwise in (
        (keras.layers.DepthwiseConv2D(3, padding="same"), True),
        (keras.layers.SeparableConv2D(4, 3), True),
        (keras.layers.Conv2D(4, 3, use_bias=False), False),  # a bias would be in fp32
    ):
        _, module = made(layer, 9, 9, 3)
        x = torch.randn(2, 9, 9, 3, generator=torch.Generator().manual_seed(0)).bfloat16()
        assert module.is_depthwise is depthwise
        with depthwise_in_fp32(path, module), autocast(path):
            result = module(x)
        assert result.dtype == (torch.float32 if depthwise else torch.bfloat16)
        if depthwise:
            assert torch.equal(result, module(x.float()))
            result.sum().backward()
            assert {p.grad.dtype for p in module.parameters()} == {torch.float32}


def test_a_graph_takes_and_gives_channels_first(keras, made):
    _, norm = made(keras.layers.BatchNormalization(), 4, 6, 3)
    layer = keras.layers.Add()
    layer.build([(None, 4, 6, 3)] * 2)
    add = wrap(layer)
    steps = [
        Step("norm", norm, 1, (Value(0),), {}, 4, 24),
        Step("add", add, 2, ([Value(0), Value(1)],), {}, 4, 24),
    ]
    assert steps[1].inputs() == {0, 1}
    graph = Graph(steps, 0, 2).eval()
    x = torch.randn(2, 3, 4, 6)
    result = graph(x)
    assert result.shape == x.shape
    torch.testing.assert_close(result, x * (1 + 1 / (1 + 1e-3) ** 0.5))
    assert isinstance(graph.norm, Operation)
    assert "BatchNormalization" in repr(graph)
