"""How fast `headstart check` reads files, and what an image costs in memory, without features.

    python benchmarks/check_speed.py IMAGES [--photos FOLDER] [--counts 2000,10000]

IMAGES is any folder of images. Photos of 500 x 375 are made of them, each a part of an image of
its own, with the grain that makes a JPEG of quality 90 as large as a camera's. Every count is
inspected in a process of its own, cold and again with what was remembered; near copies are timed
apart. "A core" counts the seconds that processors worked, so that a busy machine matters less.

The promise: 500 images/s on two cores, and less than 1 kB of memory an image.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

SIZE = (500, 375)


def make_photos(images: Path, folder: Path, n: int) -> None:
    """Write ``n`` photos in two class folders; those that are there stay."""
    import numpy as np
    from PIL import Image

    from headstart.data.read import SUFFIXES, decode

    sources = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    grain = np.random.default_rng(0).normal(0, 4, (SIZE[1] + 64, SIZE[0] + 64, 1))
    for number in range(n):
        path = folder / ("odd" if number % 2 else "even") / f"{number:05}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(number)
        image = decode(sources[number % len(sources)]).convert("RGB")
        width, height = (round(side * draw.uniform(0.5, 0.8)) for side in image.size)
        left, top = (
            int(draw.integers(0, whole - part + 1))
            for whole, part in zip(image.size, (width, height), strict=True)
        )
        part = image.resize(SIZE, box=(left, top, left + width, top + height))
        x, y = draw.integers(0, 64, 2)
        noise = grain[y : y + SIZE[1], x : x + SIZE[0]]
        pixels = (np.asarray(part) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, quality=90)


def measure(folder: Path, n: int) -> None:
    """Inspect the first ``n`` photos; print what it took as JSON."""
    from dataclasses import replace

    from headstart.data.checks.copies import exact_groups, near_groups
    from headstart.data.checks.look import look
    from headstart.data.sources import open_dataset
    from headstart.memory import FileMemory

    found = open_dataset(folder)
    dataset = replace(found, items=tuple(sorted(found.items, key=lambda i: i.path.name)[:n]))
    with tempfile.TemporaryDirectory() as place:
        memory = FileMemory(Path(place) / "files.sqlite")
        look(dataset.items[:20], memory)  # what is loaded once is no image's
        memory.forget()
        worked, times = time.process_time(), [time.perf_counter()]
        looks = look(dataset.items, memory)
        times.append(time.perf_counter())
        peak, worked = peak_kb(), time.process_time() - worked
        look(dataset.items, memory)
        times.append(time.perf_counter())
        groups = near_groups(looks, exact_groups(looks))
        times.append(time.perf_counter())
    cold, warm, near = (end - start for start, end in pairwise(times))
    row = {"n": n, "cold": cold, "warm": warm, "near": near, "worked": worked, "peak_kb": peak}
    print(json.dumps(row))
    assert groups is not None
    assert len(looks.items) == n


def peak_kb() -> int:
    """Return the most memory this process held (Linux), in kB.

    The kernel's own account, because ``ru_maxrss`` of a new process starts at its parent's.
    """
    status = Path("/proc/self/status").read_text("utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--photos", type=Path, help="where the photos are made, and kept")
    parser.add_argument("--counts", default="2000,10000")
    parser.add_argument("--measure", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments.images, arguments.measure)
        return
    counts = sorted(int(count) for count in arguments.counts.split(","))
    with tempfile.TemporaryDirectory() as place:
        photos = arguments.photos or Path(place)
        make_photos(arguments.images, photos, counts[-1])
        sizes = [path.stat().st_size for path in photos.rglob("*.jpg")]
        print(f"{len(sizes)} photos of {sum(sizes) / len(sizes) / 1000:.0f} kB\n")
        print("| images | images/s | a core | again, images/s | near copies, s | memory, MB |")
        print("|---|---|---|---|---|---|")
        rows = []
        for count in counts:
            command = [sys.executable, __file__, str(photos), "--measure", str(count)]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            row = json.loads(done.stdout)
            rows.append(row)
            print(
                f"| {row['n']:,} | {row['n'] / row['cold']:.0f} "
                f"| {row['n'] / row['worked']:.0f} | {row['n'] / row['warm']:.0f} "
                f"| {row['near']:.1f} | {row['peak_kb'] / 1000:.0f} |"
            )
        grown = rows[-1]["peak_kb"] - rows[0]["peak_kb"]
        more = rows[-1]["n"] - rows[0]["n"]
        if more:
            print(f"\n{1000 * grown / more:.0f} bytes an image more")


if __name__ == "__main__":
    main()
