"""What a person at a terminal sees: data on stdout, talk and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from headstart.cache import StoreInfo
    from headstart.metrics import Metric
    from headstart.report import Report

__all__ = [
    "Progress",
    "cache_table",
    "predictions_csv",
    "put",
    "put_json",
    "scores_table",
    "summary",
    "talk",
]

_STAGES = {
    "read": "checking the images",
    "features": "computing features",
    "train": "solving the head",
    "evaluate": "evaluating",
}
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "ece": "calibration error",
}


def put(*lines: str) -> None:
    """Print data."""
    for line in lines:
        print(line, flush=True)


def put_json(document: Any) -> None:
    """Print one JSON document."""
    put(json.dumps(document, indent=2, allow_nan=False))


def talk(*lines: str) -> None:
    """Print talk."""
    for line in lines:
        print(line, file=sys.stderr, flush=True)


class Progress:
    """Shows a fit's events: a bar on a terminal, a line a stage where stderr is piped."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._stage = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take one event of a run's log."""
        name = event["event"]
        if name == "plan":
            talk(*event["lines"])
        elif name == "stage" and event["stage"] != "read":
            self._close()
            talk(f"{event['seconds']:6.1f} s  {_STAGES[event['stage']]}")
        elif name == "progress":
            self.bar(event["stage"])(event["done"], event["total"])
        elif name == "features":
            self._close()
            path = event["path"]
            talk(
                f"{event['seconds']:6.1f} s  {event['computed']:,} computed, "
                f"{event['remembered']:,} remembered; {path['precision']} on {path['device']} "
                f"({path['reason']})"
            )
        elif name == "phase":
            talk(f"{event['seconds']:6.1f} s  penalty {event['penalty']:g} by {event['chosen_by']}")
        elif name == "done" and event["already"]:
            talk("This run is already done; nothing was computed.")

    def bar(self, stage: str) -> Callable[[int, int], None]:
        """Return a function (done, total) that moves the bar of a stage."""

        def move(done: int, total: int) -> None:
            if not sys.stderr.isatty():
                return
            if self._stage != stage:
                self._open(stage, total)
            self._bar.update(done - self._bar.n)

        return move

    def _open(self, stage: str, total: int) -> None:
        from tqdm import tqdm

        self._close()
        self._stage = stage
        self._bar = tqdm(total=total, unit=" images", leave=False, desc=_STAGES.get(stage, stage))

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._stage = None, ""


def summary(report: Report) -> list[str]:
    """Return a finished run's result as lines."""
    test = report.test["accuracy"]
    lines = scores_table("test", report.test)
    if report.val["accuracy"].n:
        value = report.val["accuracy"]
        chosen_by = report.strategy["solver"]["chosen_by"]
        lines.append(
            f"val   accuracy {_interval(value)}, n = {value.n:,}; penalty chosen by {chosen_by}"
        )
    lines.append(
        f"judged once on {test.n:,} test images; {report.timings['total_s']:.1f} s in all: "
        f"read {report.timings['read_s']:.1f}, features {report.timings['features_s']:.1f}, "
        f"train {report.timings['train_s']:.1f}, evaluate {report.timings['evaluate_s']:.1f}"
    )
    return lines


def scores_table(part: str, metrics: Mapping[str, Metric]) -> list[str]:
    """Return metrics with their 95 % intervals as lines."""
    n = metrics["accuracy"].n
    lines = [f"{part:<5} {'(95 % interval)':>37}   n = {n:,}"]
    lines += [f"  {_METRICS[name]:<20}{_interval(metric)}" for name, metric in metrics.items()]
    return lines


def predictions_csv(classes: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return predictions as CSV: path, label, probability, then one column a class."""
    from headstart.run import csv_text

    lines = [["path", "label", "probability", *classes]]
    for row in rows:
        shares = [f"{row['probabilities'][name]:.6f}" for name in classes]
        lines.append([row["path"], row["label"], f"{row['probability']:.6f}", *shares])
    return csv_text(lines)


def cache_table(folder: Path, limit: int, stores: Sequence[StoreInfo]) -> list[str]:
    """Return the cache's stores as lines, the most recently used first."""
    used = sum(store.bytes for store in stores)
    lines = [f"{folder}: {used / 1e6:.1f} MB of at most {limit / 1e9:.1f} GB"]
    for store in reversed(stores):
        spec, path = store.key["input"], store.key["path"]
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(store.last_used))
        lines.append(
            f"  {store.rows:>9,} rows {store.bytes / 1e6:>9.1f} MB  {day}  {store.key['backbone']} "
            f"{spec['height']} x {spec['width']} {spec['resize']} {path['precision']}"
        )
    return lines


def _interval(metric: Metric) -> str:
    if metric.value is None:
        return "not measured"
    return f"{metric.value:.3f}  ({metric.low:.3f} to {metric.high:.3f})"
