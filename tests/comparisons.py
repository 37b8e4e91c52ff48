"""Comparisons for the tests of everything that shows one, and a fit that takes no time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from headstart import fitting, lineup
from headstart.comparison import Comparison, RunRow
from headstart.files import write_text
from headstart.metrics import Metric
from headstart.run import csv_text
from headstart.verdict import Answers, judge
from reports import report

BACKBONE = "bundled:tiny"
SKILLS = {  # share right, seconds, trained parameters
    "scratch": (0.62, 410.0, 3_400_000),
    "feature-extraction": (0.82, 9.0, 3_843),
    "probe-then-fine-tune": (0.9, 300.0, 3_400_000),
    "last-blocks:2": (0.89, 62.0, 1_200_000),
}


def answers(skill: float, n: int, seed: int) -> Answers:
    """Answers to ``n`` images; hard images are hard for everyone."""
    hard = np.random.default_rng(7).random(n)
    luck = np.random.default_rng([8, seed, round(1000 * skill)]).normal(0, 0.05, n)
    return Answers(tuple(f"a/{i}.jpg" for i in range(n)), hard + luck < skill)


def metric(right: np.ndarray) -> Metric:
    share = float(right.mean())
    return Metric(share, max(0.0, share - 0.04), min(1.0, share + 0.04), len(right))


def comparison(
    skills: dict[str, tuple[float, float, int]] | None = None,
    *,
    seeds: int = 3,
    n: int = 400,
    backbones: Sequence[str] = (BACKBONE,),
    failed: Sequence[str] = (),
    **changes: Any,
) -> Comparison:
    """Make a comparison as ``compare`` would from runs with these skills."""
    rows, found = [], {}
    for name, (skill, seconds, trainable) in (skills or SKILLS).items():
        for place, backbone in enumerate(backbones):
            for seed in range(seeds):
                row = RunRow(strategy=name, backbone=backbone, seed=seed, run=f"runs/{name}-{seed}")
                if name in failed:
                    rows.append(replace(row, failed="The loss is not finite."))
                    continue
                given = answers(skill - 0.03 * place, n, seed)
                found.setdefault(row.key, {})[seed] = given
                measured = metric(given.right)
                rows.append(
                    replace(
                        row,
                        accuracy=measured,
                        val_accuracy=metric(answers(skill - 0.03 * place, 300, seed + 50).right),
                        macro_f1=measured,
                        seconds=seconds * (1 + 0.1 * seed) * (1 + 2 * place),
                        trainable=trainable,
                        total=3_400_000,
                    )
                )
    made = judge(
        rows,
        found,
        data="photos",
        command="headstart compare photos",
        created="2026-05-04T12:31:07+00:00",
        setup={
            "split": {"digest": "b2" * 32, "n_train": 2000, "n_val": 300, "n_test": n},
            "seeds": seeds,
            "options": {"split_seed": 0},
            "machine": {"cpus": 2, "device": "cpu"},
            "versions": {"headstart": "0.1.0"},
        },
    )
    return replace(made, **changes)


class FakeFit:
    """Takes the place of ``headstart.fitting.fit``: writes what a comparison reads of a run.

    Attributes:
        calls: The keyword options of each fit that computed something.
        broken: Strategies that fail, and how.
        longer: Strategies that have a test image more.
        log: The events that log.jsonl holds, by strategy.
    """

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.broken: dict[str, BaseException] = {}
        self.longer: set[str] = set()
        self.log: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, data, out, *, listener, cache, command, **options) -> SimpleNamespace:
        given, seed, out = options["strategy"], options["seed"], Path(out)
        name = given if isinstance(given, str) else given.name
        listener({"event": "stage", "stage": "read", "seconds": 0.0})
        if name in self.broken:
            raise self.broken[name]
        skill, seconds, trainable = SKILLS.get(name, (0.7, 20.0, 10))
        found = answers(skill, 60 + (name in self.longer), seed)
        if not (out / "report.json").exists():
            self.calls.append({"command": command, **options})
            lines = [["item", "split", "label", "predicted", "a", "b"]]
            for item, right in zip(found.items, found.right, strict=True):
                lines.append([item, "test", "a", "a" if right else "b", "0.5", "0.5"])
            lines.append(["a/val.jpg", "val", "a", "b", "0.5", "0.5"])
            write_text(out / "predictions.csv", csv_text(lines))
            write_text(
                out / "log.jsonl",
                "".join(json.dumps(event) + "\n" for event in self.log.get(name, [])),
            )
            write_text(out / "report.json", "{}")
        measured = metric(found.right)
        made = report(
            test={"accuracy": measured, "macro_f1": measured},
            val={"accuracy": metric(answers(skill, 40, seed + 50).right)},
            timings={"total_s": seconds},
            parameters={"trainable": trainable, "total": 3_400_000},
        )
        return SimpleNamespace(report=made)


def fake_fits(monkeypatch: pytest.MonkeyPatch) -> FakeFit:
    """Let comparisons fit by a ``FakeFit``, on a network of two stages, until the test ends."""
    made = FakeFit()
    monkeypatch.setattr(fitting, "fit", made)
    network = SimpleNamespace(stages=("a", "b"))
    monkeypatch.setattr(lineup, "create_backbone", lambda options: network)
    return made
