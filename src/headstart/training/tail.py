"""The part of a model that a phase trains."""

from __future__ import annotations

import torch
from torch import nn

from headstart.training.model import Model, prepare

__all__ = ["Tail"]


class Tail(nn.Module):
    """The blocks of a model from ``start`` on, and its head: what a phase trains.

    Args:
        model: Frozen as the phase says. Its parts are shared, not copied; a deep copy of the tail
            has none of the blocks before it.
        start: 0 takes what ``Model.forward`` takes.
    """

    def __init__(self, model: Model, start: int) -> None:
        super().__init__()
        self.normalise = model.normalise if not start else None
        self.blocks = nn.ModuleDict(
            {str(number): block for number, block in enumerate(model.blocks) if number >= start}
        )
        self.head = model.head
        self._frozen = max(model.frozen_prefix - start, 0)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Give logits (B, C) for a batch of the stream."""
        values = self.features(values)
        # A solved head has large weights that take each other off: half precision is too coarse.
        with torch.autocast(values.device.type, enabled=False):
            logits: torch.Tensor = self.head(values.float())
        return logits

    def features(self, values: torch.Tensor) -> torch.Tensor:
        """Give features (B, D) for a batch of the stream; frozen blocks first, without a graph."""
        if self.normalise is not None:
            values = prepare(self.normalise, values)
        blocks = list(self.blocks.values())
        with torch.no_grad():
            for block in blocks[: self._frozen]:
                values = block(values)
        for block in self.trained():
            values = block(values)
        return values

    def trained(self) -> nn.ModuleList:
        """Return the blocks that are trained; they are shared, not copied."""
        return nn.ModuleList(list(self.blocks.values())[self._frozen :])
