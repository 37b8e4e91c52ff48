"""What a backbone is, whatever its zoo: blocks in order, from pixels to one feature vector.

A backbone holds its network under the network's own parameter names, which is the format it is
saved in, and the same parameters once more as a chain of blocks, which is what freezing, rates and
caching work on. Both share every saved tensor, so weights can be loaded into either. To move a
backbone, move its chain: a block may hold tables of positions that the network does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from headstart.files import digest
from headstart.inputspec import InputSpec

__all__ = ["Backbone", "Block", "Listing", "Request", "layers"]


@dataclass(frozen=True, slots=True)
class Block:
    """One step of a backbone: one tensor in, one tensor out, both with a row for each image.

    Attributes:
        name: Unique in the backbone; the last block, from global pooling on, is called ``pool``
            (a network that can't be cut at all is one block, ``network``).
        stage: The stage of the network it belongs to, as people call it: ``layer4``, ``blocks.6``.
        stride: Pixels of the input, along one side, for each position of the output; 0 for the
            pool block. For tokens it is the root of pixels for each token.
        module: Runs it; holds the network's own parameters.
        parameters: The names these parameters have in the network.
    """

    name: str
    stage: str
    stride: int
    module: nn.Module
    parameters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """What a user asks of a backbone beside its name.

    Attributes:
        weights: A file of weights to load instead of the zoo's.
        mean: Mean of the images the weights were trained on, one number or three (red, green,
            blue, whatever order the network takes them in); in units of 0..1 where no number of
            mean and std is above 1, else of 0..255.
        std: Their standard deviation, in the same units.
        size: Side of the square input in pixels.
        allow_noncommercial: Accept weights whose licence forbids commercial use.
        random: A seed to draw the weights from, instead of loading any.
        allow_partial: Take what of the file fits the network, and leave the rest random.
        architecture: ``Backbone.architecture`` of the network that the weights come from, where an
            earlier run says so: the same name can stand for several forms of a network.
        pretrained_form: Make the network with random weights in the form that its pre-trained
            weights need (batch norms frozen), as it would be with them.
    """

    weights: Path | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    size: int | None = None
    allow_noncommercial: bool = False
    random: int | None = None
    allow_partial: bool = False
    architecture: Mapping[str, Any] | None = None
    pretrained_form: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """One line of ``headstart models``: what a zoo says of a network and one set of its weights.

    Attributes:
        name: What ``zoo.create`` takes, ``zoo:name``, with the tag of the weights where they have
            one.
        zoo: The zoo alone.
        parameters: How many numbers the network learns, its classifier included, or None where
            the zoo does not say.
        input: Side of the square input in pixels, or None where any will do.
        top1: Accuracy on ImageNet-1k's validation images, 0 to 1, as the zoo publishes it, or None.
        licence: Licence of the weights, as the zoo names it, or None where it says nothing.
        cached: Whether the weights lie on this machine.
    """

    name: str
    zoo: str
    parameters: int | None
    input: int | None
    top1: float | None
    licence: str | None
    cached: bool


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network without its classifier, cut into blocks, in inference mode at first.

    Attributes:
        zoo: Where it comes from, such as ``timm``.
        name: What that zoo calls it, with the tag of its weights: ``resnet50.a1_in1k``.
        network: The network, its classifier layer replaced by an identity.
        blocks: In order from input to features; each parameter is in exactly one.
        input_spec: What the weights were trained to see.
        feature_dim: Length of an image's feature vector.
        licence: Licence of the weights, as the zoo names it, or None where it says nothing.
        architecture: Plain JSON from which ``zoo.rebuild`` makes the same network without weights:
            ``zoo``, ``name``, ``architecture`` (the zoo's name for it), ``num_classes`` (of
            the classifier it had) and ``arguments`` (others that the zoo needs).
        classifier: Dotted name of the linear layer that was taken off; None where the network had
            none, several, or a convolution.
        weights: Where the weights came from, in words.
        notes: What a user should know: assumptions, coarse blocks.
    """

    zoo: str
    name: str
    network: nn.Module
    blocks: tuple[Block, ...]
    input_spec: InputSpec
    feature_dim: int
    licence: str | None
    architecture: dict[str, Any]
    classifier: str | None
    weights: str
    notes: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """The name that ``zoo.create`` takes: ``zoo:name``."""
        return f"{self.zoo}:{self.name}"

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that have parameters, from input to output."""
        return tuple(dict.fromkeys(block.stage for block in self.blocks if block.parameters))

    def chain(self) -> nn.Sequential:
        """Return the blocks as one module: (B, 3, H, W) float -> (B, feature_dim)."""
        return nn.Sequential(*(block.module for block in self.blocks))

    def digest(self, cut: int | None = None) -> str:
        """Return the SHA-256 of the first ``cut`` blocks' tensors (all blocks by default).

        Names, types, shapes and values of parameters and buffers count; device and memory layout
        do not.
        """
        return digest(*(_digest(name, tensor) for name, tensor in self._tensors(cut)))

    def _tensors(self, cut: int | None) -> Iterator[tuple[str, torch.Tensor]]:
        used = {id(tensor) for block in self.blocks[:cut] for tensor in _tensors(block.module)}
        for collection in (self.network.named_parameters(), self.network.named_buffers()):
            for name, tensor in collection:
                if id(tensor) in used:
                    yield name, tensor


def layers(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers of a module, as ``freeze-first:100layers`` and Keras count them.

    A layer is a module without children, or with parameters of its own; activations and pooling
    count, identities don't.
    """
    for part in module.modules():
        own = any(True for _ in part.parameters(recurse=False))
        if own or not (isinstance(part, nn.Identity) or any(True for _ in part.children())):
            yield part


def _tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _digest(name: str, tensor: torch.Tensor) -> str:
    values = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return digest(name, str(tensor.dtype), str(tuple(tensor.shape)), values.numpy().tobytes())
