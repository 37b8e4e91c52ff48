"""Networks for the tests of everything that has a backbone."""

from __future__ import annotations

import torch
from torch import nn

from headstart.backbones import from_timm, from_torchvision, zoo
from headstart.backbones.base import Backbone
from headstart.backbones.preprocess import from_config
from headstart.backbones.torchvision_catalog import entry
from headstart.inputspec import InputSpec


def untrained(name: str, size: int | None = None) -> Backbone:
    """Make a network of timm's, ``torchvision:name`` or ``keras:name``, all numbers at random.

    Args:
        name: Its name.
        size: Side of its images in pixels.
    """
    source, _, inner = name.rpartition(":")
    if source == "keras":
        backbone = zoo.create(name, size=size, random=0)
        shake(backbone.network)
        return backbone
    config = entry(inner) if source == "torchvision" else from_timm.pretrained_config(inner)
    spec = config.input_spec if source == "torchvision" else from_config(config)
    if size is not None:
        spec = InputSpec(size, size, spec.mean, spec.std)
    if source == "torchvision":
        architecture = from_torchvision.describe(config, spec)
    else:
        architecture = from_timm.describe("timm", inner, config, spec)
    backbone = zoo.rebuild(architecture, spec)
    shake(backbone.network)
    return backbone


def shake(network: nn.Module, seed: int = 0) -> None:
    """Give parameters and statistics random values: fresh networks have many zeros and ones."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
        for name, buffer in network.named_buffers():
            if name.endswith(("running_mean", "moving_mean")):
                buffer += 0.1 * torch.randn(buffer.shape, generator=generator)
            elif name.endswith(("running_var", "moving_variance")):
                buffer *= 0.5 + torch.rand(buffer.shape, generator=generator)


def images(backbone: Backbone, count: int = 3, seed: int = 1) -> torch.Tensor:
    """Make a batch of noise that ``backbone`` takes."""
    spec = backbone.input_spec
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, spec.height, spec.width, generator=generator)
