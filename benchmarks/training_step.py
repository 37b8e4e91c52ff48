"""Images a second of a full training step on a CPU: layout, precision, batch norm, kept memory.

    python benchmarks/training_step.py [--backbone bundled:efficientnet_lite0] [--size 224]

Each variant is a process of its own, one after the other: forward, loss and backward of a batch of
32, all blocks trained, with as many threads as there are cores; the best of 5 steps counts.

nchw           as the tutorials do it: NCHW, fp32
channels-last  the same in the layout that headstart trains in
bf16           autocast for every layer
mixed          autocast, depthwise convolutions in fp32: what headstart does
+ held         batch norms keep their statistics
+ kept         the process keeps the memory that layers free
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

BASES = ("nchw", "channels-last", "bf16", "mixed")
EXTRAS = ("", "+kept", "+held+kept")
BATCH, STEPS = 32, 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--backbone", default="bundled:efficientnet_lite0")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--blocks", type=int, default=0, help="train only the last so many")
    parser.add_argument("--variant")
    arguments = parser.parse_args()
    if arguments.variant is not None:
        print(json.dumps(measure(arguments)))
        return
    print(f"{'images/s':<16}" + "".join(f"{extra or 'alone':>14}" for extra in EXTRAS))
    for base in BASES:
        found = [child(base + extra) for extra in EXTRAS]
        print(f"{base:<16}" + "".join(f"{speed:>14.1f}" for speed in found), flush=True)


def child(variant: str) -> float:
    command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    speed: float = json.loads(done.stdout.splitlines()[-1])
    return speed


def measure(arguments: argparse.Namespace) -> float:
    import torch
    from torch import nn
    from torch.nn import functional as F

    from headstart.backbones import zoo
    from headstart.training.device import (
        InferencePath,
        autocast,
        keep_freed_memory,
        memory_format,
    )
    from headstart.training.precision import depthwise_in_fp32

    base, *extras = arguments.variant.split("+")
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    layout = "contiguous" if base == "nchw" else "channels_last"
    precision = "bf16" if base in ("bf16", "mixed") else "fp32"
    path = InferencePath("cpu", precision, layout, BATCH)
    if "kept" in extras:
        keep_freed_memory(path)
    backbone = zoo.create(arguments.backbone, random=0, size=arguments.size)
    blocks = list(backbone.chain().to(memory_format=memory_format(path)))
    values = torch.rand(BATCH, 3, arguments.size, arguments.size)
    values = values.contiguous(memory_format=memory_format(path))
    trained = arguments.blocks or len(blocks)
    with torch.no_grad():
        for block in blocks[:-trained]:
            values = block.eval()(values)
    model = nn.Sequential(*blocks[-trained:], nn.Linear(backbone.feature_dim, 10)).train()
    for layer in model.modules():
        if "held" in extras and isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
    labels = torch.arange(BATCH) % 10
    took = []
    with depthwise_in_fp32(path, *[model] * (base == "mixed")):
        for _ in range(STEPS + 1):
            start = time.perf_counter()
            model.zero_grad()
            with autocast(path):
                logits = model(values).float()
            F.cross_entropy(logits, labels).backward()
            took.append(time.perf_counter() - start)
    return BATCH / min(took[1:])


if __name__ == "__main__":
    main()
