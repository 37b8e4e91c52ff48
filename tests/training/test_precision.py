"""Depthwise convolutions stay in fp32 on a CPU, and nothing of it is left behind."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from headstart.training.device import InferencePath, autocast
from headstart.training.precision import depthwise_in_fp32

FP32 = InferencePath("cpu", "fp32", "channels_last", 8)
BF16 = replace(FP32, precision="bf16")


class Padded(nn.Conv2d):
    """A convolution with a forward of its own, as timm has them."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.pad(values, (0, 1, 0, 1)))


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 8, 3, groups=8),
        Padded(8, 8, 2, groups=8),
        nn.Conv2d(8, 8, 1, groups=2),
    )


def first_channels(network: nn.Module) -> int:
    return next(layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv2d))


def types(network: nn.Module, path: InferencePath) -> list[torch.dtype]:
    """Return the type of what each layer gives for a batch."""
    found = []
    hooks = [
        layer.register_forward_hook(lambda _, __, output: found.append(output.dtype))
        for layer in network
    ]
    with autocast(path):
        network(torch.ones(1, first_channels(network), 6, 6))
    for hook in hooks:
        hook.remove()
    return found


def test_only_depthwise_layers_are_kept_in_fp32(network):
    with depthwise_in_fp32(BF16, network):
        assert types(network, BF16) == [
            *(torch.bfloat16, torch.float32, torch.float32),
            torch.bfloat16,  # in groups, but of several channels
        ]
    assert types(network, BF16) == [torch.bfloat16] * 4


def test_they_compute_what_they_would_in_fp32(network):
    values = torch.randn(2, 8, 6, 6).bfloat16()
    with depthwise_in_fp32(BF16, network), autocast(BF16):
        found = network[2](network[1](values))
    assert torch.equal(found, network[2](network[1](values.float())))
    found.sum().backward()
    assert network[1].weight.grad.dtype == torch.float32


@pytest.mark.parametrize("path", [FP32, replace(BF16, device="cuda")], ids=["fp32", "cuda"])
def test_elsewhere_nothing_is_changed(network, path):
    with depthwise_in_fp32(path, network):
        assert all("forward" not in vars(layer) for layer in network)


def test_a_layer_that_is_no_convolution_of_torchs_says_what_it_is():
    class Layer(nn.Module):
        is_depthwise = True

        def forward(self, values, more):
            return values + more

    layer = Layer()
    values = torch.ones(1, dtype=torch.bfloat16)
    with depthwise_in_fp32(BF16, layer):
        assert layer(values, more=values).dtype == torch.float32
    assert layer(values, more=values).dtype == torch.bfloat16


def test_what_was_changed_before_stays_changed(network):
    own = network[1].forward = lambda values: values
    with depthwise_in_fp32(BF16, network), depthwise_in_fp32(BF16, network):
        assert network[1].forward is own
        assert types(network[2:], BF16) == [torch.float32, torch.bfloat16]
    assert network[1].forward is own
    assert "forward" not in vars(network[2])


def test_nothing_is_left_behind_even_after_an_error(network):
    def broken() -> None:
        with depthwise_in_fp32(BF16, network):
            raise ZeroDivisionError

    names = list(network.state_dict())
    with pytest.raises(ZeroDivisionError):
        broken()
    assert all("forward" not in vars(layer) for layer in network)
    assert list(network.state_dict()) == names


def test_a_copy_made_meanwhile_runs_its_own_weights(network):
    with depthwise_in_fp32(BF16, network):
        twin = copy.deepcopy(network)
        with torch.no_grad():
            twin[1].weight.zero_()
            twin[1].bias.zero_()
        assert not twin[1](torch.ones(1, 8, 6, 6)).any()
