"""What ``auto`` decided for a run: the options it came to, why, and what that will cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from headstart.errors import HeadstartError, ModelError
from headstart.options import Options
from headstart.strategy.decision import Decision
from headstart.strategy.strategy import Strategy

__all__ = ["Decided"]

FORMAT = 1


@dataclass(frozen=True)
class Decided:
    """The decisions of ``auto``, and the run that they make.

    Attributes:
        options: What was asked for, with all that was left to be chosen filled in.
        decisions: What was decided, in order, each with its reason.
        seconds: What each phase is predicted to take, that of the solved head with all features;
            None of one that was not predicted.
        rest_s: Predicted seconds of evaluation, audit and report.
        took_s: Seconds that deciding took.
        budget_s: Seconds that the run may take in all.
        published: What the published tables would have chosen: names, and their choices in words.
    """

    options: Options
    decisions: tuple[Decision, ...]
    seconds: tuple[float | None, ...]
    rest_s: float
    took_s: float
    budget_s: float
    published: tuple[tuple[str, str], ...] = ()

    @property
    def total_s(self) -> float:
        """Predicted seconds of the run, those of deciding included."""
        phases = sum(seconds or 0.0 for seconds in self.seconds)
        return self.took_s + phases + self.rest_s

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types; ``from_dict`` turns them back."""
        return {
            "format": FORMAT,
            "options": self.options.to_dict(),
            **self.explained(),
        }

    def explained(self) -> dict[str, Any]:
        """Return why and how long, without the options, as plain JSON."""
        return {
            "decisions": [decision.to_dict() for decision in self.decisions],
            "seconds": [None if s is None else round(s, 1) for s in self.seconds],
            "rest_s": round(self.rest_s, 1),
            "took_s": round(self.took_s, 1),
            "total_s": round(self.total_s, 1),
            "budget_s": round(self.budget_s, 1),
            "published": [list(pair) for pair in self.published],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], given: Options) -> Decided:
        """Build it from ``to_dict``'s result.

        Args:
            document: The result.
            given: What the run was asked for; what no file can hold, a transform given from
                Python, is taken from here.

        Raises:
            ModelError: It is of another version, or not what ``to_dict`` gave.
        """
        try:
            if document["format"] != FORMAT:
                raise ValueError(f"it is of format {document['format']!r}")
            options = dict(document["options"])
            custom = isinstance(options["augment"], dict) and callable(given.augment)
            read = Options.from_dict(options | {"augment": None} if custom else options)
            if custom:
                read = replace(read, augment=given.augment)
            return cls(
                options=read,
                decisions=tuple(Decision.from_dict(each) for each in document["decisions"]),
                seconds=_seconds(document["seconds"], read.strategy),
                rest_s=float(document["rest_s"]),
                took_s=float(document["took_s"]),
                budget_s=float(document["budget_s"]),
                published=tuple((name, words) for name, words in document["published"]),
            )
        except (HeadstartError, AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"What was decided for the run can't be read: {error}",
                field="plan.json",
                hint="Fit again with another --out.",
            ) from error


def _seconds(read: Sequence[Any], strategy: str | Strategy) -> tuple[float | None, ...]:
    """Return the seconds of each phase; there are as many as phases."""
    if isinstance(strategy, str):
        raise TypeError(f"the strategy is the name {strategy!r}, and no phases")
    if len(read) != len(strategy.phases):
        raise ValueError(f"it has seconds of {len(read)} phases, not {len(strategy.phases)}")
    return tuple(None if seconds is None else float(seconds) for seconds in read)
