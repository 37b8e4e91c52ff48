"""Faults planted in a copy of a data set, and how many of them ``check --deep`` finds.

    python benchmarks/planted_faults.py FOLDER [--limit 1000] [--seed 0] [--resize squash]
    python benchmarks/planted_faults.py elpv

The data set (or a stratified part of it) is copied with a split of its own, train and test, to a
temporary folder and checked as it is. Then there are planted: 40 exact copies, 40 near copies
(re-encoded, resized, mirrored, and all of it at once), half of each across the split, 5 % swapped
labels, 10 broken files, and one class of which every image is saved at another size. What the
untouched data already had is not held against the check.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from headstart.checking import CheckResult, check
from headstart.data.read import decode
from headstart.data.sources import open_dataset

EXACT = NEAR = 40
BROKEN = 10
SWAPPED = 0.05
HELD_OUT = 0.2
SHRUNK = 0.8  # of the leaked class's sides


@dataclass
class Planted:
    """What was planted: pairs and names of files, relative to the data.

    ``origin`` tells of a copy or a renamed file which untouched one it was.
    """

    exact: list[tuple[str, str]] = field(default_factory=list)
    near: dict[tuple[str, str], str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    swapped: list[str] = field(default_factory=list)
    leaked: str = ""
    origin: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """One image of the copy."""

    split: str
    label: str
    name: str

    @property
    def path(self) -> str:
        return f"{self.split}/{self.label}/{self.name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--limit", type=int, help="images to take, stratified")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resize", choices=("crop", "squash", "pad"))
    arguments = parser.parse_args()
    options = {"max_bad": 0.5, "resize": arguments.resize}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        files = list(copied(arguments.data, root, arguments.limit, arguments.seed))
        before = check(root, deep=True, **options)
        planted = plant(root, files, np.random.default_rng(arguments.seed))
        start = time.perf_counter()
        after = check(root, deep=True, **options)
        seconds = time.perf_counter() - start
        print(f"{arguments.data}: {len(files)} images, seed {arguments.seed}, {seconds:.0f} s")
        report(planted, before, after)


def copied(data: str, root: Path, limit: int | None, seed: int) -> Iterator[File]:
    """Copy images to ``root/SPLIT/CLASS/NAME``, and yield where they are."""
    dataset = open_dataset(data)
    rng = np.random.default_rng([seed, 1])
    share = min(1, (limit or len(dataset.items)) / len(dataset.items))
    for label in dataset.classes:
        members = [item for item in dataset.items if item.label == label]
        order = rng.permutation(len(members))[: round(share * len(members))]
        for place, number in enumerate(order.tolist()):
            split = "test" if place < HELD_OUT * len(order) else "train"
            source = members[number].path
            file = File(split, label, f"{number:05}{source.suffix}")
            target = root / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            yield file


def plant(root: Path, files: list[File], rng: np.random.Generator) -> Planted:
    """Plant all faults, each in images of its own."""
    planted = Planted(leaked=sorted({file.label for file in files})[-1])
    labels = sorted({file.label for file in files})
    n_swapped = round(SWAPPED * len(files))
    order = [files[number] for number in rng.permutation(len(files))]
    parts = iter(order)
    for number in range(EXACT):
        file = next(parts)
        copy = beside(file, f"copy-{number}{Path(file.name).suffix}", across=number % 2 == 0)
        shutil.copyfile(root / file.path, root / copy.path)
        planted.exact.append((file.path, copy.path))
        planted.origin[copy.path] = file.path
    for number in range(NEAR):
        file = next(parts)
        copy = beside(file, f"near-{number}.jpg", across=number % 2 == 0)
        how = tuple(CHANGES)[number // 2 % len(CHANGES)]
        CHANGES[how](decode(root / file.path).convert("RGB")).save(root / copy.path, quality=75)
        planted.near[file.path, copy.path] = how
        planted.origin[copy.path] = file.path
    for number in range(BROKEN):
        file = next(parts)
        content = (root / file.path).read_bytes()
        (root / file.path).write_bytes(broken(content, number))
        planted.broken.append(file.path)
    for number in range(n_swapped):
        file = next(parts)
        others = [label for label in labels if label != file.label]
        other = others[rng.integers(len(others))]
        wrong = replace(file, label=other, name=f"swap-{number}{Path(file.name).suffix}")
        shutil.move(root / file.path, root / wrong.path)
        planted.swapped.append(wrong.path)
        planted.origin[wrong.path] = file.path
    shrink(root, planted)
    return planted


def beside(file: File, name: str, *, across: bool) -> File:
    split = {"train": "test", "test": "train"}[file.split] if across else file.split
    return replace(file, split=split, name=name)


def encoded(image: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def resized(image: Image.Image, share: float) -> Image.Image:
    size = (round(share * image.width), round(share * image.height))
    return image.resize(size, Image.Resampling.BICUBIC)


CHANGES = {
    "re-encoded": lambda image: encoded(image, 50),
    "resized": lambda image: resized(image, 0.6),
    "mirrored": ImageOps.mirror,
    "all three": lambda image: encoded(resized(ImageOps.mirror(image), 0.6), 50),
}


def broken(content: bytes, number: int) -> bytes:
    """Break a file in one of five ways."""
    return (
        b"",
        b"<html>404</html>",
        b"\0" * len(content),
        content[: len(content) // 2],
        content[: len(content) // 10],
    )[number % 5]


def shrink(root: Path, planted: Planted) -> None:
    """Save every image of the leaked class at another size, but those that are broken."""
    spared = {name for pair in (*planted.exact, *planted.near) for name in pair}
    spared |= set(planted.broken)
    for path in sorted(root.glob(f"*/{planted.leaked}/*")):
        if path.relative_to(root).as_posix() not in spared:
            small = resized(decode(path), SHRUNK)
            kind = {"quality": 95} if path.suffix.lower() in (".jpg", ".jpeg") else {}
            small.save(path, **kind)


def report(planted: Planted, before: CheckResult, after: CheckResult) -> None:
    assert after.audit is not None
    exact, every = pairs_of(after, ("bytes", "pixels")), pairs_of(after)
    line("exact copies", sum(key(*pair) in exact for pair in planted.exact), EXACT, 1)
    found = {pair for pair in planted.near if key(*pair) in every}
    line("near copies", len(found), NEAR, 0.95)
    for how in CHANGES:
        pairs = {pair for pair, what in planted.near.items() if what == how}
        line(f"  {how}", len(found & pairs), len(pairs))
    leaks = [set(told.files) for told in after.findings if told.kind == "split-leak"]
    across = [pair for pair in planted.near if pair[0][:4] != pair[1][:4]]
    line("  told to be across", sum(any(leak >= {*p} for leak in leaks) for p in across), NEAR // 2)
    report_false_pairs(planted, pairs_of(before), every)
    failed = {failure.name for failure in after.failed}
    line("broken files", len(failed & set(planted.broken)), BROKEN, 1)
    sizes = [one for one in after.audit.shortcuts if "image" in one.facts[0]]
    line("class leaked by size", sum(planted.leaked in one.reveals for one in sizes), 1, 1)
    swapped = set(planted.swapped)
    names = [after.items[suspect.position].name for suspect in after.audit.suspects]
    first = set(names[: round(0.1 * after.n)])
    line("swapped labels, first 10 %", len(first & swapped), len(swapped), 0.7)
    doubted = {after.items[one.position].name for one in after.audit.suspects if one.candidate}
    line("  in the label finding", len(doubted & swapped), len(swapped))
    line("  of that finding's files", len(doubted & swapped), len(doubted))
    for told in after.findings:
        if told.kind in ("shortcut", "overlap", "outlier"):
            print(f"  {told.severity}: {told.message}")


def report_false_pairs(
    planted: Planted, had: set[tuple[str, str]], found: set[tuple[str, str]]
) -> None:
    """Count pairs of different images that the untouched data did not have."""

    def of_untouched(pair: tuple[str, str]) -> tuple[str, str]:
        return key(*(planted.origin.get(name, name) for name in pair))

    new = {pair for pair in found if of_untouched(pair) not in had}
    false = sorted(pair for pair in new if len({*of_untouched(pair)}) == 2)
    share = len(false) / max(len(new), 1)
    print(f"{'false pairs':<27}{len(false):>4} of {len(new):<5}{share:>7.1%}   goal <= 2 %")
    for one, other in false[:5]:
        print(f"    {one} and {other}")


def pairs_of(
    result: CheckResult, kinds: tuple[str, ...] = ("bytes", "pixels", "near")
) -> set[tuple[str, str]]:
    """Return the pairs that were found, by name."""
    assert result.audit is not None
    groups = [group.members for group in result.inspection.groups if group.how in kinds]
    groups += result.audit.near if "near" in kinds else ()
    names = [item.name for item in result.items]
    pairs = (pair for group in groups for pair in combinations(group, 2))
    return {key(names[one], names[other]) for one, other in pairs}


def key(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def line(what: str, found: int, planted: int, goal: float | None = None) -> None:
    share = found / max(planted, 1)
    wanted = f"   goal {goal:.0%}" if goal is not None else ""
    print(f"{what:<27}{found:>4} of {planted:<5}{share:>7.1%}{wanted}")


if __name__ == "__main__":
    main()
