"""The network as it is trained: normalisation, the backbone's blocks, the head, and what is frozen.

Frozen is one thing, set for every block at once by ``Model.freeze``: no gradient, inference mode
(batch-norm statistics stand still, whatever ``train()`` is asked for), no autograd graph, and
nothing for an optimizer to hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

import torch
from torch import nn

from headstart.backbones.base import Backbone, layers
from headstart.inputspec import InputSpec
from headstart.strategy.phase import HEAD, Parameter

__all__ = ["Model", "Normalise", "prepare"]

# torch has no common base for normalisation layers, and timm adds its own; all carry it in their
# name (BatchNorm2d, LayerNorm2d, GroupNorm, RmsNorm, BatchNormAct2d, FrozenBatchNorm2d, …).
_NORM = "norm"
_BATCH_NORM = "batchnorm"


class Normalise(nn.Module):
    """Pixels (B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32 as an ``InputSpec`` wants them.

    A uint8 image has its channels last in memory, so the permuted result is channels-last too and
    costs no copy of its own.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, spec: InputSpec) -> None:
        super().__init__()
        self.bgr = spec.channels == "bgr"
        shape = (1, 3, 1, 1)
        self.register_buffer("mean", torch.tensor(spec.mean).reshape(shape), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).reshape(shape), persistent=False)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Normalise a batch; values may be float too, as mixed images are."""
        images = pixels.permute(0, 3, 1, 2)
        if self.bgr:
            images = images.flip(1)
        return (images.float() - self.mean) / self.std


def prepare(normalise: Normalise, images: torch.Tensor) -> torch.Tensor:
    """Normalise pixels (B, H, W, 3); images (B, 3, H, W) that are normalised already stay."""
    values: torch.Tensor = (
        normalise(images) if images.shape[1] != 3 or images.dtype == torch.uint8 else images
    )
    return values


class Model(nn.Module):
    """Pixels (B, H, W, 3) uint8 -> logits (B, C).

    Images that were normalised elsewhere, (B, 3, H, W) float, are taken as they are.

    Args:
        backbone: The network; its parameters stay shared with ``backbone.network``.
        head: (B, feature_dim) -> (B, C).
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.normalise = Normalise(backbone.input_spec)
        self.blocks = nn.ModuleList(block.module for block in backbone.blocks)
        self.head = head
        self._backbone = backbone
        self._frozen = [False] * len(backbone.blocks)
        self._held: list[nn.Module] = []

    @property
    def backbone(self) -> Backbone:
        """The backbone the model is made of."""
        return self._backbone

    @property
    def input_spec(self) -> InputSpec:
        """How images are prepared for it."""
        return self._backbone.input_spec

    def parameters_by_name(self) -> dict[str, nn.Parameter]:
        """Return all parameters under the names of ``describe``, in its order."""
        found: dict[str, nn.Parameter] = {}
        for block in self._backbone.blocks:
            found |= zip(block.parameters, block.module.parameters(), strict=True)
        return found | {f"{HEAD}.{name}": value for name, value in self.head.named_parameters()}

    def describe(self) -> list[Parameter]:
        """List all parameters as a plan sees them: the backbone's by block, then the head's."""
        found = []
        layer = 0
        for block in self._backbone.blocks:
            kinds = _kinds(block.module)
            numbers, layer = _layers(block.module, layer)
            for name, parameter in zip(block.parameters, block.module.parameters(), strict=True):
                kind, number = kinds[id(parameter)], numbers[id(parameter)]
                size = parameter.numel()
                found.append(Parameter(name, block.name, block.stage, kind, size, number))
        kinds = _kinds(self.head)
        for name, parameter in self.head.named_parameters():
            kind = kinds[id(parameter)]
            found.append(Parameter(f"{HEAD}.{name}", HEAD, HEAD, kind, parameter.numel()))
        return found

    def freeze(self, rates: Mapping[str, float | None], *, hold_statistics: bool = False) -> None:
        """Freeze every parameter whose rate is None and wake all others.

        A block is frozen when all its parameters are; a block without parameters follows the
        block before it. In a block that is trained in part, a batch norm whose own parameters
        are frozen holds its statistics. Doing it twice is doing it once.

        Args:
            rates: Rate by parameter name, for every parameter of ``describe``.
            hold_statistics: Whether all batch norms hold their statistics, trained ones too.
        """
        self._held = []
        previous = True
        for index, block in enumerate(self._backbone.blocks):
            rated = [rates[name] is not None for name in block.parameters]
            previous = not any(rated) if rated else previous
            self._frozen[index] = previous
            for awake, parameter in zip(rated, block.module.parameters(), strict=True):
                parameter.requires_grad_(awake)
            if not previous:
                self._held += [
                    module
                    for module in block.module.modules()
                    if _is_batch_norm(module) and (hold_statistics or _has_all_frozen(module))
                ]
        for name, parameter in self.head.named_parameters():
            parameter.requires_grad_(rates[f"{HEAD}.{name}"] is not None)
        self.train(self.training)

    @property
    def frozen_prefix(self) -> int:
        """How many blocks from the input on are frozen: what a cache can remember."""
        return next((i for i, frozen in enumerate(self._frozen) if not frozen), len(self.blocks))

    def train(self, mode: bool = True) -> Self:
        """Set training mode for all that is not frozen; frozen parts stay in inference mode."""
        super().train(mode)
        for block, frozen in zip(self.blocks, self._frozen, strict=True):
            if frozen:
                block.eval()
        for module in self._held:
            module.eval()
        return self

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Run the backbone: images, as ``forward`` takes them -> features (B, feature_dim)."""
        values = prepare(self.normalise, images)
        prefix = self.frozen_prefix
        with torch.no_grad():
            for block in self.blocks[:prefix]:
                values = block(values)
        for block in self.blocks[prefix:]:
            values = block(values)
        return values

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Run the whole model: images -> logits (B, C).

        Args:
            images: Pixels (B, H, W, 3) RGB in 0..255, or normalised images (B, 3, H, W).
        """
        logits: torch.Tensor = self.head(self.features(images))
        return logits


def _is_batch_norm(module: nn.Module) -> bool:
    """Whether it keeps statistics of batches: torch's own kind, or Keras's, by its name."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) or _BATCH_NORM in (
        type(module).__name__.lower()
    )


def _has_all_frozen(module: nn.Module) -> bool:
    """Whether a module has parameters of its own, and none of them is trained."""
    own = list(module.parameters())
    return bool(own) and not any(parameter.requires_grad for parameter in own)


def _layers(module: nn.Module, first: int) -> tuple[dict[int, int], int]:
    """Number the layers of a module from ``first`` on.

    Returns:
        The layer of each parameter, by the parameter's id, and the next number.
    """
    numbers: dict[int, int] = {}
    for layer in layers(module):
        numbers |= {id(parameter): first for parameter in layer.parameters(recurse=False)}
        first += 1
    return numbers, first


def _kinds(module: nn.Module) -> dict[int, Literal["weight", "bias", "norm"]]:
    """Tell, for each parameter's id, whether it is a norm's, a bias or a weight."""
    kinds: dict[int, Literal["weight", "bias", "norm"]] = {}
    for part in module.modules():
        is_norm = _NORM in type(part).__name__.lower()
        for name, parameter in part.named_parameters(recurse=False):
            kind: Literal["weight", "bias", "norm"] = "bias" if name == "bias" else "weight"
            kinds[id(parameter)] = "norm" if is_norm else kind
    return kinds
