"""What the solved head reaches: accuracy by data set, head on train against head on train and val.

    python benchmarks/frozen_head.py FOLDER...          # folders of class folders; elpv is a name
    python benchmarks/frozen_head.py elpv --seeds 10
    python benchmarks/frozen_head.py elpv --threads     # also: one thread against all of them

Features come from the user's cache, so only the first run on a data set computes any. A data set
with its own test folder has one test set; the seed then decides what is carved from train for val.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from unittest import mock

import numpy as np

from headstart.cache import Cache
from headstart.options import Options
from headstart.planning import make_plan
from headstart.strategy import presets
from headstart.training import solve as solver
from headstart.training.features import extract

PARTS = ("train", "val", "test")
SOLVE = presets.feature_extraction().phases[0].fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", action="store_true")
    arguments = parser.parse_args()
    print("data           seed  train / val / test      penalty   head on train   on train and val")
    for data in arguments.data:
        runs = []
        for seed in range(arguments.seeds):
            parts = features(data, seed, arguments.precision)
            solved = solver.solve(parts["train"], parts["val"], SOLVE)
            scores = [
                accuracy(parts["test"], solved.val_weight, solved.val_bias),
                accuracy(parts["test"], solved.weight, solved.bias),
            ]
            runs.append(scores)
            sizes = " / ".join(str(len(parts[part][1])) for part in PARTS)
            print(
                f"{data[-14:]:<14} {seed:>4}  {sizes:<20} {solved.penalty:>10g}"
                f"   {scores[0]:>13.4f}   {scores[1]:>16.4f}"
            )
        mean, spread = np.mean(runs, axis=0), np.std(runs, axis=0)
        print(f"{data[-14:]:<14} mean {'':>32}   {mean[0]:>13.4f}   {mean[1]:>16.4f}")
        print(f"{'':<14} std  {'':>32}   {spread[0]:>13.4f}   {spread[1]:>16.4f}")
    if arguments.threads:
        threads(parts)


def features(data: str, seed: int, precision: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    cache = Cache()
    plan = make_plan(
        data, Options(strategy="feature-extraction", seed=seed, precision=precision), cache=cache
    )
    items = plan.checked.items
    found = extract(
        plan.backbone,
        [item.path for item in items],
        plan.checked.digests,
        cache,
        plan.path,
        decide=precision == "auto",
    )
    assert not found.failed
    parts = {}
    for part in PARTS:
        indices = getattr(plan.split, part)
        parts[part] = (found.rows.take(indices), plan.task.encode(plan.labels(indices)))
    return parts


def accuracy(part: tuple[np.ndarray, np.ndarray], weight: np.ndarray, bias: np.ndarray) -> float:
    values, labels = part
    return float(((values @ weight.T + bias).argmax(axis=1) == labels).mean())


def threads(parts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Time the solver on one thread and on all, alternating."""
    free: Callable[..., object] = lambda limits: nullcontext()  # noqa: E731, ARG005
    for _ in range(3):
        for name, limiter in (("one thread", solver.threadpool_limits), ("all threads", free)):
            with mock.patch.object(solver, "threadpool_limits", limiter):
                start = time.perf_counter()
                solver.solve(parts["train"], parts["val"], SOLVE)
                print(f"{name:<12} {time.perf_counter() - start:6.2f} s")


if __name__ == "__main__":
    main()
