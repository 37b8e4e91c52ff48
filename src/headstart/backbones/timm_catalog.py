"""What timm offers, from its own configurations: every network with each set of its weights.

timm says nothing of a network's size; that is read from a table that ``scripts/zoo-report`` writes.
It publishes no accuracies in its package either.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from headstart.backbones import hub
from headstart.backbones.base import Listing

__all__ = ["listings", "names", "parameters"]


def names() -> list[str]:
    """Return the names of all networks, without tags of weights."""
    import timm

    known: list[str] = timm.list_models()
    return known


def listings() -> list[Listing]:
    """List every network with each of its sets of weights, the default ones first."""
    from timm.models import get_arch_pretrained_cfgs

    return [
        _listing(architecture, full, config.to_dict())
        for architecture in names()
        for full, config in get_arch_pretrained_cfgs(architecture).items()
    ]


@cache
def parameters() -> dict[str, int]:
    """Return how many numbers each network learns, its classifier included."""
    table = files("headstart.backbones") / "timm_networks.json"
    known: dict[str, int] = json.loads(table.read_text(encoding="utf-8"))
    return known


def _listing(architecture: str, full: str, config: dict[str, Any]) -> Listing:
    side = config.get("input_size", (3, None, None))[-1]
    return Listing(
        name=f"timm:{full}",
        zoo="timm",
        parameters=parameters().get(architecture),
        input=side,
        top1=None,
        licence=config.get("license"),
        cached=hub.cached_file(config) is not None,
    )
