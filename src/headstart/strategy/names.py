"""The names of the strategies, and what they say.

A name may carry arguments: ``last-blocks:2``, ``freeze-first:100layers``,
``gradual:epochs=2/3/5,rates=1e-3/1e-4/1e-5``, ``table:500-2000``. A path that ends in ``.toml`` is
a name too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from headstart.errors import UnknownName, UsageError
from headstart.strategy.ladder import ladder, possible_steps
from headstart.strategy.presets import (
    EPOCHS,
    SMALL_CNN,
    bias_only,
    discriminative,
    feature_extraction,
    fine_tune,
    freeze_first,
    gradual,
    gradual_blockwise,
    last_blocks,
    norm_only,
    probe_then_fine_tune,
    scratch,
)
from headstart.strategy.published import bit, table
from headstart.strategy.strategy import Strategy

__all__ = ["NAMES", "create"]

NAMES = (
    "auto",
    "feature-extraction",
    "probe-then-fine-tune",
    "fine-tune",
    "last-blocks:N",
    "freeze-first:N",
    "freeze-first:Nlayers",
    "gradual",
    "gradual:blockwise",
    "discriminative",
    "norm-only",
    "bias-only",
    "scratch",
    "scratch:small-cnn",
    "table:LOW-HIGH",
    "bit",
)
_PLAIN: dict[str, Callable[[], Strategy]] = {
    "feature-extraction": feature_extraction,
    "probe-then-fine-tune": probe_then_fine_tune,
    "fine-tune": fine_tune,
    "norm-only": norm_only,
    "bias-only": bias_only,
    "scratch": scratch,
    "scratch:small-cnn": lambda: scratch(backbone=SMALL_CNN),
    "last-blocks": last_blocks,
}


def create(name: str, stages: int | None = None, images: int | None = None) -> Strategy:
    """Return the strategy of this name, or the one in this TOML file.

    Args:
        name: One of ``NAMES``, arguments filled in; or the path of a ``.toml`` file.
        stages: How many stages the network has, for strategies that rate each; None where that
            is not known yet, and only the name is to be read.
        images: How many images there are to learn from, for strategies that go by that; None where
            that is not known yet, likewise.

    Raises:
        UnknownName: There is none.
        UsageError: Its arguments or its file can't be read.
    """
    if name.endswith(".toml"):
        return Strategy.from_toml(Path(name))
    if name in _PLAIN:
        return _PLAIN[name]()
    if name == "auto":  # all that it may choose of
        return ladder([phase for _, phase in possible_steps(stages or 7)])
    kind, _, argument = name.partition(":")
    if kind == "last-blocks" and re.fullmatch("[1-9][0-9]*", argument):
        return last_blocks(int(argument))
    if kind == "freeze-first" and (found := re.fullmatch("([1-9][0-9]*)(layers)?", argument)):
        return freeze_first(int(found[1]), layers=found[2] is not None)
    if kind == "table":
        return _table(name, argument, images)
    if name == "bit":
        return bit(images)
    if kind == "gradual":
        return _gradual(name, argument, stages or 1)
    if kind == "discriminative":
        return _discriminative(name, argument, stages)
    known = f"Known: {', '.join(NAMES)}; or the path of a .toml file."
    raise UnknownName("strategy", name, NAMES, field="strategy", hint=known)


def _table(name: str, argument: str, images: int | None) -> Strategy:
    found = re.fullmatch("([0-9]{1,12})-([0-9]{1,12})", argument)
    if found is None:
        raise UsageError(
            f"{name} needs two whole numbers of images with a dash between, as table:500-2000.",
            field="strategy",
        )
    return table(int(found[1]), int(found[2]), images)


def _gradual(name: str, argument: str, stages: int) -> Strategy:
    if argument == "blockwise":
        return gradual_blockwise(stages)
    given = _arguments(name, argument, {"epochs", "rates"})
    epochs = given.get("epochs", (EPOCHS, EPOCHS, EPOCHS))
    rates = given.get("rates", (1e-3, 1e-4, 1e-5))
    whole = all(float(value).is_integer() for value in epochs)
    if len(epochs) != 3 or len(rates) != 3 or not whole:
        raise UsageError(
            f"{name} needs three whole numbers of epochs and three rates, as "
            "epochs=3/3/4,rates=1e-3/1e-4/1e-5.",
            field="strategy",
        )
    return replace(gradual([int(value) for value in epochs], rates), name=name)


def _discriminative(name: str, argument: str, stages: int | None) -> Strategy:
    if argument and "=" not in argument:
        rates = _numbers(name, argument)
        return discriminative(len(rates) - 1 if stages is None else stages, rates=rates)
    given = _arguments(name, argument, {"decay", "low", "high"})
    if any(len(values) > 1 for values in given.values()) or {"decay", "low"} <= given.keys():
        raise UsageError(
            f"{name} needs one number each for high and either low or decay, as "
            "high=1e-3,decay=0.5.",
            field="strategy",
        )
    low, high = (given.get(key, (default,))[0] for key, default in (("low", 1e-5), ("high", 1e-3)))
    decay = given["decay"][0] if "decay" in given else None
    return replace(discriminative(stages or 1, low, high, decay), name=name)


def _arguments(name: str, text: str, known: set[str]) -> dict[str, tuple[float, ...]]:
    """Turn ``epochs=3/3/4,rates=1e-3/1e-4/1e-5`` into numbers by name."""
    given = {}
    for part in filter(None, text.split(",")):
        key, _, values = part.partition("=")
        if key not in known:
            raise UsageError(
                f"{name} takes {', '.join(sorted(known))}, not {key!r}.",
                field="strategy",
                hint="Write name=value, with a comma between two of them.",
            )
        given[key] = _numbers(name, values)
    return given


def _numbers(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(value) for value in text.split("/"))
    except ValueError as error:
        raise UsageError(
            f"{name} needs numbers with slashes between, as 1e-5/1e-4/1e-3, not {text!r}.",
            field="strategy",
        ) from error
