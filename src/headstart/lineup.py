"""Who takes part in a comparison: every strategy on every backbone with every seed.

All names and options are looked up here, before anything runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from headstart.adjust import chosen_strategy
from headstart.embedding import create_backbone
from headstart.errors import HeadstartError, UsageError
from headstart.files import digest
from headstart.options import AUTO, DEFAULT_BACKBONE, Options
from headstart.strategy import names
from headstart.strategy.phase import Solve, Train
from headstart.strategy.strategy import Strategy

__all__ = ["Entry", "Lineup", "make_lineup", "safe_name"]

_OURS = ("strategy", "backbone", "seed", "minimum")  # what a comparison decides by itself
_OF_TRAINING = ("lr", "augment", "symmetry", "views", "train")


@dataclass(frozen=True, slots=True)
class Entry:
    """One run to be.

    Attributes:
        strategy: What is trained, and how, before the options change it.
        options: All that its fit is given.
    """

    strategy: Strategy
    options: Options

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        it = self.options
        return safe_name(f"{self.strategy.name}-{it.backbone}-{it.seed}")

    @property
    def given(self) -> dict[str, Any]:
        """The options that are not the defaults, as ``headstart.fit`` takes them."""
        return _changed(self.options)


@dataclass(frozen=True, slots=True)
class Lineup:
    """The entries: strategy by strategy, then backbone by backbone, then seed by seed."""

    entries: tuple[Entry, ...]

    @property
    def asked(self) -> dict[str, Any]:
        """The options that any entry was given beside its own three, as plain JSON."""
        asked: dict[str, Any] = {}
        for entry in self.entries:
            document = entry.options.to_dict()
            asked |= {name: document[name] for name in entry.given if name not in _OURS}
        return asked

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types: what two lineups must share to be the same."""
        strategies = {entry.strategy: entry.strategy.to_dict() for entry in self.entries}
        return {
            "strategies": list(strategies.values()),
            "backbones": list(dict.fromkeys(entry.options.backbone for entry in self.entries)),
            "seeds": 1 + max(entry.options.seed for entry in self.entries),
            "options": self.asked,
        }


def make_lineup(
    strategies: Sequence[str | Strategy],
    backbones: Sequence[str],
    seeds: int,
    options: Mapping[str, Any],
) -> Lineup:
    """Look everything up and combine it; a strategy with a network of its own runs on that alone.

    Options that are about training by steps go to the strategies that do so.

    Args:
        strategies: Names, paths of TOML files, or ``Strategy`` objects.
        backbones: Names as ``zoo:name``.
        seeds: How many.
        options: Fields of ``Options`` for all of them.

    Raises:
        UsageError: An option can't be used, a name is unknown, or there is nothing to run.
    """
    _check_options(options)
    if seeds < 1:
        raise UsageError(
            f"--seeds must be at least 1, not {seeds}.",
            field="seeds",
            hint="3 are usual: what differs between them is chance.",
        )
    if not backbones:
        raise UsageError(
            "--backbones must name at least 1 network, not 0.",
            field="backbones",
            hint=f"Name them as zoo:name, or leave it out for {DEFAULT_BACKBONE}.",
        )
    shared = {**options, "split_seed": options.get("split_seed") or 0}
    entries = []
    for strategy, given in _named(strategies):
        own = strategy.backbone
        taken = _taken(strategy, shared)
        if given == AUTO or isinstance(strategy.phases[-1].fit, Solve):
            # Strategies that train learn from train alone: none may have val's images besides.
            taken = {"refit": False, **taken}
        networks = dict.fromkeys([own] if own else backbones)
        for backbone, seed in product(networks, range(seeds)):
            asked = Options(**{**taken, "strategy": given, "backbone": backbone, "seed": seed})
            entries.append(Entry(strategy, asked))
    _check_entries(entries)
    return Lineup(tuple(entries))


def safe_name(name: str) -> str:
    """Return a name that every file system takes; a digest keeps long or foreign ones apart."""
    wanted = name.replace(":", "-")
    plain = re.sub(r"[^A-Za-z0-9._=-]+", "-", wanted).strip(".-")
    return plain if plain == wanted and len(plain) <= 100 else f"{plain[:80]}-{digest(name)[:8]}"


def _changed(options: Options) -> dict[str, Any]:
    default = Options(strategy=options.strategy, backbone=options.backbone)
    values = {it.name: getattr(options, it.name) for it in fields(Options)}
    always = ("strategy", "backbone", "seed")
    return {n: v for n, v in values.items() if n in always or v != getattr(default, n)}


def _check_options(options: Mapping[str, Any]) -> None:
    ours = [name for name in _OURS if name in options]
    if ours:
        raise UsageError(
            f"A comparison can't be given {', '.join(ours)}.",
            field=ours[0],
            hint="It takes strategies, backbones and a number of seeds, and has no gate.",
        )
    Options(**options)


def _named(strategies: Sequence[str | Strategy]) -> Iterator[tuple[Strategy, str | Strategy]]:
    """Look every strategy up; each must have a name of its own."""
    found: dict[Strategy, str | Strategy] = {}
    for given in strategies:
        if isinstance(given, str):
            found.setdefault(names.create(given), given)
        else:
            found.setdefault(given, given)
    called = [safe_name(strategy.name) for strategy in found]
    twice = sorted({name for name in called if called.count(name) > 1})
    if twice or not found:
        what = f"two are called {', '.join(twice)}" if twice else "there is none"
        raise UsageError(
            f"A comparison needs strategies, each with a name of its own; {what}.",
            field="strategies",
            hint=f"Known: {', '.join(names.NAMES)}; or the path of a .toml file.",
        )
    yield from found.items()


def _taken(strategy: Strategy, options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what would change nothing, where no phase trains by steps."""
    trains = any(isinstance(phase.fit, Train) for phase in strategy.phases)
    if trains or options.get("epochs") is not None or options.get("head", "linear") != "linear":
        return dict(options)
    return {name: value for name, value in options.items() if name not in _OF_TRAINING}


def _check_entries(entries: Sequence[Entry]) -> None:
    """Find what can't be asked for now; what else fails is a row later."""
    stages: dict[str, int | None] = {}
    for entry in entries:
        name = entry.options.backbone
        if entry.options.seed:
            continue
        if name not in stages:
            stages[name] = None if entry.strategy.backbone else _stages(entry.options)
        chosen_strategy(entry.options, stages[name])


def _stages(options: Options) -> int | None:
    """Load a network for its stages; None where its weights are missing or broken."""
    try:
        return len(create_backbone(options).stages)
    except UsageError:
        raise
    except HeadstartError:
        return None
