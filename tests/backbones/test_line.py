from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from headstart.backbones.line import pieces
from headstart.backbones.trace import Untraceable


class Vit(nn.Module):
    """The shape of a vision transformer: a token, positions, blocks, a table they share."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.positions = nn.Parameter(torch.randn(1, 7, 4))
        self.embed = nn.Linear(3, 4)
        self.tables = nn.Module()
        self.tables.register_buffer("angles", torch.randn(7, 4), persistent=False)
        self.blocks = nn.ModuleList(Turn() for _ in range(3))
        self.norm = nn.LayerNorm(4)

    def forward(self, x):
        x = self.embed(x)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x, self.tables.angles)
        return self.norm(x)[:, 0]


class Turn(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4))

    def forward(self, x, angles):
        return x + self.weight * x * angles


class Once(nn.Module):
    def __init__(self, function, **children):
        super().__init__()
        self.function = function
        for name, child in children.items():
            setattr(self, name, child)

    def forward(self, x):
        return self.function(self, x)


def run(line, x):
    for piece in line:
        x = piece.module(x)
    return x


def test_a_chain_of_children_is_those_children():
    network = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Sequential(nn.Linear(3, 4)))
    line = pieces(network, "net")
    assert [piece.name for piece in line] == ["net.0", "net.1", "net.2"]
    assert [piece.module for piece in line] == list(network)
    assert all(piece.whole for piece in line)


def test_a_residual_is_one_piece_that_shares_its_children():
    network = Once(lambda m, x: m.b(x + m.a(x)), a=nn.Linear(2, 2), b=nn.Linear(2, 3))
    first, second = pieces(network)
    assert (first.name, first.whole, second.name, second.whole) == ("a", False, "b", True)
    assert first.module.a is network.a


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_the_pieces_in_a_row_are_the_network_for_any_batch(batch):
    network = Vit()
    x = torch.randn(batch, 6, 3)
    line = pieces(network)
    assert len(line) == 8
    assert torch.equal(run(line, x), network(x))


def test_a_saved_tensor_is_in_one_piece_and_a_table_in_each_that_reads_it():
    network = Vit()
    line = pieces(network)
    for parameter in network.parameters():
        held = [any(parameter is own for own in piece.module.parameters()) for piece in line]
        assert sum(held) == 1
    reading = [piece.name for piece in line if dict(piece.module.named_buffers())]
    assert reading == ["blocks.0", "blocks.1", "blocks.2"]


def test_what_happens_to_the_network_happens_to_its_pieces():
    network = Vit()
    line = pieces(network)
    x = torch.randn(2, 6, 3).double()
    assert torch.equal(run(line, x.float()), network(x.float()))
    network.double()
    network.load_state_dict({name: 2 * value for name, value in network.state_dict().items()})
    assert torch.equal(run(line, x), network(x))


def test_pieces_and_network_can_be_copied_together():
    network, line = copy.deepcopy((net := Vit(), pieces(net)))
    with torch.no_grad():
        network.token += 1
    x = torch.randn(2, 6, 3)
    assert torch.equal(run(line, x), network(x))


def test_each_piece_follows_its_own_mode():
    network = Once(lambda m, x: m.b(F.dropout(m.a(x), 0.5, m.training)), a=nn.ReLU(), b=nn.ReLU())
    _, dropout, _ = (piece.module for piece in pieces(network.eval()))
    ones = torch.ones(1000)
    assert torch.equal(dropout(ones), ones)
    assert (dropout.train()(ones) == 0).any()
    assert torch.equal(dropout.eval()(ones), ones)


def test_pieces_are_born_in_the_mode_of_their_network():
    network = Once(lambda m, x: m.a(x) + x, a=nn.ReLU())
    for training in (True, False):
        (piece,) = pieces(network.train(training))
        assert piece.module.training is training


def test_a_saved_tensor_used_twice_ties_what_is_between():
    network = Once(
        lambda m, x: m.c(m.b(m.a(x) * m.scale) * m.scale), a=nn.ReLU(), b=nn.ReLU(), c=nn.ReLU()
    )
    network.scale = nn.Parameter(torch.ones(2))
    assert [piece.name for piece in pieces(network)] == ["a", "b", "c"]
    assert [piece.whole for piece in pieces(network)] == [True, False, True]


def test_what_a_module_makes_of_a_table_is_made_once():
    """Its weights have one place, and its dropout draws once, as in the network."""

    def function(module, x):
        bias = module.bias(module.tables.angles)
        return module.b(module.a(x) + bias) + F.dropout(bias, 0.5, module.training)

    network = Once(function, a=nn.ReLU(), b=nn.ReLU())
    network.bias = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5))
    network.tables = nn.Module()
    network.tables.register_buffer("angles", torch.ones(4), persistent=False)
    line = pieces(network.train())
    assert [piece.name for piece in line] == ["a", "bias"]
    torch.manual_seed(0)
    expected = network(torch.ones(2, 4))
    torch.manual_seed(0)
    assert torch.equal(run(line, torch.ones(2, 4)), expected)


def test_a_module_that_owns_a_buffer_it_reads_is_not_cut():
    network = Once(lambda m, x: m.a(x) + m.offset, a=nn.ReLU())
    network.register_buffer("offset", torch.ones(2))
    with pytest.raises(Untraceable, match="offset"):
        pieces(network)


def test_calls_with_more_than_the_value_are_no_whole_children():
    class Scaled(nn.Module):
        def forward(self, x, by=1):
            return x * by

    network = Once(lambda m, x: m.a(m.a2(x, by=3)), a=Scaled(), a2=Scaled())
    first, second = pieces(network)
    assert not first.whole
    assert second.whole
    assert run([first, second], torch.ones(2)).tolist() == [3, 3]


def test_sizes_that_nothing_reads_don_t_spoil_a_whole_child():
    def function(module, x):
        _batch, _width = x.shape
        return module.a(x)

    (piece,) = pieces(Once(function, a=nn.ReLU()))
    assert piece.whole


def test_tables_of_one_size_move_with_the_piece():
    network = Once(lambda m, x: m.a(x) + m.tables.angles * x.shape[1], a=nn.Linear(4, 4))
    network.tables = nn.Module()
    network.tables.register_buffer("angles", torch.ones(4), persistent=False)
    x = torch.randn(2, 4)
    line = pieces(network, sample=x)
    assert torch.equal(run(line, x), network(x))
    assert all("_constant0" not in piece.module.state_dict() for piece in line)
    assert run([*line], torch.randn(5, 4)).shape == (5, 4)
    moved = [piece.module.to("meta") for piece in line]
    assert all(buffer.is_meta for module in moved for buffer in module.buffers())
