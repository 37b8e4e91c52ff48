"""What ``auto`` reaches within its budget, beside feature extraction on the same split.

    python benchmarks/auto.py elpv --split 0.6375,0.1125,0.25 --seeds 0 1 2 --budget 20m
    python benchmarks/auto.py ../shared/datasets/trashnet --budget 20m

Each run is a process of its own, so that its seconds have the imports in them. Features that one
run has computed would be there for the next: each gets an empty cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from headstart.cli_values import parse_duration

HEADINGS = (
    *("data", "seed", "auto", "extraction", "gain", "seconds", "budget", "predicted", "kept"),
    "network",
)


def main() -> None:
    """Run both on every seed, and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="what headstart fit takes")
    parser.add_argument("--budget", default="20m")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--split", help="shares, for data without a split of its own")
    parser.add_argument("--backbone", help="one network; by default auto chooses")
    parser.add_argument("--out", type=Path, help="keep the run folders here")
    asked = parser.parse_args()
    print("| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS), sep="\n", flush=True)
    found = []
    for seed in asked.seeds:
        common = [asked.data, "--seed", str(seed)]
        common += ["--split", asked.split] if asked.split else []
        common += ["--backbone", asked.backbone] if asked.backbone else []
        auto, seconds = fit([*common, "--budget", asked.budget], asked.out, f"auto-{seed}")
        plain, _ = fit([*common, "--strategy", "feature-extraction"], asked.out, f"plain-{seed}")
        found.append(auto["test"]["accuracy"]["value"])
        print(row(auto, plain, seconds, asked, seed), flush=True)
    if len(found) > 1:
        mean = sum(found) / len(found)
        print(f"\nmean test accuracy of auto over seeds {asked.seeds}: {mean:.4f}")


def row(
    auto: dict[str, Any],
    plain: dict[str, Any],
    seconds: float,
    asked: argparse.Namespace,
    seed: int,
) -> str:
    """Return a line of the table."""
    reached, extracted = (each["test"]["accuracy"] for each in (auto, plain))
    kept = " > ".join(
        f"{step['accuracy']:.3f}{'' if step['kept'] else ' (not kept)'}"
        for step in auto["auto"]["ladder"]
        if step["accuracy"] is not None
    )
    cells = [
        Path(asked.data).name,
        str(seed),
        f"{reached['value']:.4f} ({reached['low']:.3f} to {reached['high']:.3f}, n {reached['n']})",
        f"{extracted['value']:.4f}",
        f"{100 * (reached['value'] - extracted['value']):+.2f}",
        f"{seconds:.0f}",
        f"{parse_duration('budget', asked.budget):.0f}",
        f"{auto['auto']['total_s']:.0f}",
        kept,
        auto["backbone"]["name"],
    ]
    return "| " + " | ".join(cells) + " |"


def fit(arguments: list[str], out: Path | None, name: str) -> tuple[dict[str, Any], float]:
    """Fit in a process of its own, from an empty cache; return the report and the seconds."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run" if out is None else out / name
        command = [sys.executable, "-m", "headstart", "fit", *arguments, "--out", str(run)]
        environment = os.environ | {"HEADSTART_CACHE": str(Path(folder) / "cache")}
        start = time.perf_counter()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
        report: dict[str, Any] = json.loads((run / "report.json").read_text("utf-8"))
        return report, seconds


if __name__ == "__main__":
    main()
