"""Scales of the drawings of a training: from one round number to another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Scale", "loss_scale", "rate_scale", "round_step", "share_scale"]

_SHARES = 0.04  # of at least so much: less is noise, and no mountain


@dataclass(frozen=True, slots=True)
class Scale:
    """A scale from ``low`` to ``high``, logarithmic or not, and what is written where on it."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Return where ``value`` stands: 0 at ``low``, 1 at ``high``."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def round_step(wanted: float) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten that is not below ``wanted``."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= wanted * (1 - 1e-9))


def loss_scale(values: Sequence[float]) -> Scale:
    """Return a scale from 0 that holds these losses."""
    high = max(values) if max(values) > 1e-9 else 1.0
    step = round_step(high / 5)
    count = math.ceil(high / step - 1e-9)
    return Scale(0.0, step * count, tuple((step * k, f"{step * k:.4g}") for k in range(count + 1)))


def share_scale(values: Sequence[float]) -> Scale:
    """Return a scale that holds these shares, of at least 4 percent points."""
    least, most = min(values), max(values)
    step = round_step(max(most - least, _SHARES) / 4)
    first, last = math.floor(least / step + 1e-9), math.ceil(most / step - 1e-9)
    while (last - first) * step < _SHARES:
        first, last = max(0, first - 1), min(round(1 / step), last + 1)
    ticks = tuple((step * k, f"{100 * step * k:.4g} %") for k in range(first, last + 1))
    return Scale(step * first, step * last, ticks)


def rate_scale(values: Sequence[float]) -> Scale:
    """Return a logarithmic scale from one power of ten to another that holds these rates."""
    first = math.floor(math.log10(min(values)) + 1e-9)
    last = math.ceil(math.log10(max(values)) - 1e-9)
    first -= first == last
    each = -(-(last - first) // 5)
    ticks = tuple((10.0**k, f"1e{k}") for k in range(last, first - 1, -each))
    return Scale(10.0**first, 10.0**last, ticks, logarithmic=True)
