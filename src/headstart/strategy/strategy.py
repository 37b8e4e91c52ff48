"""Strategies: the whole plan of a transfer as data, a named tuple of phases.

Whatever is wrong with one is told at once, by ``Strategy.resolve``: a pattern that matches
nothing, a parameter that nothing covers, a number that is out of range.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from headstart.errors import UsageError
from headstart.strategy.document import phase_to_dict, read_strategy, read_toml, write_toml
from headstart.strategy.patterns import Parameter
from headstart.strategy.phase import Phase, Rate, Rates, Solve, Train

__all__ = ["Strategy"]


@dataclass(frozen=True, slots=True)
class Strategy:
    """A named tuple of phases; a later phase starts from the weights the earlier one left.

    Attributes:
        name: What it is called.
        phases: In order.
        weights: ``pretrained``, or ``random`` to start the backbone from nothing.
        backbone: A network to use instead of the one that was asked for.
    """

    name: str
    phases: tuple[Phase, ...]
    weights: Literal["pretrained", "random"] = "pretrained"
    backbone: str | None = None

    def resolve(self, parameters: Sequence[Parameter]) -> tuple[Rates, ...]:
        """Give every parameter its rate in every phase.

        Raises:
            UsageError: Something keeps a phase from running; all problems of all phases together.
        """
        problems = [] if self.phases else ["it has no phase"]
        if self.weights not in ("pretrained", "random"):
            problems.append(f"weights must be pretrained or random, not {self.weights!r}")
        for number, phase in enumerate(self.phases, start=1):
            problems += [f"phase {number}: {problem}" for problem in phase.problems(parameters)]
        if problems:
            raise UsageError(
                f"The strategy {self.name} can't run: {'; '.join(problems)}.",
                field="strategy",
                hint="Patterns and fields are explained at headstart.Rate and headstart.Train.",
            )
        return tuple(phase.resolve(parameters) for phase in self.phases)

    @property
    def highest_rate(self) -> float:
        """The highest rate of its Train phases, 0 without any."""
        return max(
            (
                rate.rate
                for phase in self.phases
                for rate in phase.rates
                if isinstance(phase.fit, Train) and rate.rate is not None
            ),
            default=0.0,
        )

    def scaled(self, rate: float) -> Strategy:
        """Return it with all rates scaled so that the highest of its Train phases is ``rate``."""
        factor = rate / self.highest_rate if self.highest_rate else 1.0

        def scale(phase: Phase) -> Phase:
            if isinstance(phase.fit, Solve):
                return phase
            rates = (Rate(r.pattern, r.rate and r.rate * factor) for r in phase.rates)
            return replace(phase, rates=tuple(rates))

        return replace(self, phases=tuple(scale(phase) for phase in self.phases))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return {
            "name": self.name,
            "weights": self.weights,
            "backbone": self.backbone,
            "phases": [phase_to_dict(phase) for phase in self.phases],
        }

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Strategy:
        """Build a strategy from ``to_dict``'s result, or from a TOML file's.

        Raises:
            UsageError: A field is missing, unknown or of the wrong type; all of these together.
        """
        return cls(**read_strategy(document))

    def to_toml(self) -> str:
        """Return it as TOML that ``from_toml`` reads."""
        return write_toml(self.to_dict())

    @classmethod
    def from_toml(cls, path: Path) -> Strategy:
        """Read a strategy from a TOML file; its name is the file's unless it has one.

        Raises:
            UsageError: It can't be read, is not TOML, or is no strategy.
        """
        return cls(**read_strategy({"name": path.stem, **read_toml(path)}, str(path)))
