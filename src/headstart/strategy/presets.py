"""The strategies that have a name."""

from __future__ import annotations

from headstart.errors import UnknownName
from headstart.strategy.phase import HEAD, Phase, Rate, Solve, Strategy

__all__ = ["DEFAULT", "PENALTIES", "create", "feature_extraction"]

DEFAULT = "feature-extraction"
PENALTIES = (3e4, 1e4, 3e3, 1e3, 3e2, 1e2, 30.0, 10.0)


def feature_extraction(penalties: tuple[float, ...] = PENALTIES) -> Strategy:
    """Freeze the whole backbone and solve a linear head on its features.

    The place to start: a frozen network's features are computed once, and a solved head needs no
    learning rate, no epochs and no luck. docs/benchmarks.md has the accuracy and time measured on
    the solar cells, trashnet and deeppcb_cls.

    Args:
        penalties: The L2 penalties that val chooses from, strongest first.
    """
    rates = (Rate(HEAD, 1e-3), Rate("stage:0..-1", None))
    return Strategy("feature-extraction", (Phase(rates, Solve(penalties)),))


_PRESETS = {"feature-extraction": feature_extraction}


def create(name: str) -> Strategy:
    """Return the strategy of this name.

    Raises:
        UnknownName: There is none.
    """
    if name not in _PRESETS:
        raise UnknownName("strategy", name, _PRESETS, field="strategy")
    return _PRESETS[name]()
