"""Backbones of a few hundred numbers, made by hand: any modules in a row, each a block."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from torch import nn

from headstart.backbones.base import Backbone, Block
from headstart.inputspec import InputSpec
from headstart.training.model import Model

SPEC = InputSpec(8, 8, mean=(120.0, 110.0, 100.0), std=(60.0, 55.0, 50.0), resize="squash")


def layers() -> dict[str, nn.Module]:
    """Make the blocks of the usual backbone; one without parameters lies in its middle."""
    named = {"conv": nn.Conv2d(3, 6, 3, padding=1, bias=False), "norm": nn.BatchNorm2d(6)}
    return {
        "stem": nn.Sequential(OrderedDict(named, act=nn.ReLU())),
        "layer1": nn.Sequential(
            OrderedDict(conv=nn.Conv2d(6, 6, 3, padding=1), norm=nn.BatchNorm2d(6), act=nn.ReLU())
        ),
        "drop": nn.Dropout(0.5),
        "layer10": nn.Sequential(
            OrderedDict(conv=nn.Conv2d(6, 8, 3, bias=False), norm=nn.BatchNorm2d(8), act=nn.ReLU())
        ),
        "pool": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()),
    }


def separable() -> dict[str, nn.Module]:
    """Make the usual blocks, the second with a depthwise convolution."""
    named = layers()
    own = OrderedDict(named["layer1"].named_children())
    own["conv"] = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    return named | {"layer1": nn.Sequential(own)}


def make_backbone(
    blocks: dict[str, nn.Module] | None = None,
    *,
    spec: InputSpec = SPEC,
    seed: int | None = 0,
    name: str = "tiny",
) -> Backbone:
    """Chain blocks, each a stage of its own, and give them weights of this seed if there is one."""
    blocks = layers() if blocks is None else blocks
    network = nn.Sequential(OrderedDict(blocks))
    if seed is not None:
        shake(network, seed)
    with torch.no_grad():
        features = network.eval()(torch.zeros(1, 3, spec.height, spec.width))
    return Backbone(
        zoo="test",
        name=name,
        network=network,
        blocks=tuple(
            Block(
                block, block, 1, module, tuple(f"{block}.{p}" for p, _ in module.named_parameters())
            )
            for block, module in blocks.items()
        ),
        input_spec=spec,
        feature_dim=features.shape[1],
        licence=None,
        architecture={},
        classifier=None,
        weights="random",
    )


def shake(network: nn.Module, seed: int) -> None:
    """Fill all parameters and statistics: kernels around 0, all else above it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                low = -0.5 if tensor.ndim > 1 else 0.3
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + low)


def make_model(backbone: Backbone | None = None, classes: int = 3) -> Model:
    backbone = make_backbone() if backbone is None else backbone
    torch.manual_seed(0)
    return Model(backbone, nn.Linear(backbone.feature_dim, classes))


def pixels(count: int, seed: int = 0, spec: InputSpec = SPEC) -> np.ndarray:
    shape = (count, spec.height, spec.width, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
