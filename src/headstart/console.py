"""What a person at a terminal sees: data on stdout, talk and progress on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from headstart.training_text import choice, out_of_time, shortened, stops, what_was_kept

if TYPE_CHECKING:
    from headstart.metrics import Metric
    from headstart.report import Report

__all__ = [
    "Progress",
    "one_line",
    "predictions_csv",
    "put",
    "put_json",
    "scores_table",
    "summary",
    "talk",
]

_STAGES = {
    "read": "checking the images",
    "pairs": "comparing likely copies",
    "features": "computing features",
    "decode": "decoding the images",
    "evaluate": "evaluating",
    "audit": "checking labels and copies",
    "choose": "trying what suits these images, on some of the training images",
    "trial": "timing training steps on this machine",
    "rates": "testing learning rates",
}
_METRICS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "ece": "calibration error",
}


# What makes a terminal do something, or show text in another order; tab and newline are ours too.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def one_line(text: str) -> str:
    """Return a text that holds names of files or classes with what would end its line escaped."""
    return text.replace("\n", r"\n").replace("\t", r"\t")


def put(*lines: str) -> None:
    """Print data; what would steer a terminal is escaped."""
    for line in lines:
        print(_tame(line), flush=True)


def put_json(document: Any) -> None:
    """Print one JSON document."""
    print(json.dumps(document, indent=2, allow_nan=False), flush=True)


def talk(*lines: str) -> None:
    """Print talk; what would steer a terminal is escaped."""
    for line in lines:
        print(_tame(line), file=sys.stderr, flush=True)


def _tame(line: str) -> str:
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), line)


class Progress:
    """Shows a fit's events: a line for each stage and epoch; on a terminal a bar within each."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._name = ""

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
        if name == "progress":
            self._move(_bar_name(event), event["done"], event["total"], _unit(event["stage"]))
        elif name == "plan":
            talk(*event["lines"])
        elif name == "done" and event["already"]:
            talk("This run is already done; nothing was computed.")
        elif name == "phase":
            self._close()
            # A trained phase's seconds are its own; it ended with the epoch of the line before.
            when = f"{event['seconds']:6.1f} s" if event["kind"] == "solve" else ""
            talk(f"{when:8}  {choice(event)}")
        elif name in _SAID:
            words = _SAID[name](event)
            if words is not None:
                self._close()
                talk(f"{event['seconds']:6.1f} s  {words}")

    def bar(self, stage: str) -> Callable[[int, int], None]:
        """Return a function (done, total) that moves the bar of a stage."""
        return lambda done, total: self._move(_STAGES.get(stage, stage), done, total, _unit(stage))

    def _move(self, name: str, done: int, total: int, unit: str) -> None:
        if not sys.stderr.isatty():
            return
        if self._name != name:
            self._open(name, total, unit)
        self._bar.update(done - self._bar.n)

    def _open(self, name: str, total: int, unit: str) -> None:
        from tqdm import tqdm

        self._close()
        self._name = name
        self._bar = tqdm(total=total, unit=unit, leave=False, desc=name)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar, self._name = None, ""


def _bar_name(event: Mapping[str, Any]) -> str:
    stage: str = event["stage"]
    if stage == "try":
        return f"trying: {event['what']}"
    if stage not in ("epoch", "views"):
        return _STAGES.get(stage, stage)
    what = ": views behind the frozen blocks" if stage == "views" else ""
    return f"phase {event['phase']}, epoch {event['epoch']}{what}"


def _unit(stage: str) -> str:
    return {"epoch": " steps", "pairs": " pairs", "rates": " steps"}.get(stage, " images")


def _stage(event: Mapping[str, Any]) -> str | None:
    return _STAGES[event["stage"]] if event["stage"] not in ("read", "train") else None


def _features(event: Mapping[str, Any]) -> str:
    path = event["path"]
    return (
        f"{event['computed']:,} computed, {event['remembered']:,} remembered; "
        f"{path['precision']} on {path['device']} ({path['reason']})"
    )


def _phase_start(event: Mapping[str, Any]) -> str:
    doing = "solving the head" if event["kind"] == "solve" else "training"
    return f"phase {event['phase']}: {doing}"


def _epoch(event: Mapping[str, Any]) -> str:
    loss = f"{'start':11}" if event["loss"] is None else f"loss {event['loss']:.4f}"
    val = event["val"] or {}
    judged = ", ".join(f"{name} {val[key]:.3f}" for key, name in _JUDGED if key in val)
    parts = (f"epoch {event['epoch']:>3}", loss, judged and f"val {judged}")
    return "  ".join([*filter(None, parts), f"({event['took']:.1f} s)"])


def _stopped(event: Mapping[str, Any]) -> str:
    if event["why"] == "budget":
        return out_of_time(event)
    if event["why"] == "patience":
        return f"stopped after epoch {event['epoch']}: val no longer improved"
    return (
        f"stopped in epoch {event['epoch']}, step {event['step']}: the {event['what']} is not "
        f"finite; that step was not taken. Its images: {', '.join(event['files'])}"
    )


def _predicted(event: Mapping[str, Any]) -> str:
    took = event["took"]
    time = f"{took:.0f} s" if took < 120 else f"{took / 60:.0f} minutes"
    return f"phase {event['phase']} will take about {time}"


def _memory(event: Mapping[str, Any]) -> str:
    n = event["images"]
    return f"out of memory: going on with {n} image{'' if n == 1 else 's'} at once, same gradients"


def _resumed(event: Mapping[str, Any]) -> str:
    return "; ".join([f"going on in phase {event['phase']}", *event["notes"]])


_JUDGED = (("accuracy", "accuracy"), ("log_loss", "log loss"))


def _decision(event: Mapping[str, Any]) -> str:
    return f"{event['question']}: {event['choice']}"


def _finding(event: Mapping[str, Any]) -> str:
    return f"{event['severity']}: {event['message']} {event['hint']}".rstrip()


_SAID: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "decision": _decision,
    "epoch": _epoch,
    "features": _features,
    "finding": _finding,
    "memory": _memory,
    "phase-start": _phase_start,
    "predicted": _predicted,
    "resume": _resumed,
    "shortened": shortened,
    "stage": _stage,
    "stopped": _stopped,
}


def summary(report: Report) -> list[str]:
    """Return a finished run's result as lines."""
    test = report.test["accuracy"]
    lines = scores_table("test", report.test)
    value = report.val["accuracy"]
    if value.n:
        lines.append(f"val   accuracy {_interval(value)}, n = {value.n:,}")
    if report.without_copies is not None:
        lines.append(_without_copies(report.without_copies))
    outcome = what_was_kept(report)
    if outcome is not None:
        lines.append(outcome)
    lines += stops(report)
    lines += _told(report.findings)
    stages = (
        f"{name.removesuffix('_s')} {seconds:.1f}"
        for name, seconds in report.timings.items()
        if name != "total_s"
    )
    lines.append(
        f"judged once on {test.n:,} test images; {report.timings['total_s']:.1f} s in all: "
        f"{', '.join(stages)}"
    )
    return lines


def _without_copies(document: Mapping[str, Any]) -> str:
    from headstart.metrics import Metric

    n, test = document["left_out"], document["test"]
    if test is None:
        return "      every test image has a near copy in train or val: new ones may be harder"
    images = "1 test image that has" if n == 1 else f"{n:,} test images that have"
    more = "" if document["complete"] else "at least "
    value = _interval(Metric.from_dict(test["accuracy"]))
    return f"      accuracy {value} without {more}{images} a near copy in train or val"


def _told(findings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how many warnings and errors there are of each kind, as a line."""
    kinds = Counter(found["kind"] for found in findings if found["severity"] != "note")
    listed = ", ".join(f"{kind} ({n})" if n > 1 else kind for kind, n in kinds.items())
    return [f"to look at: {listed}; the report says more"] if kinds else []


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


def _interval(metric: Metric) -> str:
    if metric.value is None:
        return "not measured"
    return f"{metric.value:.3f}  ({metric.low:.3f} to {metric.high:.3f})"
