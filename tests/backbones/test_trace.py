from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from headstart.backbones.trace import Untraceable, trace, training_mode


class Forward(nn.Module):
    """A module with one child, whose forward is the function it is given."""

    def __init__(self, function, **buffers):
        super().__init__()
        self.child = nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_buffer("offset", torch.ones(4))
        self.register_buffer("table", torch.arange(4.0), persistent=False)
        self.function = function

    def forward(self, x):
        return self.function(self, x)


def targets(graph) -> list:
    return [node.target for node in graph.nodes if node.op not in ("placeholder", "output")]


def test_children_are_leaves_and_parameters_are_named():
    graph, constants = trace(Forward(lambda m, x: m.child(x) * m.scale))
    assert {"child", "scale"} <= set(targets(graph))
    assert constants == {}


def test_tracing_changes_nothing_and_draws_no_random_numbers():
    module = Forward(lambda m, x: F.dropout(m.child(x), 0.5, m.training)).train()
    state, random = dict(vars(module)), torch.get_rng_state()
    trace(module)
    assert vars(module) == state
    assert torch.equal(torch.get_rng_state(), random)


def test_optional_arguments_keep_their_defaults():
    class Optional(nn.Module):
        def forward(self, x, mask=None, scale: float = 2.0):
            return x * scale if mask is None else x * mask

    graph, _ = trace(Optional())
    assert [node.op for node in graph.nodes if node.op == "placeholder"] == ["placeholder"]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: F.dropout(x, 0.5, m.training),
        lambda m, x: F.dropout(x, p=0.5, training=m.training),
        lambda m, x: F.batch_norm(x, m.offset, m.offset, training=m.training),
    ],
)
def test_the_training_flag_is_not_frozen_into_a_call(function):
    graph, _ = trace(Forward(function))
    assert "training" in targets(graph)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: m.child(x) if m.training else x,
        lambda m, x: x * (2 if m.training else 1),
        lambda m, x: F.dropout(x, 0.5, not m.training),
        lambda m, x: x if x.sum() > 0 else -x,
        lambda m, x: x * torch.ones(4),
    ],
)
def test_a_forward_that_would_change_its_meaning_is_not_traced(function):
    with pytest.raises(Untraceable):
        trace(Forward(function))


def test_with_a_sample_sizes_are_numbers_and_the_batch_is_not():
    def function(module, x):
        length, width = x.shape
        if width != 4:
            raise AssertionError
        return module.child(x).reshape(length, width // 2, 2)

    module = Forward(function)
    with pytest.raises(Untraceable):
        trace(module)
    graph, _ = trace(module, torch.ones(2, 4))
    traced = torch.fx.GraphModule(module, graph)
    assert traced(torch.ones(7, 4)).shape == (7, 2, 2)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: x if x.shape[0] > 1 else -x,
        lambda m, x: x if x.shape[0] // 2 == 1 else -x,
        lambda m, x: x if len(x) == 2 else -x,
    ],
)
def test_with_a_sample_nothing_may_hang_on_the_length_of_the_batch(function):
    with pytest.raises(Untraceable):
        trace(Forward(function), torch.ones(2, 4))


def test_with_a_sample_a_table_of_sizes_is_a_constant():
    module = Forward(lambda m, x: m.child(x) + m.table * x.shape[1])
    graph, constants = trace(module, torch.ones(2, 4))
    assert [constant.tolist() for constant in constants.values()] == [[0, 4, 8, 12]]
    assert set(constants) <= set(targets(graph))


def test_with_a_sample_what_is_saved_is_still_computed_with():
    module = Forward(lambda m, x: m.child(x) + m.offset * x.shape[1] + m.scale * x.shape[1])
    graph, constants = trace(module, torch.ones(2, 4))
    assert constants == {}
    assert {"offset", "scale"} <= set(targets(graph))


def test_a_table_with_chance_in_it_is_not_traced():
    module = Forward(lambda m, x: x + m.table * torch.rand(4))
    with pytest.raises(Untraceable):
        trace(module, torch.ones(2, 4))


def test_the_mode_of_each_module_comes_back():
    network = nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.Linear(1, 1).eval())).train()
    network[1].training = False
    before = [module.training for module in network.modules()]
    with training_mode(network, training=False):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == before


def test_what_a_module_remembers_in_inference_is_forgotten():
    class Remembering(nn.Module):
        def train(self, mode=True):
            self.table = None
            return super().train(mode)

    network = nn.Sequential(Remembering().eval())
    with training_mode(network, training=False):
        network[0].table = torch.ones(1)
    assert network[0].table is None
    assert not network[0].training
