"""Strategies as JSON documents and as TOML files.

::

    name = "two steps"

    [[phases]]
    rates = [["head", 0.001], ["stage:0..-1", "frozen"]]
    solve = { penalties = [1000.0, 100.0, 10.0] }

    [[phases]]
    rates = [["head", 0.001], ["stage:-2..-1", 0.0003], ["stage:0..-1", "frozen"]]
    augment = "standard"
    keep = "better"
    train = { epochs = 10, label_smoothing = 0.1 }

TOML has no word for nothing: ``"frozen"`` stands for a rate of None, ``"none"`` for any other.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from headstart.errors import UsageError
from headstart.strategy.phase import OPTIONAL, Phase, Rate, Solve, Train

__all__ = ["phase_to_dict", "read_strategy", "read_toml", "write_toml"]

FROZEN = "frozen"
_EXAMPLE = "headstart.strategy.names.create('fine-tune').to_toml()"
_RATE = re.compile(r'\[\n\s+("[^"\n]*"),\n\s+([^\n]+),\n\s+\]')
_PHASE = {"rates", "augment", "symmetry", "keep", "solve", "train"}
_STRATEGY = {"name", "phases", "weights", "backbone"}


def phase_to_dict(phase: Phase) -> dict[str, Any]:
    """Return a phase as plain JSON types; ``keep`` only where it is not ``always``."""
    if isinstance(phase.fit, Solve):
        fit: dict[str, Any] = {"solve": {"penalties": list(phase.fit.penalties)}}
    else:
        fit = {"train": asdict(phase.fit)}
    rates = [[rate.pattern, rate.rate] for rate in phase.rates]
    keep = {} if phase.keep == "always" else {"keep": phase.keep}
    return {"rates": rates, "augment": phase.augment, "symmetry": phase.symmetry, **keep, **fit}


def write_toml(document: Mapping[str, Any]) -> str:
    """Return a strategy's document as TOML."""
    import tomli_w

    plain = {key: value for key, value in document.items() if value is not None}
    plain["phases"] = [_without_none(phase) for phase in document["phases"]]
    # tomli_w gives each element a line of its own; a rate reads better in one.
    return _RATE.sub(r"[\1, \2]", tomli_w.dumps(plain))


def _without_none(phase: Mapping[str, Any]) -> dict[str, Any]:
    rates = [[pattern, FROZEN if rate is None else rate] for pattern, rate in phase["rates"]]
    plain = {**phase, "rates": rates}
    if "train" in plain:
        plain["train"] = {k: "none" if v is None else v for k, v in phase["train"].items()}
    return plain


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        UsageError: It can't be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror}.",
            field="strategy",
            hint="Give the path of a file of yours, or a strategy's name without .toml.",
        ) from error
    except ValueError as error:
        raise UsageError(
            f"{path} is not TOML: {error}.",
            field="strategy",
            hint=f"Compare it with a strategy's own: {_EXAMPLE}",
        ) from error


def read_strategy(document: Mapping[str, Any], source: str = "This") -> dict[str, Any]:
    """Read a strategy's document: the fields of ``Strategy``.

    Args:
        document: As ``Strategy.to_dict`` gives it, or as TOML has it.
        source: What errors call it: its file.

    Raises:
        UsageError: A field is missing, unknown or of the wrong type; all of these together. What
            is out of range is told by ``Strategy.resolve``.
    """
    reader = _Reader()
    read = reader.strategy(document)
    if reader.problems:
        problems = "; ".join(reader.problems)
        raise UsageError(
            f"{source} is not a strategy: {problems}.",
            field="strategy",
            hint=f"Compare it with a strategy's own: {_EXAMPLE}",
        )
    return read


class _Reader:
    """Reads a document as far as it goes, and collects what is wrong with it."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def strategy(self, document: Any) -> dict[str, Any]:
        if not isinstance(document, Mapping):
            self.problems.append(f"it must be a table, not {document!r}")
            return {}
        self._unknown("", document, _STRATEGY)
        name, phases = document.get("name"), document.get("phases")
        if not isinstance(name, str) or not name:
            self.problems.append("name must be a text")
        if not isinstance(phases, list) or not phases:
            self.problems.append("phases must be a list of at least one phase")
            phases = []
        read = [self._phase(number, phase) for number, phase in enumerate(phases, start=1)]
        backbone = document.get("backbone")
        if backbone is not None and not isinstance(backbone, str):
            self.problems.append("backbone must be the name of a network")
        weights = document.get("weights", "pretrained")
        return {
            "name": name,
            "phases": tuple(phase for phase in read if phase is not None),
            "weights": weights,
            "backbone": backbone,
        }

    def _phase(self, number: int, phase: Any) -> Phase | None:
        where = f"phase {number}: "
        if not isinstance(phase, Mapping):
            self.problems.append(f"{where}must be a table, not {phase!r}")
            return None
        self._unknown(where, phase, _PHASE)
        if ("solve" in phase) == ("train" in phase):
            self.problems.append(f"{where}needs either solve or train")
            return None
        rates = self._rates(where, phase.get("rates"))
        fit = self._solve(where, phase) if "solve" in phase else self._train(where, phase["train"])
        defaults = {"augment": "none", "symmetry": "flip", "keep": "always"}
        texts = {key: phase.get(key, default) for key, default in defaults.items()}
        for key, value in texts.items():
            if not isinstance(value, str):
                self.problems.append(f"{where}{key} must be a text, not {value!r}")
        return None if fit is None else Phase(rates, fit, **texts)

    def _rates(self, where: str, rates: Any) -> tuple[Rate, ...]:
        if not isinstance(rates, list) or not rates:
            self.problems.append(f"{where}rates must be a list of [pattern, rate]")
            return ()
        read = []
        for entry in rates:
            match entry:
                case [str(pattern), None | "frozen"]:
                    read.append(Rate(pattern, None))
                case [str(pattern), int() | float() as rate] if not isinstance(rate, bool):
                    read.append(Rate(pattern, float(rate)))
                case _:
                    self.problems.append(
                        f'{where}a rate must be [pattern, number] or [pattern, "{FROZEN}"], '
                        f"not {entry!r}"
                    )
        return tuple(read)

    def _solve(self, where: str, phase: Mapping[str, Any]) -> Solve | None:
        match phase["solve"]:
            case {"penalties": [*penalties], **rest} if not rest and all(
                isinstance(value, int | float) for value in penalties
            ):
                return Solve(tuple(float(value) for value in penalties))
        self.problems.append(f"{where}solve must be {{ penalties = [numbers] }}")
        return None

    def _train(self, where: str, train: Any) -> Train | None:
        if not isinstance(train, Mapping):
            self.problems.append(f"{where}train must be a table, not {train!r}")
            return None
        known = {field.name: field for field in fields(Train)}
        self._unknown(where, train, set(known))
        values: dict[str, Any] = {}
        for name, value in train.items():
            if name in known:
                values[name] = None if value == "none" and name in OPTIONAL else value
        lacking = [n for n, field in known.items() if field.default is MISSING and n not in values]
        if lacking:
            self.problems.append(f"{where}train lacks {', '.join(lacking)}")
            return None
        return Train(**values)

    def _unknown(self, where: str, document: Mapping[str, Any], known: set[str]) -> None:
        for name in sorted(document.keys() - known):
            self.problems.append(f"{where}there is no {name!r} (known: {', '.join(sorted(known))})")
