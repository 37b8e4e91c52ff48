"""headstart: transfer learning for image classification, from images to a classifier you can trust.

The public names below are loaded when they are first used, so that ``import headstart`` is fast
and loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstart.cache import Cache
    from headstart.catalogue import models
    from headstart.checking import CheckResult, check
    from headstart.classifier import Classifier, load
    from headstart.comparing import compare
    from headstart.comparison import Comparison
    from headstart.errors import HeadstartError
    from headstart.evaluation import Scores
    from headstart.fitting import Fitted, fit
    from headstart.inputspec import InputSpec
    from headstart.labelled import dataset
    from headstart.lint_result import LintResult
    from headstart.linting import lint
    from headstart.options import Options
    from headstart.plan import Plan
    from headstart.prediction import Prediction, Predictions
    from headstart.proposing import propose
    from headstart.report import Report
    from headstart.resuming import resume
    from headstart.strategy.phase import Phase, Rate, Solve, Train
    from headstart.strategy.strategy import Strategy
    from headstart.training.create import create
    from headstart.training.optim import apply, parameter_groups

__version__ = "0.1.0"

_HOMES = {
    "Cache": "cache",
    "CheckResult": "checking",
    "Classifier": "classifier",
    "Comparison": "comparison",
    "Fitted": "fitting",
    "HeadstartError": "errors",
    "InputSpec": "inputspec",
    "LintResult": "lint_result",
    "Options": "options",
    "Phase": "strategy.phase",
    "Plan": "plan",
    "Prediction": "prediction",
    "Predictions": "prediction",
    "Rate": "strategy.phase",
    "Report": "report",
    "Scores": "evaluation",
    "Solve": "strategy.phase",
    "Strategy": "strategy.strategy",
    "Train": "strategy.phase",
    "check": "checking",
    "compare": "comparing",
    "apply": "training.optim",
    "create": "training.create",
    "dataset": "labelled",
    "fit": "fitting",
    "lint": "linting",
    "load": "classifier",
    "models": "catalogue",
    "parameter_groups": "training.optim",
    "propose": "proposing",
    "resume": "resuming",
}

__all__ = [
    "Cache",
    "CheckResult",
    "Classifier",
    "Comparison",
    "Fitted",
    "HeadstartError",
    "InputSpec",
    "LintResult",
    "Options",
    "Phase",
    "Plan",
    "Prediction",
    "Predictions",
    "Rate",
    "Report",
    "Scores",
    "Solve",
    "Strategy",
    "Train",
    "__version__",
    "apply",
    "check",
    "compare",
    "create",
    "dataset",
    "fit",
    "lint",
    "load",
    "models",
    "parameter_groups",
    "propose",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'headstart' has no attribute {name!r}")
    value = getattr(import_module(f"headstart.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
