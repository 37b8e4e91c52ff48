"""Rates, phases and strategies: the whole plan of a transfer as data.

A strategy is a tuple of phases; a phase gives learning rates to parts of the network by an
ordered list of patterns, of which the first match wins; what has no rate is frozen. The idea of
the ordered list is that of big_vision's ``optax.py``. Nothing here imports torch: a network is
seen as a list of ``Parameter`` names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headstart.errors import UsageError

__all__ = ["HEAD", "Parameter", "Phase", "Rate", "Solve", "Strategy"]

HEAD = "head"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter as a plan sees it.

    Attributes:
        name: Its dotted name in the network, or ``head.`` and its name in the head.
        block: Name of the block it belongs to; ``head`` for the head.
        stage: Name of the stage the block belongs to; ``head`` for the head.
        kind: ``norm`` if its module is a normalisation layer, ``bias`` if it is added to an
            output, else ``weight``. A norm's bias is ``norm``.
        size: Number of elements.
    """

    name: str
    block: str
    stage: str
    kind: Literal["weight", "bias", "norm"]
    size: int


@dataclass(frozen=True, slots=True)
class Rate:
    """A learning rate for the parameters that ``pattern`` matches; None freezes them.

    A pattern is ``head``; ``stage:2``, ``stage:-1`` or ``stage:0..2`` (both ends included, counted
    over the stages with parameters); ``@norm`` or ``@bias``; or a dotted prefix of the backbone's
    block or parameter names.
    """

    pattern: str
    rate: float | None

    def __post_init__(self) -> None:
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise UsageError(
                f"The rate of {self.pattern!r} must be above 0, or none to freeze, "
                f"not {self.rate}.",
                field="rates",
            )


@dataclass(frozen=True, slots=True)
class Solve:
    """Fit the head directly on the cached features, at each L2 penalty; val chooses one.

    Attributes:
        penalties: L2 penalties of the multinomial logistic regression on standardised features:
            ``sum of losses + penalty / 2 * |weights|^2``, as 1 / C in scikit-learn.
    """

    penalties: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.penalties or not all(0 < value < math.inf for value in self.penalties):
            raise UsageError(
                f"Solve needs one or more penalties, all above 0, not {self.penalties}.",
                field="penalties",
            )


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of training: who learns how fast, and how."""

    rates: tuple[Rate, ...]
    fit: Solve

    def resolve(self, parameters: Sequence[Parameter]) -> dict[str, float | None]:
        """Give every parameter its rate.

        Args:
            parameters: All parameters, the backbone's in the order of its blocks, then the head's.

        Returns:
            Rate by parameter name; None is frozen.

        Raises:
            UsageError: A pattern matches nothing, a parameter is not covered, or the phase solves
                the head while a backbone parameter has a rate; all of these together.
        """
        problems = []
        resolved: dict[str, float | None] = {}
        for rate in self.rates:
            matches = _matcher(rate.pattern, parameters)
            hits = [parameter.name for parameter in parameters if matches(parameter)]
            if not hits:
                problems.append(f"the pattern {rate.pattern!r} matches no parameter")
            for name in hits:
                resolved.setdefault(name, rate.rate)
        uncovered = [parameter.name for parameter in parameters if parameter.name not in resolved]
        if uncovered:
            problems.append(f"no pattern covers {_some(uncovered)}")
        if isinstance(self.fit, Solve):
            awake = [
                parameter.name
                for parameter in parameters
                if parameter.block != HEAD and resolved.get(parameter.name) is not None
            ]
            if awake:
                problems.append(
                    f"a head is solved only behind a frozen backbone, and {_some(awake)} "
                    "would be trained"
                )
        if problems:
            raise UsageError(f"This phase can't run: {'; '.join(problems)}.", field="rates")
        return resolved


@dataclass(frozen=True, slots=True)
class Strategy:
    """A named tuple of phases; a later phase starts from the head the earlier one left."""

    name: str
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        if not self.phases:
            raise UsageError("A strategy needs at least one phase.", field="strategy")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return {
            "name": self.name,
            "phases": [
                {
                    "rates": [[rate.pattern, rate.rate] for rate in phase.rates],
                    "fit": {"solve": {"penalties": list(phase.fit.penalties)}},
                }
                for phase in self.phases
            ],
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Strategy:
        """Build a strategy from ``to_dict``'s result.

        Raises:
            UsageError: A field is missing or out of range.
        """
        try:
            return cls(
                name=document["name"],
                phases=tuple(
                    Phase(
                        rates=tuple(Rate(pattern, rate) for pattern, rate in phase["rates"]),
                        fit=Solve(tuple(phase["fit"]["solve"]["penalties"])),
                    )
                    for phase in document["phases"]
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"Not a strategy: {error!r}.", field="strategy") from error


def _matcher(pattern: str, parameters: Sequence[Parameter]) -> Callable[[Parameter], bool]:
    """Turn a pattern into a test of one parameter."""
    if pattern == HEAD:
        return lambda parameter: parameter.block == HEAD
    if pattern in ("@norm", "@bias"):
        return lambda parameter: parameter.block != HEAD and parameter.kind == pattern[1:]
    if span := re.fullmatch(r"stage:(-?\d+)(?:\.\.(-?\d+))?", pattern):
        stages = [name for name in dict.fromkeys(p.stage for p in parameters) if name != HEAD]
        first = _position(int(span[1]), len(stages))
        last = first if span[2] is None else _position(int(span[2]), len(stages))
        chosen = set(stages[first : last + 1]) if first >= 0 else set()
        return lambda parameter: parameter.stage in chosen
    return lambda parameter: (
        parameter.block != HEAD
        and (_is_prefix(pattern, parameter.name) or _is_prefix(pattern, parameter.block))
    )


def _position(index: int, length: int) -> int:
    """Turn a stage number counted from either end into one from the start; -1 if outside."""
    position = index if index >= 0 else length + index
    return position if 0 <= position < length else -1


def _is_prefix(pattern: str, name: str) -> bool:
    return name == pattern or name.startswith(pattern + ".")


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
