"""The backbones that a plan may choose among: those whose weights lie on this machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from headstart.backbones import zoo
from headstart.backbones.base import Listing
from headstart.backbones.licence import check_licence
from headstart.errors import UsageError

__all__ = ["MOST", "MOST_PARAMETERS", "Candidate", "at_hand"]

MOST = 8
MOST_PARAMETERS = 50_000_000
"""A network of so many takes a core about a tenth of a second an image."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backbone that could be chosen.

    Attributes:
        name: What ``zoo.create`` takes.
        parameters: How many numbers it learns, its classifier included.
        input: Side of its input in pixels, or None where any will do.
        top1: Accuracy on ImageNet-1k's validation images, 0 to 1, as published, or None.
        licence: Licence of the weights, or None where the zoo says nothing.
    """

    name: str
    parameters: int
    input: int | None
    top1: float | None
    licence: str | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self)


def at_hand(
    *,
    most: int = MOST,
    parameters: int = MOST_PARAMETERS,
    allow_noncommercial: bool = False,
) -> tuple[Candidate, ...]:
    """List backbones that can be tried without a download, the best on ImageNet first.

    Those of unknown accuracy come last, the smaller of equals first. Networks of unknown size are
    left out. Not every one of them need be usable: a file may be damaged.

    Args:
        most: How many at most.
        parameters: Of how many parameters at most.
        allow_noncommercial: Whether to list weights whose licence forbids commercial use.
    """
    found = [
        Candidate(each.name, each.parameters, each.input, each.top1, each.licence)
        for each in _listed(zoo.listings(), allow_noncommercial)
        if each.parameters is not None and each.parameters <= parameters
    ]
    found.sort(key=lambda each: (-(each.top1 or 0.0), each.parameters, each.name))
    return tuple(found[:most])


def _listed(listings: Iterable[Listing], allow_noncommercial: bool) -> Iterable[Listing]:
    return (each for each in listings if each.cached and _allowed(each, allow_noncommercial))


def _allowed(listing: Listing, allow_noncommercial: bool) -> bool:
    try:
        check_licence(listing.name, listing.licence, allow_noncommercial=allow_noncommercial)
    except UsageError:
        return False
    return True
