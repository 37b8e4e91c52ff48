"""The main job: from labelled images to a classifier in a run folder, one step after the other."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headstart.bundle import timm_config
from headstart.cache import Cache
from headstart.card import model_card
from headstart.classifier import Classifier, load
from headstart.data.check import judge_failures
from headstart.data.read import Failure
from headstart.data.split import Split
from headstart.errors import DataError, GateMissed
from headstart.files import write_json, write_text
from headstart.options import Options
from headstart.outcome import Outcome, environment, mistakes, prediction_rows
from headstart.plan import Plan, make_plan
from headstart.report import Report
from headstart.run import Event, Log, Run, read_report
from headstart.training.features import Features, extract
from headstart.training.solve import Solved, solve

__all__ = ["Fitted", "fit"]

Listener = Callable[[Event], None]
Matrix = npt.NDArray[np.float32]
PARTS = ("train", "val", "test")


class Fitted(Classifier):
    """A classifier fresh from ``fit``: it knows its run folder and its report."""

    folder: Path
    report: Report


def fit(
    data: str | Path,
    out: str | Path | None = None,
    *,
    listener: Listener | None = None,
    cache: Cache | None = None,
    command: str | None = None,
    **options: Any,
) -> Fitted:
    """Train a classifier on labelled images and write its run folder.

    Args:
        data: A folder of class folders, or the name of a data set.
        out: The run folder; by default ``runs/DATA-STRATEGY-SEED``.
        listener: Called with each event: stages, progress, the plan, the result.
        cache: Where features are remembered; by default the user's cache folder.
        command: The command to show in the report; by default the Python call.
        **options: The fields of ``headstart.options.Options``.

    Returns:
        The classifier, with its ``folder`` and its ``report``.

    Raises:
        UsageError: An option can't be used, or a name is unknown.
        DataError: The images can't be used.
        ModelError: ``out`` holds something else, or the weights can't be used.
        ResourceError: A folder can't be written, or the device is not there.
        MissingWeights: The weights are not on this machine and can't be downloaded.
        GateMissed: The finished run is below ``minimum``.
    """
    walk = _Walk(data, out, Options(**options), Log(listener), cache or Cache(), command)
    return walk.run()


@dataclass
class _Clock:
    """Seconds by stage; each mark ends a stage."""

    start: float
    last: float
    seconds: dict[str, float]

    def mark(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[f"{stage}_s"] = round(now - self.last, 3)
        self.last = now

    def timings(self) -> dict[str, float]:
        return {"total_s": round(time.perf_counter() - self.start, 3), **self.seconds}


class _Walk:
    """One fit, step by step; every step hands plain values to the next."""

    def __init__(
        self,
        data: str | Path,
        out: str | Path | None,
        options: Options,
        log: Log,
        cache: Cache,
        command: str | None,
    ) -> None:
        self.data = data
        self.out = out
        self.options = options
        self.log = log
        self.cache = cache
        self.command = command or f"headstart.fit({str(data)!r})"
        now = time.perf_counter()
        self.clock = _Clock(now, now, {})

    def run(self) -> Fitted:
        self.log.emit("stage", stage="read")
        plan = make_plan(
            self.data, self.options, cache=self.cache, progress=self.log.progress("read")
        )
        self.log.emit("plan", lines=plan.lines())
        name = f"{plan.dataset.name}-{plan.strategy.name}-{self.options.seed}"
        run = Run.open(self.out, name, plan.spec, data=plan.dataset.root)
        if run.finished:
            self.log.emit("done", run=str(run.folder), already=True)
            return self._hand_out(load(run.folder), run, read_report(run.folder))
        run.write_spec(plan.spec, environment())
        self.log.write_to(run.folder / "log.jsonl")
        self.clock.mark("read")

        self.log.emit("stage", stage="features")
        features, split, failed = self._features(plan)
        self.clock.mark("features")

        self.log.emit("stage", stage="train")
        values, labels = _by_part(plan, split, features)
        solved = self._solve(plan, values, labels)
        classifier = _classifier(plan, features, solved.weight, solved.bias)
        self.clock.mark("train")

        self.log.emit("stage", stage="evaluate")
        # val chose the penalty, and the final head has seen it: val is judged by the head before.
        for_val = _classifier(plan, features, solved.val_weight, solved.val_bias)
        shares = {
            part: (for_val if part == "val" else classifier).probabilities(values[part])
            for part in PARTS
        }
        results = {part: plan.task.evaluate(shares[part], labels[part]) for part in ("val", "test")}
        outcome = Outcome(plan, split, features, solved, results, shares, failed)
        run.write_predictions(plan.task.classes, prediction_rows(outcome))
        report = self._write(run, classifier, outcome)
        self.log.emit("done", run=str(run.folder), already=False, timings=report.timings)
        return self._hand_out(classifier, run, report)

    def _features(self, plan: Plan) -> tuple[Features, Split, tuple[Failure, ...]]:
        """Compute all features, val's first; images that fail leave their part of the split."""
        items = plan.checked.items
        order = [*plan.split.val, *plan.split.train, *plan.split.test]
        features = extract(
            plan.backbone,
            [items[index].path for index in order],
            [plan.checked.digests[index] for index in order],
            self.cache,
            plan.path,
            names=[items[index].name for index in order],
            decide=self.options.precision == "auto",
            progress=self.log.progress("features"),
        )
        failed = (*plan.checked.failed, *features.failed)
        judge_failures(len(items) + len(plan.checked.failed), failed, self.options.max_bad)
        gone = {order[failure.index] for failure in features.failed}
        split = plan.split.without(gone)
        self.log.emit(
            "features",
            images=len(features.rows),
            computed=features.computed,
            remembered=features.remembered,
            failed=len(features.failed),
            path=features.path.to_dict(),
        )
        positions = np.array([order[index] for index in features.positions], dtype=np.int64)
        return replace(features, positions=positions), split, failed

    def _solve(
        self, plan: Plan, values: dict[str, Matrix], labels: dict[str, npt.NDArray[np.int64]]
    ) -> Solved:
        """Run the strategy's phases: for now each strategy is one solved head."""
        (phase,) = plan.strategy.phases
        solved = solve(
            (values["train"], labels["train"]),
            (values["val"], labels["val"]),
            phase.fit,
            balanced=self.options.class_weights == "balanced",
        )
        self.log.emit("phase", phase=1, **solved.to_dict())
        return solved

    def _write(self, run: Run, classifier: Classifier, outcome: Outcome) -> Report:
        """Write all that is left of the run folder, report.json last."""
        from headstart.figures import confusion_figure, mistakes_figure
        from headstart.page import render_html

        pictures = mistakes(outcome)
        self.clock.mark("evaluate")
        report = outcome.report(run.folder.name, self.clock.timings(), self.command)
        for_timm = timm_config(classifier.backbone, classifier.task) is not None
        classifier.save(run.folder / "model", card=model_card(report, for_timm=for_timm))
        confusion_figure(report, run.folder / "figures" / "confusion.png")
        mistakes_figure(pictures, run.folder / "figures" / "mistakes.png")
        report = replace(report, timings=self.clock.timings())
        write_text(run.folder / "report.html", render_html(report, pictures))
        write_json(run.folder / "report.json", report.to_dict())
        return report

    def _hand_out(self, classifier: Classifier, run: Run, report: Report) -> Fitted:
        """Return the classifier, unless a quality gate is missed."""
        fitted = Fitted(
            classifier.backbone, classifier.head, classifier.task, classifier.path, classifier.notes
        )
        fitted.folder, fitted.report = run.folder, report
        missed = [
            f"{name} is {report.test[name].value:.4f}, asked for {minimum:g}"
            for name, minimum in self.options.minimum.items()
            if (report.test[name].value or 0.0) < minimum
        ]
        if missed:
            raise GateMissed(
                f"The run is finished but below its gate: test {'; '.join(missed)}.",
                field="min",
                hint=f"Its report: {run.folder / 'report.html'}",
            )
        return fitted


def _by_part(
    plan: Plan, split: Split, features: Features
) -> tuple[dict[str, Matrix], dict[str, npt.NDArray[np.int64]]]:
    """Return features (n, D) and encoded labels (n,) of each part of the split.

    Raises:
        DataError: After the unreadable images left, a class has no training image or test is empty.
    """
    row_of = {int(index): row for row, index in enumerate(features.positions)}
    values, labels = {}, {}
    for part in PARTS:
        indices: tuple[int, ...] = getattr(split, part)
        values[part] = features.rows.take([row_of[index] for index in indices])
        labels[part] = plan.task.encode(plan.labels(indices))
    learnt = set(labels["train"].tolist())
    gone = [name for label, name in enumerate(plan.task.classes) if label not in learnt]
    if gone or not len(labels["test"]):
        what = f"no readable training image of {', '.join(gone)}" if gone else "no test image"
        raise DataError(f"After the unreadable images were left out, there is {what}.")
    return values, labels


def _classifier(plan: Plan, features: Features, weight: Matrix, bias: Matrix) -> Classifier:
    """Put a solved head on the backbone."""
    head = plan.task.head(plan.backbone.feature_dim)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight))
        head.bias.copy_(torch.from_numpy(bias))
    return Classifier(plan.backbone, head, plan.task, features.path)
