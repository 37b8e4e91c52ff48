"""The images of a run: decoded once, to features or to pixels, and known by their positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path

import numpy as np
import numpy.typing as npt

from headstart.cache import Cache
from headstart.data.checks.check import judge_failures
from headstart.data.items import Item
from headstart.data.read import Failure
from headstart.data.splits.leaks import gathered, without_copies
from headstart.data.splits.split import Split
from headstart.errors import DataError
from headstart.log import Log
from headstart.plan import Plan
from headstart.store import Rows
from headstart.training.features import Features, extract
from headstart.training.pixels import decode_all

__all__ = ["PARTS", "Images", "Labels", "Prepared", "prepare", "same_rows"]

PARTS = ("train", "val", "test")
_AT_ONCE = 256  # rows in memory
Labels = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Images:
    """The images of a plan that could be read, in one order; parts are positions among them.

    Attributes:
        indices: (n,) their positions in the plan's items.
        digests: Their n digests.
        names: Their n names.
        labels: (n,) encoded.
        weights: (n,) how much each counts in training; None where the data gives no weights.
        parts: Positions of ``train``, ``val`` and ``test`` among the n.
        pixels: Their pixels, where a phase needs them.
    """

    indices: npt.NDArray[np.int64]
    digests: tuple[str, ...]
    names: tuple[str, ...]
    labels: Labels
    weights: Weights | None
    parts: dict[str, npt.NDArray[np.int64]]
    pixels: Rows | None

    @classmethod
    def of(
        cls, plan: Plan, split: Split, indices: npt.NDArray[np.int64], pixels: Rows | None
    ) -> Images:
        """Collect what is known of the images at ``indices`` of the plan's items."""
        items = [plan.checked.items[index] for index in indices]
        place = {int(index): row for row, index in enumerate(indices)}
        parts = {
            part: np.array([place[index] for index in getattr(split, part)], dtype=np.int64)
            for part in PARTS
        }
        return cls(
            indices=indices,
            digests=tuple(plan.checked.digests[index] for index in indices),
            names=tuple(item.name for item in items),
            labels=plan.task.encode([item.label for item in items]),
            weights=_weights(items),
            parts=parts,
            pixels=pixels,
        )


def _weights(items: Sequence[Item]) -> Weights | None:
    weights = np.array([item.weight for item in items], dtype=np.float32)
    return None if (weights == 1).all() else weights


@dataclass(frozen=True)
class Prepared:
    """What reading the images of a plan gave.

    Attributes:
        images: Those that could be read.
        features: Theirs, a row an image; of the first few where no phase solves a head.
        split: The plan's split without those that could not be read, and with copies on one side:
            left out of the less held-out part of a given split, moved in one of our own.
        copies: Positions of images that are the same to the network, a tuple for each image.
        failed: The images that could not be read, those that the check found among them.
        computed: How many images were decoded, others being remembered.
    """

    images: Images
    features: Features
    split: Split
    copies: tuple[tuple[int, ...], ...]
    failed: tuple[Failure, ...]
    computed: int


def prepare(plan: Plan, cache: Cache, log: Log) -> Prepared:
    """Decode every image once: to features, or to pixels where a phase trains.

    Args:
        plan: What to do.
        cache: Where pixels and features are remembered.
        log: Told of the progress.

    Raises:
        DataError: Too many images can't be read, a class has no training image left that is not
            in a held-out part too, or nothing is left to test on.
    """
    items = plan.checked.items
    order = [*plan.split.val, *plan.split.train, *plan.split.test]
    pixels: Rows | None = None
    positions = np.arange(len(order))
    failures: tuple[Failure, ...] = ()
    computed = 0
    if plan.needs_pixels:
        decoded = decode_all(
            plan.backbone.input_spec,
            [items[index].path for index in order],
            [plan.checked.digests[index] for index in order],
            cache,
            names=[items[index].name for index in order],
            progress=log.progress("decode"),
        )
        pixels, positions, failures = decoded.rows, decoded.positions, decoded.failed
        computed = decoded.computed
        _judge(plan, failures)
    features = _features(plan, [order[row] for row in positions], pixels, cache, log)
    if not plan.needs_pixels:
        failures, positions = features.failed, features.positions
        computed = features.computed
        _judge(plan, failures)
    split = plan.split.without({order[failure.index] for failure in failures})
    indices = np.array([order[row] for row in positions], dtype=np.int64)
    copies = same_rows(features.rows if plan.solves or pixels is None else pixels)
    groups = [indices[list(group)].tolist() for group in copies]
    given = isinstance(plan.options.split, Path) or any(item.split for item in items)
    split = (without_copies if given else gathered)(split, groups, items)
    images = Images.of(plan, split, indices, pixels)
    _require_classes(plan, images)
    return Prepared(
        images=images,
        features=replace(features, positions=np.arange(len(features.positions))),
        split=split,
        copies=copies,
        failed=(*plan.checked.failed, *failures),
        computed=computed,
    )


def same_rows(rows: Rows) -> tuple[tuple[int, ...], ...]:
    """Return the positions of rows that are equal bit by bit, a tuple for each such content.

    Pixels are decoded, and features computed, in batches of one shape, so that the same picture
    gives the same row whatever is beside it: under another name, in another format, or with
    other metadata.
    """
    found: dict[bytes, list[int]] = {}
    for start in range(0, len(rows), _AT_ONCE):
        some = rows.take(np.arange(start, min(start + _AT_ONCE, len(rows))))
        for position, row in enumerate(some, start):
            found.setdefault(blake2b(row.tobytes(), digest_size=16).digest(), []).append(position)
    return tuple(tuple(group) for group in found.values() if len(group) > 1)


def _judge(plan: Plan, failures: Sequence[Failure]) -> None:
    failed = (*plan.checked.failed, *failures)
    n = len(plan.checked.items) + len(plan.checked.failed)
    judge_failures(n, failed, plan.options.max_bad)


def _features(
    plan: Plan, order: Sequence[int], pixels: Rows | None, cache: Cache, log: Log
) -> Features:
    """Compute all features, val's first; where no head is solved, only enough for the path."""
    items = plan.checked.items
    if not plan.solves:
        order = order[: plan.path.batch_size]
    features = extract(
        plan.backbone,
        [items[index].path for index in order],
        [plan.checked.digests[index] for index in order],
        cache,
        plan.path,
        names=[items[index].name for index in order],
        pixels=pixels,
        decide=plan.options.precision == "auto",
        progress=log.progress("features"),
    )
    log.emit(
        "features",
        images=len(features.rows),
        computed=features.computed,
        remembered=features.remembered,
        failed=len(features.failed),
        path=features.path.to_dict(),
    )
    return features


def _require_classes(plan: Plan, images: Images) -> None:
    """Check that what is left after the unreadable images left is enough."""
    learnt = set(images.labels[images.parts["train"]].tolist())
    gone = [name for label, name in enumerate(plan.task.classes) if label not in learnt]
    if gone or not len(images.parts["test"]):
        what = f"no readable training image of {', '.join(gone)}" if gone else "no test image"
        raise DataError(
            f"After the unreadable images were left out, there is {what}.",
            field="data",
            hint="Repair the images, or remove the folders of classes that have none.",
        )
