"""Heads: from features (B, feature_dim) to logits (B, C).

::

    linear                       one layer
    linear,dropout=0.2           the same behind dropout
    mlp:256                      a hidden layer of 256 with ReLU
    mlp:512/128,dropout=0.5/0.3  two hidden layers; dropout before the first and before the last
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import torch
from torch import nn

from headstart.errors import UsageError

__all__ = ["HeadSpec", "last_linear"]

_FORM = re.compile(r"(?:linear|mlp:(\d+(?:/\d+)*))(?:,dropout=([\d.]+(?:/[\d.]+)*))?")


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The form of a head.

    Attributes:
        hidden: Width of each hidden layer; none is a linear head.
        dropout: Share of values dropped before each hidden layer and before the last one.
    """

    hidden: tuple[int, ...] = ()
    dropout: tuple[float, ...] = (0.0,)

    @classmethod
    def parse(cls, text: str) -> HeadSpec:
        """Read ``linear``, ``linear,dropout=0.2``, ``mlp:256,dropout=0.5/0.3`` and so on.

        One rate of dropout holds for every layer.

        Raises:
            UsageError: It is of another form, or a number is out of range.
        """
        found = _FORM.fullmatch(text)
        try:
            hidden = tuple(int(n) for n in found[1].split("/")) if found and found[1] else ()
            rates = tuple(float(n) for n in found[2].split("/")) if found and found[2] else (0.0,)
        except ValueError:
            found = None
        if found is None:
            raise UsageError(
                f"A head is linear or mlp:WIDTH, with dropout if you like, not {text!r}.",
                field="head",
                hint="As in: linear,dropout=0.2  mlp:256  mlp:256,dropout=0.5/0.3",
            )
        layers = len(hidden) + 1
        if len(rates) == 1:
            rates *= layers
        if len(rates) != layers or not all(0 <= r < 1 for r in rates) or 0 in hidden:
            raise UsageError(
                f"The head {text!r} needs widths of at least 1 and one rate of dropout, or "
                f"{layers}, each from 0 to below 1.",
                field="head",
                hint="As in: mlp:256,dropout=0.5/0.3",
            )
        return cls(hidden, rates)

    @classmethod
    def of(cls, head: nn.Module) -> HeadSpec:
        """Return the form of a head that ``build`` made."""
        layers = [head] if isinstance(head, nn.Linear) else list(head.children())
        hidden, dropout, rate = [], [], 0.0
        for layer in layers:
            if isinstance(layer, nn.Dropout):
                rate = layer.p
            elif isinstance(layer, nn.Linear):
                hidden.append(layer.out_features)
                dropout.append(rate)
                rate = 0.0
        return cls(tuple(hidden[:-1]), tuple(dropout))

    @property
    def text(self) -> str:
        """What ``parse`` reads back."""
        form = f"mlp:{'/'.join(map(str, self.hidden))}" if self.hidden else "linear"
        rates = "/".join(f"{Decimal(repr(rate)).normalize():f}" for rate in self.dropout)
        return f"{form},dropout={rates}" if any(self.dropout) else form

    @property
    def is_linear(self) -> bool:
        """Whether at prediction it is one linear layer."""
        return not self.hidden

    @property
    def solvable(self) -> bool:
        """Whether a direct solver gives this head: a linear one without dropout."""
        return self.is_linear and not any(self.dropout)

    def build(self, feature_dim: int, n_classes: int, seed: int = 0) -> nn.Module:
        """Make the head, its weights drawn from ``seed``; torch's global generator stays."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            layers = list(self._layers(feature_dim, n_classes))
        return layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def _layers(self, feature_dim: int, n_classes: int) -> Iterator[nn.Module]:
        width = feature_dim
        for size, rate in zip(self.hidden, self.dropout, strict=False):
            if rate:
                yield nn.Dropout(rate)
            yield nn.Linear(width, size)
            yield nn.ReLU()
            width = size
        if self.dropout[-1]:
            yield nn.Dropout(self.dropout[-1])
        yield nn.Linear(width, n_classes)


def last_linear(head: nn.Module) -> nn.Linear:
    """Return the layer that gives the logits."""
    layer = head if isinstance(head, nn.Linear) else list(head.children())[-1]
    assert isinstance(layer, nn.Linear)
    return layer
