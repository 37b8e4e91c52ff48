"""What a fit found, and how it becomes the report, the predictions and the pictures."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headstart import __version__
from headstart.ascent import explained
from headstart.audit import Audit
from headstart.backbones.timm_export import timm_config
from headstart.card import model_card
from headstart.classifier import Classifier
from headstart.clock import Clock
from headstart.data.checks.check import Finding, judge_failures
from headstart.data.read import Failure, decode
from headstart.data.splits.split import Split
from headstart.errors import BadImage
from headstart.files import write_json, write_text
from headstart.metrics import Evaluation
from headstart.phases import Trained
from headstart.plan import Plan
from headstart.report import Mistake, Report, thumbnail
from headstart.run import Row, Run
from headstart.training.device import InferencePath
from headstart.training.heads import HeadSpec
from headstart.training.record import gone_back

__all__ = [
    "Outcome",
    "environment",
    "mistakes",
    "prediction_rows",
    "training_findings",
]

SHOWN = 12
_PACKAGES = ("accelerate", "numpy", "pillow", "scikit-learn", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Outcome:
    """The results of a fit, before anything of them is written.

    Attributes:
        plan: What was to be done.
        split: The split without the images that could not be decoded.
        path: The inference path of the classifier.
        computed: How many images this run decoded and passed forward.
        agreement: How often fp32 says the same on val, if that was measured.
        trained: What the phases left.
        results: Metrics of ``val`` and ``test``.
        probabilities: (n, C) of ``train``, ``val`` and ``test``, in the order of the split.
        failed: Images that could not be read.
        replaced: What is to be told of files that changed after the check.
        audit: What the features say of the images, where they were asked.
        without_copies: What is reached on the test images that have no near copy in train or val.
        changed: What had changed when the run was resumed, and was accepted.
        anew: Whether the run then began again, because nothing of it was saved.
    """

    plan: Plan
    split: Split
    path: InferencePath
    computed: int
    agreement: dict[str, Any] | None
    trained: Trained
    results: dict[str, Evaluation]
    probabilities: dict[str, npt.NDArray[np.float64]]
    failed: tuple[Failure, ...]
    replaced: tuple[Finding, ...] = ()
    audit: Audit | None = None
    without_copies: dict[str, Any] | None = None
    changed: tuple[str, ...] = ()
    anew: bool = False

    def report(self, run: str, timings: dict[str, float], command: str) -> Report:
        """Build the report."""
        plan, split, test = self.plan, self.split, self.results["test"]
        return Report(
            run=run,
            task=plan.task.name,
            backbone=plan.details["backbone"] | {"licence": plan.backbone.licence},
            strategy=self._strategy(),
            training=self.trained.records,
            auto=self._auto(timings),
            parameters={
                "trainable": self._most_trained(),
                "total": plan.sizes[0].total,
            },
            split={
                "digest": split.digest,
                "n_train": len(split.train),
                "n_val": len(split.val),
                "n_test": len(split.test),
                "origin": split.origin,
            },
            classes=plan.task.classes,
            val=self.results["val"].metrics,
            test=test.metrics,
            without_copies=self.without_copies,
            confusion=test.confusion,
            per_class=test.per_class,
            timings=timings,
            engine=self._engine(),
            findings=tuple(finding.to_dict() for finding in self._findings()),
            failed=tuple({"name": item.name, "reason": item.reason} for item in self.failed),
            versions=environment()["versions"],
            command=command,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def write(self, run: Run, classifier: Classifier, clock: Clock, command: str) -> Report:
        """Write all that is left of the run folder, report.json last.

        Args:
            run: The folder.
            classifier: What is written to ``model/``.
            clock: Of the run; what is written is of no stage.
            command: The command to show.
        """
        from headstart.figures import confusion_figure, curves_figure, mistakes_figure
        from headstart.page import render_html

        classes = self.plan.task.classes
        run.write_predictions(classes, prediction_rows(self))
        pictures = mistakes(self)
        clock.begin(None)
        report = self.report(run.folder.name, clock.timings(), command)
        linear = HeadSpec.parse(self.plan.options.head).is_linear
        for_timm = linear and timm_config(classifier.backbone, classes) is not None
        classifier.save(run.folder / "model", card=model_card(report, for_timm=for_timm))
        confusion_figure(report, run.folder / "figures" / "confusion.png")
        mistakes_figure(pictures, run.folder / "figures" / "mistakes.png")
        curves_figure(report, run.folder / "figures" / "curves.png")
        report = replace(report, timings=clock.timings())
        write_text(run.folder / "report.html", render_html(report, pictures))
        write_json(run.folder / "report.json", report.to_dict())
        return report

    def _most_trained(self) -> int:
        """Return how many parameters the largest phase trained of those whose weights stayed."""
        phases = zip(self.plan.sizes, self.trained.records, strict=False)
        return max((size.trainable for size, it in phases if not gone_back(it)), default=0)

    def _strategy(self) -> dict[str, Any]:
        document = self.plan.strategy.to_dict() | {"head": self.plan.details["head"]}
        solved = self.trained.solved
        return document if solved is None else document | {"solver": solved.to_dict()}

    def _auto(self, timings: dict[str, float]) -> dict[str, Any] | None:
        decided = self.plan.decided
        if decided is None:
            return None
        return explained(decided, self.trained.records, timings["features_s"])

    def _engine(self) -> dict[str, Any]:
        path = self.path
        return {
            "device": path.device,
            "precision": path.precision,
            "layout": path.layout,
            "compiled": path.compiled,
            "batch_size": path.batch_size,
            "reason": path.reason,
            "parity": path.parity,
            "agreement": self.agreement,
            "images_computed": self.computed,
        }

    def _findings(self) -> Iterator[Finding]:
        plan = self.plan
        n_total = len(plan.checked.items) + len(plan.checked.failed)
        yield from judge_failures(n_total, self.failed, plan.options.max_bad)
        yield from (it for it in plan.checked.findings if it.kind != "unreadable")
        yield from self.split.findings
        yield from self.replaced
        if self.audit is not None:
            yield from self.audit.findings
        if self.changed:
            yield self._forced()
        solved = self.trained.solved
        if solved is not None and not solved.converged:
            yield Finding(
                kind="not-converged",
                severity="warning",
                files=(),
                message=f"The head at penalty {solved.penalty:g} did not converge.",
                hint="Look for features that are constant or huge; or use fewer classes.",
            )
        for record in self.trained.records:
            yield from training_findings(record)

    def _forced(self) -> Finding:
        """Say what ``--force`` did about what had changed."""
        changed = "; ".join(self.changed)
        if self.anew:
            message = (
                "The data had changed when the run was resumed with --force, and nothing of the "
                f"run was saved, so it began again with the data as they are now: {changed}."
            )
            return Finding("forced", "note", (), message)
        message = f"The run was resumed with --force although its data had changed: {changed}."
        hint = "Fit again for a run that can be made again."
        return Finding("forced", "warning", (), message, hint)


def training_findings(record: dict[str, Any]) -> Iterator[Finding]:
    """Yield what a phase's record says that its user should know."""
    for told in record.get("findings", ()):
        message = f"Phase {record['phase']}: {told['message']}"
        yield Finding(told["kind"], told["severity"], tuple(told["files"]), message, told["hint"])
    stopped = record.get("stopped") or {}
    if stopped.get("why") == "not-finite":
        yield Finding(
            kind="not-finite",
            severity="warning",
            files=tuple(stopped["files"]),
            message=f"Phase {record['phase']} stopped: the {stopped['what']} was not finite in "
            f"epoch {stopped['epoch']}, step {stopped['step']}. Kept: {record['kept']}.",
            hint="Lower the rate with --lr, or look at the files of that step.",
        )
    if record.get("parts", 1) > 1:
        yield Finding(
            kind="memory",
            severity="note",
            files=(),
            message=f"Phase {record['phase']} ran out of memory; each step was computed in "
            f"{record['parts']} parts of at most {record['images_at_once']} images, with the "
            "gradients of the whole batch.",
            hint="Take a smaller --batch-size or --size to make it faster.",
        )


def prediction_rows(outcome: Outcome) -> Iterator[Row]:
    """Yield the lines of predictions.csv, part by part, in the order of the split."""
    items, classes = outcome.plan.checked.items, outcome.plan.task.classes
    for part, shares in outcome.probabilities.items():
        for index, row in zip(getattr(outcome.split, part), shares, strict=True):
            item = items[index]
            yield Row(item.name, part, item.label, classes[int(row.argmax())], row.tolist())


def mistakes(outcome: Outcome) -> list[Mistake]:
    """Return the test images that were wrong with the most confidence, pictures included."""
    plan, shares = outcome.plan, outcome.probabilities["test"]
    items = [plan.checked.items[index] for index in outcome.split.test]
    digests = [plan.checked.digests[index] for index in outcome.split.test]
    predicted = shares.argmax(axis=1)
    wrong = [
        row for row, item in enumerate(items) if plan.task.classes[predicted[row]] != item.label
    ]
    wrong.sort(key=lambda row: -shares[row].max())
    return [
        Mistake(
            name=items[row].name,
            label=items[row].label,
            predicted=plan.task.classes[predicted[row]],
            probability=float(shares[row].max()),
            thumbnail=_thumbnail(items[row].path, digests[row]),
        )
        for row in wrong[:SHOWN]
    ]


def _thumbnail(path: Path, digest: str) -> bytes | None:
    """Return a small picture, or None where the file has gone or changed since it was read."""
    try:
        return thumbnail(decode(path, expected=digest))
    except BadImage:
        return None


def environment() -> dict[str, Any]:
    """Return what a run depends on besides its spec: versions, threads, machine."""
    return {
        "versions": {"headstart": __version__, "python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.platform(),
    }
