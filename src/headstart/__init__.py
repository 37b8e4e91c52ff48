"""headstart: transfer learning for image classification, from images to a classifier you can trust.

The public names below are loaded when they are first used, so that ``import headstart`` is fast
and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.cache import Cache
    from headstart.classifier import Classifier, Prediction, Predictions, load
    from headstart.errors import HeadstartError
    from headstart.evaluation import Scores
    from headstart.fitting import Fitted, fit
    from headstart.inputspec import InputSpec
    from headstart.options import Options
    from headstart.report import Report
    from headstart.strategy.phase import Phase, Rate, Solve, Strategy

__version__ = "0.1.0"

_HOMES = {
    "Cache": "cache",
    "Classifier": "classifier",
    "Fitted": "fitting",
    "HeadstartError": "errors",
    "InputSpec": "inputspec",
    "Options": "options",
    "Phase": "strategy.phase",
    "Prediction": "classifier",
    "Predictions": "classifier",
    "Rate": "strategy.phase",
    "Report": "report",
    "Scores": "evaluation",
    "Solve": "strategy.phase",
    "Strategy": "strategy.phase",
    "fit": "fitting",
    "load": "classifier",
}

__all__ = [
    "Cache",
    "Classifier",
    "Fitted",
    "HeadstartError",
    "InputSpec",
    "Options",
    "Phase",
    "Prediction",
    "Predictions",
    "Rate",
    "Report",
    "Scores",
    "Solve",
    "Strategy",
    "__version__",
    "fit",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    value = getattr(import_module(f"headstart.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
