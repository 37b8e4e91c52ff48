"""Checked data sets for tests: as plain as what is tested allows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from headstart.checking import CheckResult
from headstart.data.checks.check import Finding
from headstart.data.items import Dataset, Item
from headstart.data.read import Failure
from headstart.errors import DataError


def scene(label: int, number: int, side: int = 64) -> Image.Image:
    """Return a picture unlike all others: patches of colour, reddish or bluish as its label is."""
    draw = np.random.default_rng([label, number])
    patches = draw.integers(0, 256, (6, 6, 3)) * np.array([[1, 0.5, 0.2], [0.2, 0.5, 1]])[label % 2]
    small = Image.fromarray(patches.astype(np.uint8))
    return small.resize((side, side), Image.Resampling.BICUBIC)


def write_scenes(
    root: Path, *, classes: Sequence[str] = ("cat", "dog"), each: int = 20, first: int = 0
) -> Path:
    """Write class folders of JPEG pictures no two of which are alike, and return ``root``."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + each):
            scene(label, number).save(root / name / f"{number}.jpg", quality=92)
    return root


def item(name: str, label: str = "cat", **more: Any) -> Item:
    """Return an item that lies below ``root``."""
    return Item(Path("root") / name, name, label, **more)


def group(*members: int, how: str = "bytes") -> Any:
    """Return a group of copies."""
    return SimpleNamespace(how=how, members=members)


def suspect(position: int, given: str, suggested: str, sure: float = 0.9, real: bool = True) -> Any:
    """Return a label that a network doubts."""
    return SimpleNamespace(
        position=position, given=given, suggested=suggested, confidence=sure, candidate=real
    )


def result(
    items: Sequence[Item],
    *,
    groups: Sequence[Any] = (),
    findings: Sequence[Finding] = (),
    failed: Sequence[Failure] = (),
    suspicious: Sequence[Failure] = (),
    refusal: DataError | None = None,
    audit: Any = None,
    name: str = "photos",
) -> CheckResult:
    """Return the result of a check of these items."""
    classes = sorted({it.label for it in items})
    given = {it.split for it in items} - {None}
    splits = {
        part: dict(Counter(it.label for it in items if it.split == part)) for part in sorted(given)
    }
    n = len(items)
    facts = SimpleNamespace(
        width=np.full(n, 64), height=np.full(n, 48), format=("JPEG",) * n, mode=("RGB",) * n
    )
    counts = Counter(it.label for it in items)
    inspection: Any = SimpleNamespace(
        n=n + len(failed),
        items=tuple(items),
        looks=SimpleNamespace(facts=facts, digests=tuple(it.name for it in items)),
        failed=tuple(failed),
        suspicious=tuple(suspicious),
        groups=tuple(groups),
        findings=tuple(findings),
        refusal=refusal,
        classes={label: counts[label] for label in classes},
        splits=splits,
    )
    dataset = Dataset(name, Path("root"), tuple(items), tuple(classes))
    return CheckResult("photos", dataset, inspection, audit, None, refusal, 1.25)


def audit(
    *,
    findings: Sequence[Finding] = (),
    label: Finding | None = None,
    near: Sequence[Sequence[int]] = (),
    suspects: Sequence[Any] = (),
    shortcuts: Sequence[Any] = (),
    outliers: Sequence[Any] = (),
) -> Any:
    """Return what a network found; ``label`` is one of the findings too."""
    return SimpleNamespace(
        findings=tuple(findings) if label is None else (*findings, label),
        label=label,
        near=tuple(near),
        suspects=tuple(suspects),
        shortcuts=tuple(shortcuts),
        outliers=tuple(outliers),
        overlaps=(),
    )
