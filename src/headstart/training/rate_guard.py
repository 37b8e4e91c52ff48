"""Which learning rates are too high for pre-trained weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from headstart.data.checks.findings import Finding
from headstart.training.anatomy import named

__all__ = ["HIGHEST_RATES", "peak", "rate_findings"]

HIGHEST_RATES = {
    **dict.fromkeys(
        ("Adam", "AdamW", "NAdam", "RAdam", "Adamax", "RMSprop", "NAdamW", "AdamP"), 1e-3
    ),
    "Lion": 3e-4,
    "SGD": 0.5,
}
"""The highest rates at which pre-trained weights are usually still fine-tuned, by optimizer.

Adam moves each weight by about its rate a step, whatever the gradient; pre-trained kernels are of
the order of 0.01 to 0.1, so that at 1e-3 a hundred steps already go as far as the weights are
large. It is also torch's default, meant for training from nothing; fine-tuning recipes have 1e-5
to 3e-4. Lion's authors take rates 3 to 10 times lower than AdamW's (Chen et al. 2023,
arXiv:2302.06675). For SGD it is the rate over (1 - momentum), the length of a step in a steady
direction: 0.5 is a rate of 0.05 at momentum 0.9. Kornblith et al. 2019 (arXiv:1805.08974)
searched 1e-4 to 0.1 at batches of 256; at the 32 of most small data sets a rate of 0.0125 gives
the same step an image as their highest. Optimizers that scale their steps otherwise are not judged.
"""

_EVERYTHING = dict.fromkeys(set(HIGHEST_RATES) - {"SGD", "Lion"}, 3e-4)
_AT_THE_END = (
    "The first layers are among them. That is as much as pre-trained weights bear, if they do: "
    "0.001 is torch's default for training from nothing."
)
_USUAL = 0.1  # of the highest rate: what fine-tuning usually begins with


def rate_findings(
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    *,
    head: Collection[int] = (),
    highest_good_rate: float | None = None,
) -> Iterator[Finding]:
    """Yield a finding for each rate that is high for pre-trained weights.

    Args:
        parameters: The network's, by name, whose weights are pre-trained but for the head.
        optimizer: Its groups are judged at the highest rate that their schedule tells of.
        head: Ids of the head's parameters, for which a high rate is right.
        highest_good_rate: Of a range test: it then decides, and not ``HIGHEST_RATES``.
    """
    kind = type(optimizer).__name__
    first = next((id(value) for value in parameters.values() if value.ndim > 1), None)
    names = {id(v): n for n, v in parameters.items() if v.requires_grad and id(v) not in head}
    alike: dict[tuple[float, float], list[int]] = {}
    for group in optimizer.param_groups:
        limit = highest_good_rate or _highest(kind, group)
        ids = [id(value) for value in group["params"] if id(value) in names]
        if ids and limit is not None:
            alike.setdefault((peak(group), limit), []).extend(ids)
    for (rate, limit), ids in alike.items():
        what = (
            f"{kind} has a rate of {rate:g} for {len(ids)} pre-trained parameter tensors "
            f"({named([names[one] for one in ids])})."
        )
        if rate > limit * (1 + 1e-9):  # a rate that a schedule computed may be off by a rounding
            why, hint = _why(limit, highest_good_rate), _hint(limit, highest_good_rate)
            yield Finding("rate", "warning", (), f"{what} {why}", hint)
        elif first in ids and highest_good_rate is None and rate > _EVERYTHING.get(kind, limit):
            yield Finding("rate", "note", (), f"{what} {_AT_THE_END}", _hint(limit, None))


def peak(group: Mapping[str, Any]) -> float:
    """Return the highest rate of a group that its schedule tells of: a warm-up begins below it."""
    return max(float(group.get(name) or 0.0) for name in ("lr", "initial_lr", "max_lr"))


def _highest(kind: str, group: Mapping[str, Any]) -> float | None:
    limit = HIGHEST_RATES.get(kind)
    return limit if limit is None or kind != "SGD" else limit * (1 - float(group["momentum"]))


def _why(limit: float, measured: float | None) -> str:
    if measured is not None:
        return f"In the range test the loss falls up to a rate of {limit:g}, and not above it."
    return f"Above {limit:g} the first steps undo much of the pre-training."


def _hint(limit: float, measured: float | None) -> str:
    usual = _USUAL * limit if measured is None else measured / 3
    usual = float(f"{usual:.1g}")
    return (
        f"Begin with {usual:g} for what is pre-trained, and up to ten times that for a new head, "
        "in a group of its own; a range test measures it: headstart plan DATA --find-rate."
    )
