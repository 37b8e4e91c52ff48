"""The page of a run: report.html, complete in itself.

It needs nothing but a browser: no script, no request, pictures and thumbnails inside. Names of
classes and files are shown as they are and never interpreted, whatever they contain.

The template says how things look; what is shown, and the geometry of it, is worked out here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headstart.curves import read_curves
from headstart.intervals import wilson
from headstart.markup import percent, render
from headstart.matrix import confused_pairs, draw_matrix
from headstart.metrics import ClassScore, Metric
from headstart.panels import Drawing, draw_curves
from headstart.report import Mistake, Report
from headstart.training_text import (
    course,
    kept,
    phase_rows,
    phase_settings,
    settings,
    stayed,
    trains,
)

__all__ = ["render_html"]

_PAIRS = 10
_NARROW = 340.0  # pixels: the curves on a phone
_MOST_FINDINGS = 12  # that are not folded away
_WORST = 20  # rows of the class table that are not folded away

_METRICS = {
    "accuracy": ("Accuracy", "share of the images that are right"),
    "balanced_accuracy": ("Balanced accuracy", "mean recall: every class counts the same"),
    "macro_f1": ("Macro F1", "mean F1: counts misses and false alarms"),
    "log_loss": ("Log loss", "lower is better; being sure and wrong costs most"),
    "ece": ("Calibration error (ECE)", "lower is better: how far off its percentages are"),
}
_SHARES = ("accuracy", "balanced_accuracy", "macro_f1")
_SEVERITIES = ("error", "warning", "note")
_PARTS = {
    "read_s": "reading and checking the images",
    "choose_s": "deciding what to do",
    "features_s": "features: decoding and the network",
    "train_s": "training",
    "evaluate_s": "evaluating",
    "audit_s": "checking labels and copies by features",
}


def render_html(report: Report, mistakes: Sequence[Mistake]) -> str:
    """Return the page of a run as HTML that can be encoded as UTF-8.

    Args:
        report: The run.
        mistakes: The most confident mistakes on test, the surest first.
    """
    return render(
        "report.html.j2",
        "report.json",
        {"base64": _base64},
        report=report,
        mistakes=mistakes,
        summary=_summary(report),
        gauges=_gauges(report),
        matrix=draw_matrix(report),
        pairs=confused_pairs(report, _PAIRS),
        scores=_scores(report),
        worst=_WORST,
        most=_MOST_FINDINGS,
        strategy=_strategy(report),
        settings=settings(report),
        phases=phase_rows(report),
        course=list(course(report)),
        judges=any("keep" in record for record in report.training),
        drawings=_drawings(report),
        parts=_parts(report.timings),
        findings=sorted(
            report.findings, key=lambda finding: _SEVERITIES.index(finding["severity"])
        ),
    )


@dataclass(frozen=True, slots=True)
class _Gauge:
    """A metric drawn on a scale from ``low`` to ``high``."""

    name: str
    meaning: str
    metric: Metric
    other: Metric | None
    low: float
    high: float
    in_percent: bool

    def at(self, value: float) -> str:
        """Return where ``value`` stands on the scale, as CSS understands it."""
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def text(self, value: float) -> str:
        return percent(value) if self.in_percent else f"{value:.3f}"

    def ends(self) -> tuple[str, str]:
        if self.in_percent:
            return f"{100 * self.low:.0f}", f"{100 * self.high:.0f} %"
        return f"{self.low:g}", f"{self.high:g}"


def _gauges(report: Report) -> list[_Gauge]:
    measured = [m for name in _SHARES for m in (report.test.get(name), report.val.get(name)) if m]
    lows = [metric.low for metric in measured if metric.low is not None]
    floor = int(10 * min(lows, default=0)) / 10  # one scale for all shares, from a round number
    gauges = []
    for name, metric in report.test.items():
        title, meaning = _METRICS.get(name, (name, ""))
        other = report.val.get(name)
        low, high = (floor, 1.0) if name in _SHARES else (0.0, _round_up(metric, other))
        gauges.append(_Gauge(title, meaning, metric, other, low, high, name in _SHARES))
    return gauges


def _round_up(*metrics: Metric | None) -> float:
    highest = max((m.high for m in metrics if m is not None and m.high is not None), default=1.0)
    steps = (step * 10.0**power for power in range(-1, 4) for step in (1, 2, 5))
    return next((step for step in steps if step >= highest), highest)


@dataclass(frozen=True, slots=True)
class _Summary:
    """The headline: the accuracy on test, or on val where there are no test images."""

    on_test: bool
    gauge: _Gauge
    right: int
    wrong: int
    usual: str | None
    usual_share: float
    selected: str | None


def _summary(report: Report) -> _Summary:
    test, val = report.test["accuracy"], report.val["accuracy"]
    metric = test if test.n else val
    right = round((metric.value or 0.0) * metric.n)
    largest = max(report.per_class, key=lambda score: score.support, default=None)
    return _Summary(
        on_test=test.n > 0,
        gauge=_Gauge("Accuracy", "", metric, None, 0.0, 1.0, in_percent=True),
        right=right,
        wrong=metric.n - right,
        usual=largest.name if largest and test.n else None,
        usual_share=largest.support / test.n if largest and test.n else 0.0,
        selected=_selected(report),
    )


def _selected(report: Report) -> str | None:
    last = stayed(report)
    if last is None:
        return None
    return f"Selected by {last['chosen_by']}" if last["kind"] == "solve" else f"Kept: {kept(last)}"


def _scores(report: Report) -> list[tuple[int, ClassScore, _Gauge]]:
    """Return each class with its number and recall, the one with the lowest F1 first."""
    rows = []
    for index, score in enumerate(report.per_class):
        recall = Metric(None, None, None, 0)
        if score.support:
            low, high = wilson(report.confusion[index][index], score.support)
            recall = Metric(score.recall, float(low), float(high), score.support)
        rows.append((index + 1, score, _Gauge("Recall", "", recall, None, 0.0, 1.0, True)))
    return sorted(rows, key=lambda row: 2.0 if row[1].f1 is None else row[1].f1)


def _parts(timings: Mapping[str, float]) -> list[tuple[str, float, float]]:
    """Return what the run's time went into: name, seconds, share of the total."""
    parts = {_PARTS.get(key, key): s for key, s in timings.items() if key != "total_s"}
    rest = timings["total_s"] - sum(parts.values())
    if rest > 0.005 * timings["total_s"]:
        parts["everything else"] = rest
    total = sum(parts.values()) or 1.0
    return [(name, seconds, seconds / total) for name, seconds in parts.items()]


def _strategy(report: Report) -> dict[str, Any]:
    """Return the strategy's facts; those of its phases too where it only solves a head."""
    strategy = report.strategy
    own = {key: fact for key, fact in strategy.items() if key not in ("phases", "solver")}
    facts = {"task": report.task, **{key: fact for key, fact in own.items() if fact is not None}}
    if not trains(report):
        for phase in strategy.get("phases", ()):
            facts |= phase_settings(phase)
        facts |= strategy.get("solver", {})
    return facts


def _drawings(report: Report) -> list[tuple[str, Drawing]]:
    """Return the curves for a wide page and for a phone; none where there is nothing to draw."""
    curves = read_curves(report.training)
    if curves is None:
        return []
    return [("wide", draw_curves(curves)), ("narrow", draw_curves(curves, _NARROW))]


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")
