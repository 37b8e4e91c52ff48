"""Reports for the tests of everything that shows one."""

from __future__ import annotations

import io
from dataclasses import asdict, replace

import numpy as np
from PIL import Image

from headstart.metrics import evaluate
from headstart.report import Mistake, Report, thumbnail
from headstart.strategy.phase import Train

SOLVER = {
    "penalty": 0.1,
    "chosen_by": "log loss on val (120 images)",
    "fitted_on": 2120,
    "steps": [[30000.0, 0.7, 9, True]] * 4,
}
SOLVE_PHASE = {
    "rates": [["head", 0.001], ["stage:0..-1", None]],
    "augment": "none",
    "symmetry": "flip",
    "solve": {"penalties": [30000.0, 0.1]},
}


def report(classes=("defective", "functional"), n=120, *, skill=2.0, seed=0, **changes) -> Report:
    """Make the report of a run whose classifier is right about as often as ``skill`` makes it."""
    val, test = (
        evaluate(*predictions(len(classes), n, skill, s), classes) for s in (seed, seed + 1)
    )
    made = Report(
        run="cells-feature-extraction-0",
        task="single-label",
        backbone={"name": "bundled:tiny", "licence": "Apache-2.0", "weights_digest": "a1" * 32},
        strategy={"name": "feature-extraction", "weights": "pretrained", "backbone": None}
        | {"phases": [SOLVE_PHASE], "head": "linear", "solver": SOLVER},
        training=(solved(),),
        parameters={"trainable": 2562, "total": 3_373_570},
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


def solved(phase=1, accuracy=0.9, **changes) -> dict:
    """Return the record of a solved phase."""
    val = None if accuracy is None else {"accuracy": accuracy}
    return {"phase": phase, "kind": "solve", "val": val, **SOLVER} | changes


def trained(phase=1, n=3, *, groups=("blocks.6+head",), rate=3e-4, best=-1, val=True, **changes):
    """Return the record of a trained phase: ``n`` epochs, and a start where it is not the first.

    Args:
        phase: Its number.
        n: How many epochs it took.
        groups: What learns; each at half the rate of the one before.
        rate: Of the first group.
        best: The epoch that was kept, from the end as in a list; None keeps the last.
        val: Whether there is a val set.
        **changes: Other entries, or other values.
    """
    names = [f"{group}{kind}" for group in groups for kind in ("", " (no decay)")]
    epochs = [_epoch(names, rate, e, n, val) for e in range(int(phase == 1 or not val), n + 1)]
    kept = epochs[best]["epoch"] if epochs and val and best is not None else None
    return {
        "phase": phase,
        "kind": "train",
        "epochs": epochs,
        "kept": "last epoch" if kept is None else f"epoch {kept}, best log_loss",
        "best_epoch": kept,
        "monitor": "log_loss",
        "stopped": None,
        "parts": 1,
        "images_at_once": 32,
        "precision": "fp32",
        "views": 8,
        "boundary": 12,
        "seconds": 120.5,
    } | changes


def _epoch(names, rate, epoch, n, val):
    done = epoch / n
    loss = 0.3 + 0.9 * 0.2**done
    judged = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), 1 - 0.4 * 0.1**done)
    judged |= {"log_loss": loss - 0.2 * done + 0.3 * done**4, "ece": 0.05}
    return {
        "epoch": epoch,
        "loss": loss if epoch else None,
        "val": judged if val else None,
        "rates": {name: rate / 2 ** (i // 2) * (1 - 0.9 * done) for i, name in enumerate(names)},
        "seconds": 3.1,
    }


def training(*records, **changes) -> Report:
    """Make the report of a run with these phases."""
    settings = asdict(Train(epochs=20, monitor="log_loss", views=8))
    phase = {"rates": [["head", 3e-4], ["stage:-1", 3e-4], ["stage:0..-1", None]]}
    phase |= {"augment": "light", "symmetry": "flip", "train": settings}
    phases = [SOLVE_PHASE if record["kind"] == "solve" else phase for record in records]
    strategy = {
        "name": "some-strategy",
        "weights": "pretrained",
        "backbone": None,
        "head": "linear",
    }
    parameters = {"trainable": 1_020_162, "total": 3_373_570}
    made = {"strategy": strategy | {"phases": phases}, "parameters": parameters}
    return report(**(made | {"training": records} | changes))


def verdict(kept: bool, *, right=9, spoilt=2, n=120, epoch=3, why=None) -> dict:
    """Return what a phase's record says of whether its weights stay."""
    why = why or ("more than the noise" if kept else "not more than the noise")
    noise = (right + spoilt) ** 0.5 / n
    gain = (right - spoilt) / n
    return {
        "kept": kept,
        "n": n,
        "accuracy_before": 0.8,
        "accuracy_after": 0.8 + gain,
        "difference": gain,
        "noise": noise,
        "log_loss_difference": -0.02,
        "log_loss_noise": 0.03,
        "epoch": epoch,
        "reason": f"of {n} val images it put {right} right and spoilt {spoilt}: accuracy "
        f"{100 * gain:+.1f} points (noise {100 * noise:.1f} points), {why}",
    }


def left_out(phase: int, reason="the time is over") -> dict:
    """Return the record of a phase that was left out."""
    return trained(phase, 1, best=None, epochs=[], skipped=reason, seconds=0.0)


SHORTENED = {"planned": 20, "epoch": 2, "epochs": 6, "pace": 31.25, "left": 130.4}
OVER = {"why": "budget", "epoch": 4, "epochs": 6, "pace": 31.25, "left": 12.6}
IN_IT = {"why": "budget", "epoch": 2, "epochs": 6, "step": 3, "steps": 30, "partial": False}


def ladder(**changes) -> Report:
    """Make the report of a solved head, a phase kept in less time, one tried, one left out."""
    return training(
        solved(accuracy=0.8),
        trained(2, 6, keep=verdict(True, epoch=6), shortened=SHORTENED),
        trained(3, 4, best=0, keep=verdict(False, right=4, spoilt=3), stopped=OVER),
        left_out(
            4, "no time for an epoch of it: an epoch would take about 80 s, and 12 s were left"
        ),
        **changes,
    )


def mistake(name="a/1.jpg", label="defective", predicted="functional", probability=0.9) -> Mistake:
    picture = Image.linear_gradient("L").resize((300, 200))
    return Mistake(name, label, predicted, probability, thumbnail(picture))


def size_of(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as image:
        return image.size
