from __future__ import annotations

import pytest
import torch
from torch import nn

from headstart.backbones import blocks
from headstart.backbones.base import Backbone, Block
from headstart.backbones.blocks import cut
from headstart.errors import ModelError
from networks import images, shake, untrained


class Net(nn.Module):
    """A stem, three stages and a pool; ``body`` runs the stages."""

    def __init__(self, body=None, pool=None):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(True))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 3, 1, 1), nn.BatchNorm2d(4), nn.ReLU(True))
            for _ in range(3)
        )
        self.pool = pool or nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.body = body

    def forward(self, x):
        x = self.stem(x)
        if self.body is not None:
            x = self.body(self, x)
        else:
            for stage in self.stages:
                x = stage(x)
        return self.pool(x)


def chained(found: tuple[Block, ...]) -> nn.Sequential:
    return nn.Sequential(*(block.module for block in found))


def names(found: tuple[Block, ...]) -> list[str]:
    return [block.name for block in found]


def assert_same(network: nn.Module, found: tuple[Block, ...], x: torch.Tensor) -> None:
    network.eval()
    assert torch.equal(chained(found).eval()(x), network(x))
    held = [name for block in found for name in block.parameters]
    assert sorted(held) == sorted(name for name, _ in network.named_parameters())
    for block in found:
        own = dict(network.named_parameters())
        assert {id(p) for p in block.module.parameters()} == {
            id(own[name]) for name in block.parameters
        }


def test_a_plain_network_is_cut_at_its_stages():
    network = Net()
    result = cut(network, (16, 16))
    assert names(result.blocks) == ["stem", "stages.0", "stages.1", "stages.2", "pool"]
    assert [block.stride for block in result.blocks] == [2, 2, 2, 2, 0]
    assert result.feature_dim == 4
    assert result.notes == ()
    assert_same(network, result.blocks, torch.randn(3, 3, 24, 20))


def test_cutting_changes_neither_network_nor_random_numbers():
    network = Net().train()
    network.stages[1].eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random = torch.get_rng_state()
    cut(network, (16, 16))
    assert torch.equal(torch.get_rng_state(), random)
    assert [module.training for module in network.modules()] == modes
    assert list(network.state_dict()) == list(state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert not any(p.grad is not None for p in network.parameters())


def shared(network, x):
    x = network.stages[0](x)
    x = network.stages[1](x)
    return network.stages[0](x)


def two_maps(network, x):
    a, b = x, x
    for stage in network.stages:
        a, b = stage(b), a
    return a + b


def windows(network, x):
    """Stages that work on the four quarters of each map, as images of their own."""
    batch, channels, height, width = x.shape
    x = x.reshape(batch, channels, 2, height // 2, 2, width // 2).permute(0, 2, 4, 1, 3, 5)
    x = x.reshape(batch * 4, channels, height // 2, width // 2)
    for stage in network.stages:
        x = stage(x)
    return x.reshape(batch, 4 * channels, height // 2, width // 2)


def as_list(network, x):
    for stage in network.stages:
        (x,) = [stage(x)]
        x = [x][0]
    return x


@pytest.mark.parametrize("body", [shared, two_maps, windows, as_list])
def test_a_cut_never_parts_what_belongs_together(body):
    network = Net(body)
    if body is shared:
        del network.stages[2]
    shake(network)
    result = cut(network, (16, 16))
    assert names(result.blocks)[-1] == "pool"
    assert_same(network, result.blocks, torch.randn(3, 3, 16, 16))
    for block, value in zip(result.blocks, _outputs(result.blocks), strict=True):
        assert value.shape[0] == 5, block.name


def _outputs(found: tuple[Block, ...]) -> list[torch.Tensor]:
    x, outputs = torch.randn(5, 3, 16, 16), []
    for block in found:
        x = block.module(x)
        outputs.append(x)
    return outputs


def test_stages_that_pass_several_maps_are_one_block():
    assert names(cut(Net(two_maps), (16, 16)).blocks) == ["stem", "stages", "pool"]


def by_data(network, x):
    for stage in network.stages:
        x = stage(x) if x.mean() > 0 else x
    return x


def by_mode(network, x):
    for stage in network.stages:
        x = stage(x) if network.training else -x
    return x


@pytest.mark.parametrize("body", [by_data, by_mode])
def test_a_network_that_can_t_be_written_down_is_one_block_and_says_so(body):
    network = Net(body)
    result = cut(network, (16, 16))
    assert names(result.blocks) == ["network"]
    assert result.blocks[0].module is network
    assert "could not be cut" in result.notes[0]
    assert_same(network, result.blocks, torch.randn(3, 3, 16, 16))


def test_a_parameter_that_is_never_used_keeps_the_network_in_one_block():
    network = Net()
    network.unused = nn.Parameter(torch.ones(2))
    result = cut(network, (16, 16))
    assert result.blocks[0].parameters == tuple(name for name, _ in network.named_parameters())
    assert "parameters" in result.notes[0]


def test_parts_that_give_another_result_are_not_used(monkeypatch):
    pieces = blocks.pieces
    network = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(3)), Net().pool)
    monkeypatch.setattr(blocks, "pieces", lambda *a, **k: (p := pieces(*a, **k))[1::-1] + p[2:])
    result = cut(network, (8, 8))
    assert names(result.blocks) == ["network"]
    assert "another result" in result.notes[0]


def test_sizes_are_taken_for_granted_only_where_they_must_be():
    def sized(network, x):
        for stage in network.stages:
            if x.shape[-1] != 8:
                raise ValueError
            x = stage(x)
        return x

    network = Net(sized)
    shake(network)
    result = cut(network, (16, 16))
    assert names(result.blocks) == ["stem", "stages.0", "stages.1", "stages.2", "pool"]
    assert "16 x 16" in result.notes[0]
    assert_same(network, result.blocks, torch.randn(7, 3, 16, 16))


def test_what_happens_to_the_map_before_pooling_is_not_in_the_pool_block():
    head = nn.Sequential(nn.Conv2d(4, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 5))
    result = cut(Net(pool=head), (16, 16))
    assert names(result.blocks)[-2:] == ["pool.0", "pool"]
    assert result.blocks[-1].parameters == ("pool.3.weight", "pool.3.bias")


def convolutions(count: int = 1) -> nn.Sequential:
    return nn.Sequential(*(nn.Conv2d(4, 4, 3, 1, 1, bias=False) for _ in range(count)))


class Inside(nn.Module):
    """Runs what it holds, after adding a number of its own to each channel."""

    def __init__(self, inner: nn.Module, own: bool = False) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(1, 4, 1, 1)) if own else None
        self.inner = inner

    def forward(self, x):
        return self.inner(x if self.shift is None else x + self.shift)


class Residual(Inside):
    def forward(self, x):
        return x + self.inner(x)


def pooled(body: nn.Module) -> nn.Sequential:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), body, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return network


@pytest.mark.parametrize("own", [False, True])
def test_the_row_of_stages_is_found_inside_a_wrapper(own):
    """As in a detector's trunk, and in an encoder that adds positions before its layers."""
    network = pooled(Inside(nn.Sequential(*(convolutions() for _ in range(3))), own))
    groups = {
        name: int(name.split(".")[2]) + 1 if ".inner." in name else 0
        for name, _ in network.named_parameters()
    }
    found = cut(network, (16, 16), groups).blocks
    assert names(found)[-4:] == ["1.inner.0", "1.inner.1", "1.inner.2", "pool"]
    assert len(found) == 5
    assert_same(network, found, torch.randn(3, 3, 24, 20))


def test_a_stage_that_wraps_its_row_of_blocks_is_cut_into_them():
    row = nn.Sequential(*(Residual(convolutions(2)) for _ in range(3)))
    network = pooled(nn.Sequential(Inside(row), Inside(convolutions(3))))
    groups = {
        name: int(name.split(".")[1]) + 1 if name.startswith("1.") else 0
        for name, _ in network.named_parameters()
    }
    found = cut(network, (16, 16), groups).blocks
    blocks_of_the_row = ["1.0.inner.0", "1.0.inner.1", "1.0.inner.2"]
    assert names(found)[1:] == [*blocks_of_the_row, "1.1", "pool"]  # bare layers stay together
    assert_same(network, found, torch.randn(3, 3, 24, 20))


def test_at_most_twenty_blocks_where_the_stages_are_not_more():
    backbone = untrained("resnet152", 32)
    assert len(backbone.blocks) <= 20
    assert backbone.stages == ("stem", "layer1", "layer2", "layer3", "layer4")


def test_a_network_without_a_feature_vector_is_refused():
    with pytest.raises(ModelError, match=r"one feature vector.*\(B, 4, 8, 8\)"):
        cut(Net(pool=nn.Identity()), (16, 16))
    with pytest.raises(ModelError, match="a tuple"):
        cut(Net(pool=nn.AdaptiveMaxPool2d(1, return_indices=True)), (16, 16))


def test_a_size_the_network_can_t_take_is_named():
    network = Net(pool=nn.Sequential(nn.Flatten(), nn.Linear(256, 2)))
    with pytest.raises(ModelError, match="17 x 32 pixels") as caught:
        cut(network, (17, 32))
    assert caught.value.field == "size"


def test_the_chain_trains_as_the_network_does():
    """Same seed: same outputs, gradients and statistics, dropout and stochastic depth included."""
    import timm

    for name in ("test_efficientnet", "test_vit3", "test_convnext"):
        network = timm.create_model(name, num_classes=0, drop_rate=0.2, drop_path_rate=0.2)
        shake(network)
        size = network.pretrained_cfg["input_size"][1]
        chain = chained(cut(network, (size, size)).blocks).train()
        network.train()
        state = {key: value.clone() for key, value in network.state_dict().items()}
        x = torch.randn(3, 3, size, size)
        results = []
        for module in (network, chain):
            network.load_state_dict(state)
            network.zero_grad()
            torch.manual_seed(0)
            y = module(x)
            y.square().sum().backward()
            gradients = [p.grad for p in network.parameters() if p.grad is not None]
            statistics = [value.clone() for value in network.buffers()]
            results.append([y, *gradients, *statistics])
        assert len(results[0]) == len(results[1])
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True)), name
        assert not torch.equal(results[0][0], network.eval()(x))


def test_blocks_run_under_autocast_and_in_any_layout():
    backbone: Backbone = untrained("test_convnext", 64)
    x = images(backbone).contiguous(memory_format=torch.channels_last)
    network, chain = backbone.network, backbone.chain()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(chain(x), network(x))
