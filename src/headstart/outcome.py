"""What a fit found, and how it becomes the report, the predictions and the pictures."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from headstart import __version__
from headstart.data.check import Finding, judge_failures
from headstart.data.read import Failure, decode
from headstart.data.split import Split
from headstart.metrics import Evaluation
from headstart.plan import Plan
from headstart.report import Mistake, Report, thumbnail
from headstart.run import Row
from headstart.training.features import Features
from headstart.training.solve import Solved

__all__ = ["Outcome", "environment", "mistakes", "prediction_rows"]

SHOWN = 12
_PACKAGES = ("numpy", "pillow", "scikit-learn", "timm", "torch", "torchvision")


@dataclass(frozen=True)
class Outcome:
    """The results of a fit, before anything of them is written.

    Attributes:
        plan: What was to be done.
        split: The split without the images that could not be decoded.
        features: The features and the path they came by.
        solved: The head.
        results: Metrics of ``val`` and ``test``.
        probabilities: (n, C) of ``train``, ``val`` and ``test``, in the order of the split.
        failed: Images that could not be read.
    """

    plan: Plan
    split: Split
    features: Features
    solved: Solved
    results: dict[str, Evaluation]
    probabilities: dict[str, npt.NDArray[np.float64]]
    failed: tuple[Failure, ...]

    def report(self, run: str, timings: dict[str, float], command: str) -> Report:
        """Build the report."""
        plan, split, test = self.plan, self.split, self.results["test"]
        return Report(
            run=run,
            task=plan.task.name,
            backbone=plan.spec["backbone"] | {"licence": plan.backbone.licence},
            strategy=plan.strategy.to_dict() | {"solver": self.solved.to_dict()},
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

    def _engine(self) -> dict[str, Any]:
        path = self.features.path
        return {
            "device": path.device,
            "precision": path.precision,
            "layout": path.layout,
            "compiled": path.compiled,
            "batch_size": path.batch_size,
            "reason": path.reason,
            "parity": path.parity,
            "agreement": self._agreement(),
            "images_computed": self.features.computed,
        }

    def _agreement(self) -> dict[str, Any] | None:
        """Tell how often the head says the same on fp32's features, on the val images that have."""
        reference = self.features.reference
        if reference is None:
            return None
        digests = [self.plan.checked.digests[index] for index in self.split.val]
        unknown = set(reference.missing(digests))
        known = [row for row, image in enumerate(digests) if image not in unknown]
        if not known:
            return None
        exact = reference.rows([digests[row] for row in known]).all()
        logits = exact @ self.solved.val_weight.T + self.solved.val_bias
        same = logits.argmax(axis=1) == self.probabilities["val"][known].argmax(axis=1)
        return {"value": float(same.mean()), "n": len(known)}

    def _findings(self) -> Iterator[Finding]:
        plan = self.plan
        n_total = len(plan.checked.items) + len(plan.checked.failed)
        yield from judge_failures(n_total, self.failed, plan.options.max_bad)
        yield from (finding for finding in plan.findings if finding.kind != "unreadable")
        if not self.solved.converged:
            yield Finding(
                kind="not-converged",
                severity="warning",
                files=(),
                message=f"The head at penalty {self.solved.penalty:g} did not converge.",
                hint="Look for features that are constant or huge; or use fewer classes.",
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
            thumbnail=thumbnail(decode(items[row].path)),
        )
        for row in wrong[:SHOWN]
    ]


def environment() -> dict[str, Any]:
    """Return what a run depends on besides its spec: versions, threads, machine."""
    return {
        "versions": {"headstart": __version__, "python": platform.python_version()}
        | {package: version(package) for package in _PACKAGES},
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "machine": platform.platform(),
    }
