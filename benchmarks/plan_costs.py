"""Predicted seconds of a plan's steps, beside what then happens.

    python benchmarks/plan_costs.py FOLDER        # holds trashnet, deeppcb_cls, oxford_pets_3breeds
    python benchmarks/plan_costs.py FOLDER --only elpv-2

Five plans, each short, with a cache of its own in which nothing is remembered. The trial comes
first, then the fit; a plan is a process of its own. Goal: each step that takes a second or more,
and each plan as a whole, within a factor of two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FACTOR = 2.0
SHORT = 1.0  # seconds, below which a ratio is noise


@dataclass(frozen=True)
class Case:
    """A plan: its data and its options."""

    data: str
    strategy: str
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "elpv-2": Case("elpv", "last-blocks:2", {"limit": 400, "epochs": 4}),
    "elpv-3": Case(
        "elpv",
        "last-blocks:3",
        {"limit": 300, "epochs": 3, "augment": "light", "symmetry": "square", "average": "square"},
    ),
    "trashnet": Case("trashnet", "probe-then-fine-tune", {"limit": 200, "epochs": 2}),
    "deeppcb": Case("deeppcb_cls", "last-blocks:2", {"size": 160, "epochs": 4, "limit": 500}),
    "pets": Case("oxford_pets_3breeds", "freeze-first:3", {"limit": 200, "epochs": 2}),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=CASES, action="append")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case is not None:
        print(json.dumps(list(both(CASES[arguments.case], arguments.folder))))
        return
    print("| plan | step | predicted s | actual s | predicted / actual |\n|---|---|---|---|---|")
    missed = 0
    for name in arguments.only or CASES:
        command = [sys.executable, __file__, str(arguments.folder), "--case", name]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
        for step, predicted, actual in json.loads(done.stdout.splitlines()[-1]):
            ratio = predicted / actual if actual else float("inf")
            cell = f"{ratio:.2f}" if actual >= SHORT else "-"
            bad = actual >= SHORT and not 1 / FACTOR <= ratio <= FACTOR
            missed += bad and step != "trial"
            print(f"| {name} | {step} | {predicted:.1f} | {actual:.1f} | {cell}{' !' * bad} |")
        sys.stdout.flush()
    print(f"\n{missed} beyond a factor of {FACTOR:g}")


def both(case: Case, folder: Path) -> Iterator[tuple[str, float, float]]:
    """Yield each step of a plan with its predicted and its actual seconds."""
    import headstart
    from headstart.cache import Cache
    from headstart.costs import predict_features, predict_phase, predict_rest
    from headstart.options import Options
    from headstart.planning import make_plan
    from headstart.training.model import Model
    from headstart.trial import measure_costs

    data = case.data if case.data == "elpv" else str(folder / case.data)
    options = {"strategy": case.strategy, **case.options}
    with tempfile.TemporaryDirectory() as place:
        cache = Cache(Path(place) / "cache")
        plan = make_plan(data, Options(**options), cache=cache)
        model = Model(plan.backbone, plan.task.head(plan.backbone.feature_dim))
        train = [plan.checked.items[index].path for index in plan.split.train]
        costs = measure_costs(model, plan.task, plan.strategy, plan.sizes, plan.path, train)
        counts = plan.counts()
        n = sum(counts.values())
        # Without a head to solve, features are only computed for one batch.
        features = predict_features(costs, n if plan.solves else min(n, plan.path.batch_size))
        rest = predict_rest(costs, **counts, average=plan.options.average, audits=plan.audits)
        predicted = [
            ("features", features + (0 if plan.solves else n * costs.decode)),
            *(
                (
                    f"phase {number}",
                    predict_phase(
                        costs.phases[number - 1],
                        phase,
                        plan.sizes[number - 1],
                        counts["n_train"],
                        counts["n_val"],
                    ).total,
                )
                for number, phase in enumerate(plan.strategy.phases, start=1)
            ),
            ("evaluation", rest.evaluation),
            ("audit", rest.audit),
            ("report and the rest", rest.report),
        ]
        fitted = headstart.fit(data, f"{place}/run", cache=cache, **options)
    timings = fitted.report.timings
    phases = [record["seconds"] for record in fitted.report.training]
    stages = [timings.get(f"{name}_s", 0.0) for name in ("features", "evaluate", "audit")]
    others = timings["total_s"] - timings["read_s"] - stages[0] - stages[1] - stages[2]
    actual = [stages[0], *phases, *stages[1:], others - sum(phases)]
    yield "trial", 3.0, costs.took
    steps = [(name, given, real) for (name, given), real in zip(predicted, actual, strict=True)]
    yield from steps
    yield "all", sum(given for _, given, _ in steps), sum(real for *_, real in steps)


if __name__ == "__main__":
    main()
