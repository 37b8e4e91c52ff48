"""Seconds an epoch: behind the boundary cache, recomputing the prefix, everything, the usual loop.

    python benchmarks/training_epoch.py [--data elpv] [--images 512] [--epochs 3]

Each variant is a process of its own, one after the other, on the same split of the same images:

boundary     last-blocks:2, what the frozen blocks give is remembered
recomputed   the same phase, the cache without room, so that every step computes them
full         fine-tune
usual        the loop of the tutorials: eager, NCHW, fp32, everything trained, pixels in memory

An epoch is one pass over the training images and one over val, without augmentation; the median of
all epochs but the first counts. The usual loop's images are decoded before the clock starts, as
headstart's are by then.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from statistics import median

VARIANTS = ("boundary", "recomputed", "full", "usual")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", default="elpv")
    parser.add_argument("--backbone", default="bundled:efficientnet_lite0")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--variant", choices=VARIANTS)
    arguments = parser.parse_args()
    if arguments.variant is not None:
        run = usual if arguments.variant == "usual" else ours
        print(json.dumps(run(arguments)))
        return
    print(f"{'variant':<12}{'s an epoch':>11}{'images/s':>10}{'val accuracy':>14}")
    found = {}
    with tempfile.TemporaryDirectory() as cache:
        for variant in VARIANTS:
            found[variant] = result = child(variant, cache)
            speed = result["images"] / result["seconds"]
            print(
                f"{variant:<12}{result['seconds']:>11.2f}{speed:>10.1f}{result['accuracy']:>14.3f}",
                flush=True,
            )
    seconds = {variant: result["seconds"] for variant, result in found.items()}
    print(f"boundary is {seconds['recomputed'] / seconds['boundary']:.1f} times recomputed,")
    print(f"            {seconds['full'] / seconds['boundary']:.1f} times full")
    print(f"full is     {seconds['usual'] / seconds['full']:.1f} times the usual loop")


def child(variant: str, cache: str) -> dict[str, float]:
    environment = {**os.environ, "HEADSTART_CACHE": cache}
    if variant == "recomputed":
        environment["HEADSTART_CACHE_SIZE"] = "0"
    command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def ours(arguments: argparse.Namespace) -> dict[str, float]:
    import headstart

    strategy = "fine-tune" if arguments.variant == "full" else "last-blocks:2"
    with tempfile.TemporaryDirectory() as out:
        fitted = headstart.fit(
            arguments.data,
            f"{out}/run",
            strategy=strategy,
            backbone=arguments.backbone,
            epochs=arguments.epochs,
            augment="none",
            limit=arguments.images,
        )
    epochs = [epoch for epoch in fitted.report.training[-1]["epochs"] if epoch["epoch"]]
    return {
        "seconds": median(epoch["seconds"] for epoch in epochs[1:]),
        "images": fitted.report.split["n_train"],
        "accuracy": epochs[-1]["val"]["accuracy"],
    }


def usual(arguments: argparse.Namespace) -> dict[str, float]:
    import torch
    from torch import nn
    from torch.nn import functional as F

    from headstart.cache import Cache
    from headstart.data.transforms import normalise
    from headstart.options import Options
    from headstart.planning import make_plan
    from headstart.training.pixels import decode_all

    options = Options(
        strategy="feature-extraction", backbone=arguments.backbone, limit=arguments.images
    )
    plan = make_plan(arguments.data, options, cache=Cache())
    parts = {}
    for part in ("train", "val"):
        indices = getattr(plan.split, part)
        spec = plan.backbone.input_spec
        rows = decode_all(
            spec,
            [plan.checked.items[index].path for index in indices],
            [plan.checked.digests[index] for index in indices],
            Cache(),
        ).rows.all()
        labels = torch.from_numpy(plan.task.encode(plan.labels(indices)))
        parts[part] = torch.from_numpy(normalise(rows, spec)), labels
    model = nn.Sequential(plan.backbone.chain(), plan.task.head(plan.backbone.feature_dim))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    took = []
    for _ in range(arguments.epochs):
        start = time.perf_counter()
        model.train()
        images, labels = parts["train"]
        for rows in torch.randperm(len(labels)).split(32):
            loss = F.cross_entropy(model(images[rows]), labels[rows], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        right = 0
        with torch.no_grad():
            for batch, theirs in zip(*(values.split(32) for values in parts["val"]), strict=True):
                right += int((model(batch).argmax(1) == theirs).sum())
        took.append(time.perf_counter() - start)
    return {
        "seconds": median(took[1:]),
        "images": len(parts["train"][1]),
        "accuracy": right / len(parts["val"][1]),
    }


if __name__ == "__main__":
    main()
