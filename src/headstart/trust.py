"""What a fit says of its own images once it has their features: the audit, and what copies hid.

A test image that has a near copy in train or val is easier than a new one. Exact copies were left
out before anything was trained (:func:`headstart.data.splits.leaks.without_copies`); near ones are
only found by looking, and then the result is given without them as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from headstart.audit import Audit, audit
from headstart.data.checks.findings import Finding
from headstart.data.items import Item
from headstart.file_facts import header_facts
from headstart.images import PARTS, Prepared
from headstart.plan import Plan

__all__ = ["audit_of", "without_copies"]

Matrix = npt.NDArray[np.float64]


def audit_of(plan: Plan, prepared: Prepared) -> Audit:
    """Audit a run's images by the pre-trained network's features.

    Args:
        plan: The run's plan; it ``audits``.
        prepared: Its images, with the features of all.

    Returns:
        The audit, with positions among ``prepared.images``.
    """
    rows = prepared.images.indices
    split = prepared.split
    sides = {index: part for part in PARTS for index in getattr(split, part)}
    items = [replace(plan.checked.items[row], split=sides.get(row)) for row in rows.tolist()]
    found = audit(
        items,
        plan.task.classes,
        prepared.features.rows.all(),
        prepared.images.digests,
        facts=[fact.at(rows) for fact in header_facts(plan.checked.facts)],
        known=prepared.copies,
        seed=plan.options.seed,
    )
    conflicts = _conflicts(items, prepared)
    return replace(found, findings=(*conflicts, *found.findings))


def _conflicts(items: Sequence[Item], prepared: Prepared) -> Iterator[Finding]:
    """Yield the images that are in several files under several labels.

    Where the files are the same to the byte, the check of the files has told it before.
    """
    digests = prepared.images.digests
    for group in prepared.copies:
        labels = sorted({items[position].label for position in group})
        if len(labels) > 1 and len({digests[position] for position in group}) > 1:
            yield Finding(
                "label",
                "warning",
                tuple(items[position].name for position in group),
                f"{len(group)} files hold the same image under different labels: "
                f"{', '.join(labels)}.",
                "Keep the one whose label is right.",
            )


def without_copies(
    plan: Plan, prepared: Prepared, found: Audit | None, probabilities: Matrix
) -> dict[str, Any] | None:
    """Judge the test images that have no near copy in train or val.

    Args:
        plan: Its task judges.
        prepared: The images.
        found: What the audit found.
        probabilities: (n_test, C) in the order of the split.

    Returns:
        ``{"left_out": how many, "complete": whether all copies were searched for, "test":
        METRICS}``; where not complete, more than ``left_out`` may have copies. ``test`` is None
        where all would be left out. None where none would.
    """
    out = _leaked(found, prepared)
    if found is None or not out.any():
        return None
    test = None
    if not out.all():
        labels = prepared.images.labels[prepared.images.parts["test"]]
        metrics = plan.task.evaluate(probabilities[~out], labels[~out]).metrics
        test = {name: metric.to_dict() for name, metric in metrics.items()}
    return {"left_out": int(out.sum()), "complete": found.unsearched == 0, "test": test}


def _leaked(found: Audit | None, prepared: Prepared) -> npt.NDArray[np.bool_]:
    """Return which test images have a near copy in train or val, (n_test,)."""
    parts = prepared.images.parts
    seen = {int(position) for part in ("train", "val") for position in parts[part]}
    near = () if found is None else found.near
    copies = {one for group in near if seen.intersection(group) for one in group}
    return np.array([int(position) in copies for position in parts["test"]], dtype=np.bool_)
