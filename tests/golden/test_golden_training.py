"""One training run whose losses are written down: whoever changes them must mean to.

A network of random weights, behind its boundary and then as a whole, two epochs in fp32, with
everything that draws: augmentation, dropout, mixing. The tolerance is 1e-4, relative. Measured: a
second thread moves a loss by 2e-7, the instruction set (SSE4.1 or AVX-512) by 4e-7; a seed or a
draw of one's own shows in the second digit.

When a change is meant, ``python tests/golden/test_golden_training.py`` writes the numbers anew.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import headstart
from headstart.cache import Cache
from headstart.strategy.phase import Phase, Rate, Train
from headstart.strategy.strategy import Strategy

sys.path.append(str(Path(__file__).parents[1]))  # for the re-recording; pytest does it by itself
from pictures import picture

FILE = Path(__file__).with_name("training.json")
TOLERANCE = 1e-4
STRATEGY = Strategy(
    "recorded",
    (
        Phase(
            (Rate("head", 3e-3), Rate("stage:-1", 1e-3), Rate("stage:0..-1", None)),
            Train(epochs=2, batch_size=8, ema=0.7, batch_norm="train", clip=0.5),
            "light",
        ),
        Phase(
            (Rate("head", 1e-3), Rate("stage:0..-1", 1e-3)),
            Train(epochs=2, batch_size=8, optimizer="sgd", schedule="cosine", mixup=0.2, l2=1e-3),
            "standard",
        ),
    ),
    weights="random",
    backbone="bundled:small_cnn",
)


def write_pictures(root: Path) -> Path:
    """Write 16 pictures a class, as BMP: how others are packed depends on the library."""
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(16):
            picture(label, number, side=40).save(root / name / f"{number}.bmp")
    return root


def measured(folder: Path) -> dict[str, Any]:
    """Train and return what is to be compared."""
    fitted = headstart.fit(
        write_pictures(folder / "pictures"),
        folder / "run",
        cache=Cache(folder / "cache"),
        strategy=STRATEGY,
        head="linear,dropout=0.2",
        size=32,
        views=2,
        precision="fp32",
    )
    lines = map(json.loads, (fitted.folder / "log.jsonl").read_text().splitlines())
    return {
        "split": fitted.report.split["digest"],
        "losses": [line["loss"] for line in lines if line["event"] == "step"],
        "val_log_losses": [
            epoch["val"]["log_loss"]
            for record in fitted.report.training
            for epoch in record["epochs"]
        ],
        "best_epochs": [record["best_epoch"] for record in fitted.report.training],
        "test_log_loss": fitted.report.test["log_loss"].value,
    }


def test_the_losses_are_those_that_were_written_down(tmp_path):
    expected = json.loads(FILE.read_text())
    found = measured(tmp_path)
    assert found["split"] == expected["split"]
    assert len(found["losses"]) == 12
    for name in ("losses", "val_log_losses", "test_log_loss"):
        assert found[name] == pytest.approx(expected[name], rel=TOLERANCE), name
    assert found["best_epochs"] == expected["best_epochs"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        FILE.write_text(json.dumps(measured(Path(temporary)), indent=2) + "\n")
