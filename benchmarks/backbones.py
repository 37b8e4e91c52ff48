"""Feature extraction with other pre-trained networks, beside the bundled one, on the same split.

    python benchmarks/backbones.py DATA [DATA ...] --weights FOLDER

FOLDER holds files of ImageNet weights as `mobilenet_v2/mobilenet_v2_torchvision.pth` and so on; a
network whose file is not there is left out. Each is fitted with the preprocessing that belongs to
it and, to show what that is worth, once with another: pixels of 0 to 1 without mean and std.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

NETWORKS = (
    ("bundled:efficientnet_lite0", None, {}),
    ("torchvision:mobilenet_v2", "mobilenet_v2/mobilenet_v2_torchvision.pth", {}),
    ("timm:mobilenetv2_100", "mobilenet_v2/mobilenetv2_100_timm.safetensors", {}),
    ("torchvision:squeezenet1_1", "squeezenet1_1/squeezenet1_1_torchvision.pth", {}),
    ("keras:MobileNetV2", "mobilenetv2_dogs_keras/dog_breed_mobilenetv2.h5", {"size": 160}),
)
WRONG = {"mean": (0.0, 0.0, 0.0), "std": (255.0, 255.0, 255.0)}


def main() -> None:
    import headstart
    from headstart.cache import Cache

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data", nargs="+")
    parser.add_argument("--weights", type=Path, required=True)
    arguments = parser.parse_args()
    print("| data | network | its own preprocessing | seconds | 0 to 1 instead |")
    print("|---|---|---|---|---|")
    for data in arguments.data:
        for name, file, options in NETWORKS:
            path = None if file is None else arguments.weights / file
            if path is not None and not path.is_file():
                continue
            cells = []
            for changes in ({}, WRONG):
                with tempfile.TemporaryDirectory() as folder:
                    start = time.perf_counter()
                    fitted = headstart.fit(
                        data,
                        f"{folder}/run",
                        backbone=name,
                        weights=path,
                        strategy="feature-extraction",
                        resize="squash",
                        cache=Cache(Path(folder) / "cache"),
                        **options,
                        **({} if path is None else changes),
                    )
                    took = time.perf_counter() - start
                found = fitted.report.test["accuracy"]
                cells.append(f"{found.value:.3f} ({found.low:.3f} to {found.high:.3f})")
                if not changes:
                    cells.append(f"{took:.0f}")
                if path is None:
                    cells.append("")
                    break
            print(f"| {Path(data).name} | `{name}` | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
