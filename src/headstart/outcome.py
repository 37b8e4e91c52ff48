"""What a fit found, and how it becomes the report, the predictions and the pictures."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headstart import __version__
from headstart.data.check import Finding, judge_failures
from headstart.data.read import Failure, decode
from headstart.data.split import Split
from headstart.errors import BadImage
from headstart.metrics import Evaluation
from headstart.phases import Trained
from headstart.plan import Plan
from headstart.report import Mistake, Report, thumbnail
from headstart.run import Row
from headstart.training.device import InferencePath
from headstart.training.features import Features
from headstart.training.solve import Solved

__all__ = [
    "Outcome",
    "agreement",
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
    changed: tuple[str, ...] = ()
    anew: bool = False

    def report(self, run: str, timings: dict[str, float], command: str) -> Report:
        """Build the report."""
        plan, split, test = self.plan, self.split, self.results["test"]
        return Report(
            run=run,
            task=plan.task.name,
            backbone=plan.spec["backbone"] | {"licence": plan.backbone.licence},
            strategy=self._strategy(),
            training=self.trained.records,
            parameters={
                "trainable": max(size.trainable for size in plan.sizes),
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

    def _strategy(self) -> dict[str, Any]:
        document = self.plan.strategy.to_dict() | {"head": self.plan.spec["head"]}
        solved = self.trained.solved
        return document if solved is None else document | {"solver": solved.to_dict()}

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
        yield from (finding for finding in plan.findings if finding.kind != "unreadable")
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


def agreement(
    features: Features, solved: Solved, digests: Sequence[str], plain: npt.NDArray[np.float32]
) -> dict[str, Any] | None:
    """Tell how often the head says the same on fp32's features, on the val images that have any.

    Args:
        features: Their ``reference`` holds fp32's.
        solved: The head.
        digests: Of the n val images.
        plain: (n, D) their features on the path of the run.
    """
    reference = features.reference
    if reference is None:
        return None
    unknown = set(reference.missing(digests))
    known = [row for row, image in enumerate(digests) if image not in unknown]
    if not known:
        return None
    exact = reference.rows([digests[row] for row in known]).all()
    said, expected = (
        (values @ solved.val_weight.T + solved.val_bias).argmax(axis=1)
        for values in (plain[known], exact)
    )
    same = said == expected
    return {"value": float(same.mean()), "n": len(known)}


def training_findings(record: dict[str, Any]) -> Iterator[Finding]:
    """Yield what a phase's record says that its user should know."""
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
            thumbnail=_thumbnail(items[row].path),
        )
        for row in wrong[:SHOWN]
    ]


def _thumbnail(path: Path) -> bytes | None:
    """Return a small picture, or None where the file has gone or changed since it was read."""
    try:
        return thumbnail(decode(path))
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
