"""A small convolutional network for small data: the one people build before they know transfer.

Four times a 3 x 3 convolution, batch norm, ReLU and 2 x 2 maximum pooling, of 32, 64, 128 and 256
channels, then the mean of each channel. Nobody has trained it on ImageNet: it starts from random
weights, and is what ``scratch:small-cnn`` measures transfer against.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from headstart.backbones.base import Backbone, Request
from headstart.backbones.blocks import cut
from headstart.backbones.preprocess import decide
from headstart.backbones.weights import load_weights
from headstart.errors import UsageError
from headstart.inputspec import InputSpec

__all__ = ["NAME", "SmallCNN", "create", "rebuild"]

NAME = "small_cnn"
_WIDTHS = (3, 32, 64, 128, 256)
_LEAST = 2 ** (len(_WIDTHS) - 1)  # pixels that are left one after all the pooling
_SPEC = InputSpec(
    height=128,
    width=128,
    mean=(127.5, 127.5, 127.5),
    std=(127.5, 127.5, 127.5),
    interpolation="bilinear",
)


class SmallCNN(nn.Module):
    """Images (B, 3, H, W) -> features (B, 256)."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(width, wider, 3, padding=1, bias=False),
                    nn.BatchNorm2d(wider),
                    nn.ReLU(),
                    nn.MaxPool2d(2),
                )
                for width, wider in pairwise(_WIDTHS)
            )
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the stages and take the mean of each channel."""
        features: torch.Tensor = self.pool(self.stages(images))
        return features


def create(request: Request) -> Backbone:
    """Create the network, with the user's weights or with random ones.

    Raises:
        UsageError: Neither was asked for, and there are no others; or the size is too small.
        ModelError: The user's file can't be used.
    """
    if request.weights is None and request.random is None:
        raise UsageError(
            f"There are no pre-trained weights of bundled:{NAME}.",
            field="backbone",
            hint="Train it from scratch with --strategy scratch:small-cnn, or give --weights.",
        )
    spec, notes = decide(_SPEC, NAME, request)
    if min(spec.height, spec.width) < _LEAST:
        raise UsageError(
            f"bundled:{NAME} needs images of at least {_LEAST} x {_LEAST} pixels, not "
            f"{spec.height} x {spec.width} pixels.",
            field="size",
            hint="Choose another --size.",
        )
    network = _network(request.random or 0)
    weights = f"random, seed {request.random}"
    if request.weights is not None:
        found = load_weights(network, request.weights, allow_partial=request.allow_partial)
        weights, notes = found.told, (*notes, *found.notes)
    return _assemble(network, spec, weights, notes)


def rebuild(input_spec: InputSpec) -> Backbone:
    """Build the network again, with random weights."""
    return _assemble(_network(0), input_spec, "random", ())


def _network(seed: int) -> SmallCNN:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return SmallCNN()


def _assemble(network: SmallCNN, spec: InputSpec, weights: str, notes: tuple[str, ...]) -> Backbone:
    result = cut(network.eval(), (spec.height, spec.width))
    return Backbone(
        zoo="bundled",
        name=NAME,
        network=network,
        blocks=result.blocks,
        input_spec=spec,
        feature_dim=result.feature_dim,
        licence=None,
        architecture={
            "zoo": "bundled",
            "name": NAME,
            "architecture": NAME,
            "num_classes": 0,
            "arguments": {},
        },
        classifier=None,
        weights=weights,
        notes=notes + result.notes,
    )
