"""Reports for the tests of everything that shows one."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from headstart.metrics import evaluate
from headstart.report import Mistake, Report, thumbnail


def report(classes=("defective", "functional"), n=120, *, skill=2.0, seed=0, **changes) -> Report:
    """Make the report of a run whose classifier is right about as often as ``skill`` makes it."""
    val, test = (
        evaluate(*predictions(len(classes), n, skill, s), classes) for s in (seed, seed + 1)
    )
    made = Report(
        run="cells-feature-extraction-0",
        task="single-label",
        backbone={"name": "bundled:tiny", "licence": "Apache-2.0", "weights_digest": "a1" * 32},
        strategy={
            "name": "feature-extraction",
            "phases": [
                {
                    "rates": [["head", 0.001], ["stage:0..-1", None]],
                    "fit": {"solve": {"penalties": [30000.0, 0.1]}},
                }
            ],
            "solver": {
                "penalty": 0.1,
                "steps": [[30000.0, 0.7, 9, True]] * 4,
                "chosen_by": "log loss on val (120 images)",
            },
        },
        split={"digest": "b2" * 32, "n_train": 2000, "n_val": n, "n_test": n},
        classes=tuple(classes),
        val=val.metrics,
        test=test.metrics,
        confusion=test.confusion,
        per_class=test.per_class,
        timings={
            "total_s": 130.0,
            "read_s": 3.0,
            "features_s": 80.0,
            "train_s": 4.0,
            "evaluate_s": 0.05,
        },
        engine={
            "device": "cpu",
            "precision": "bf16",
            "layout": "channels_last",
            "compiled": False,
            "reason": "computed natively here",
            "agreement": {"labels": 0.99, "n": 120},
        },
        findings=(),
        failed=(),
        versions={"headstart": "0.1.0", "torch": "2.15.0"},
        command="headstart fit cells/ --seed 0",
        created="2026-05-04T12:31:07+00:00",
    )
    return replace(made, **changes)


def predictions(n_classes, n, skill, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    odds = np.exp(rng.normal(size=(n, n_classes)) + skill * np.eye(n_classes)[labels])
    return odds / odds.sum(axis=1, keepdims=True), labels


def mistake(name="a/1.jpg", label="defective", predicted="functional", probability=0.9) -> Mistake:
    picture = Image.linear_gradient("L").resize((300, 200))
    return Mistake(name, label, predicted, probability, thumbnail(picture))


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        return image.size
