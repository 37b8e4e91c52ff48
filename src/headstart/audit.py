"""Checks of a data set that need a network's features: what files alone can't show.

Near copies are proposed by features and confirmed by pixels; a probe that judges every image from
outside tells wrong labels and overlapping classes; distances tell outliers; and trees on all that
is known of a file besides its picture tell shortcuts. Nothing is trained but the probes, so after
a fit, whose features are there already, an audit costs seconds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from headstart import label_errors, near_copies, outliers, overlap, shortcuts
from headstart.cache import Cache
from headstart.data.checks import copies
from headstart.data.checks.check import Inspection
from headstart.data.checks.findings import Finding
from headstart.data.items import Dataset, Item
from headstart.data.splits.leaks import same_files
from headstart.embedding import create_backbone
from headstart.errors import DataError
from headstart.feature_neighbours import nearest
from headstart.file_facts import Fact, header_facts, light_facts, name_facts
from headstart.label_errors import Suspect
from headstart.options import Options
from headstart.out_of_fold import deal, predict_out_of_fold
from headstart.outliers import Outlier
from headstart.overlap import Overlap
from headstart.shortcuts import Shortcut
from headstart.training.device import first_path, pick_device
from headstart.training.features import extract

__all__ = ["LEAST_PAIRS", "MOST_PAIRS", "Audit", "audit", "deep"]

Confirm = Callable[[Sequence[Path], Iterable[tuple[int, int]]], Sequence[tuple[int, int]]]
Located = TypeVar("Located", Overlap, Shortcut)
Placed = TypeVar("Placed", Suspect, Outlier)

# Comparing a pair costs a few milliseconds, decoding photos of half a megapixel included.
LEAST_PAIRS, MOST_PAIRS = 100, 2000
_LEAST_PAIRS_DEEP, _MOST_PAIRS_DEEP = 2000, 20_000
_LEAST_OF_CLASS = 5  # different images, for a class to be judged by probes
_MOST_NAMED = 10


@dataclass(frozen=True)
class Audit:
    """What was found, in words and uncut. Positions are those of the items that were audited.

    Attributes:
        findings: The gravest first; kinds ``near-duplicate``, ``split-leak``, ``label``,
            ``overlap``, ``outlier``, ``shortcut`` and ``few-images``.
        near: Groups of near copies, each with the exact copies of its members.
        pairs: The pairs that features proposed and pixels confirmed.
        label: The one of ``findings`` that lists what the probe would label otherwise, which other
            findings of kind ``label``, about copies, have nothing to do with; None without.
        suspects: Images the probe would label otherwise, the surest first.
        wrong_labels: How many labels are wrong, as confident learning estimates.
        overlaps: Pairs of classes that are confused, the worst first.
        outliers: Images unlike all others, the strangest first.
        shortcuts: What tells classes without a look at the pictures, the strongest first.
        unsearched: How many pairs may be near copies too and were not compared.
    """

    findings: tuple[Finding, ...]
    near: tuple[tuple[int, ...], ...] = ()
    pairs: tuple[tuple[int, int], ...] = ()
    label: Finding | None = None
    suspects: tuple[Suspect, ...] = ()
    wrong_labels: float = 0.0
    overlaps: tuple[Overlap, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    shortcuts: tuple[Shortcut, ...] = ()
    unsearched: int = 0

    def at(self, rows: npt.NDArray[np.int64]) -> Audit:
        """Return the audit with positions among the items that those audited were taken from.

        Args:
            rows: (N,) where each audited item stands among them.
        """
        return replace(
            self,
            near=tuple(tuple(rows[list(group)].tolist()) for group in self.near),
            pairs=tuple((int(rows[one]), int(rows[other])) for one, other in self.pairs),
            suspects=tuple(_placed(self.suspects, rows)),
            overlaps=tuple(_moved(self.overlaps, rows)),
            outliers=tuple(_placed(self.outliers, rows)),
            shortcuts=tuple(_moved(self.shortcuts, rows)),
        )


def audit(
    items: Sequence[Item],
    classes: Sequence[str],
    features: npt.NDArray[np.floating[Any]],
    digests: Sequence[str],
    *,
    facts: Sequence[Fact] = (),
    known: Iterable[Sequence[int]] = (),
    seed: int = 0,
    least_pairs: int = LEAST_PAIRS,
    most_pairs: int = MOST_PAIRS,
    confirm: Confirm | None = None,
) -> Audit:
    """Check a data set by a network's features.

    Args:
        items: N images; a ``group`` holds images together wherever some judge others.
        classes: Names of all classes.
        features: (N, D), finite, in the same order.
        digests: The N image digests; equal ones are copies.
        facts: What is known of the N images besides what they show; names are taken from
            ``items``. None is looked for without at least two classes to tell.
        known: Groups of copies, exact or near, that need no confirmation and have findings already.
        seed: Deals the folds.
        least_pairs: How many proposed pairs of near copies are compared by their pixels at least.
        most_pairs: How many at most, where those compared give reason to go on.
        confirm: As :func:`headstart.data.checks.copies.confirm`, which it is by default.
    """
    neighbours = nearest(features, max(near_copies.NEIGHBOURS, outliers.NEIGHBOUR))
    known = [*same_files(digests), *known]
    paths = [item.path for item in items]
    settled = near_copies.components(len(items), known)
    same = partial(confirm or copies.confirm, paths)
    proposals = near_copies.proposed(neighbours, settled)
    searched = near_copies.search(proposals, same, least=least_pairs, most=most_pairs)
    near = near_copies.groups_of(searched.pairs, digests, known, same)
    units = near_copies.components(len(items), [*known, *searched.pairs, *_by_group(items)])
    names = [item.name for item in items]
    number = {label: place for place, label in enumerate(classes)}
    labels = np.array([number[item.label] for item in items], dtype=np.int64)
    strange = outliers.outliers(neighbours, labels)
    judged = _judge(names, classes, features, labels, units, (*facts, *name_facts(names)), seed)
    found = [*near_copies.findings(near, items), *judged.findings]
    if (finding := outliers.finding(strange, names)) is not None:
        found.append(finding)
    if searched.left:
        found.append(near_copies.unsearched(searched.left))
    found.sort(key=lambda finding: finding.severity, reverse=True)  # warnings before notes
    return replace(
        judged,
        findings=tuple(found),
        near=near,
        pairs=searched.pairs,
        outliers=strange,
        unsearched=searched.left,
    )


def deep(
    dataset: Dataset,
    inspection: Inspection,
    options: Options,
    *,
    cache: Cache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Compute, or remember, the features of a data set that was inspected, and audit it.

    Args:
        dataset: What was inspected.
        inspection: What its files say; its copies are taken as known.
        options: The network, the input, the device and the seed; the rest is not used.
        cache: Where features are remembered; the user's cache by default.
        progress: Called with (done, total) images to compute.

    Returns:
        The audit, with positions among ``inspection.items``.

    Raises:
        HeadstartError: The network can't be used.
        DataError: No image can be read any more.
    """
    items, looks = inspection.items, inspection.looks
    found = extract(
        create_backbone(options),
        [item.path for item in items],
        looks.digests,
        cache or Cache(),
        first_path(pick_device(options.device), options.precision, options.batch_size),
        names=[item.name for item in items],
        decide=options.precision == "auto",
        progress=progress,
    )
    rows = found.positions
    if not len(rows):
        raise DataError(
            f"None of the {len(items)} images can be read any more.",
            field="data",
            hint="They could be, when they were looked at first: is the disk still there?",
        )
    place = {int(row): number for number, row in enumerate(rows)}
    known = ([place[one] for one in group.members if one in place] for group in inspection.groups)
    facts = (*header_facts(looks.facts), *light_facts(looks.brightness, looks.contrast))
    done = audit(
        [items[row] for row in rows.tolist()],
        dataset.classes,
        found.rows.all(),
        [looks.digests[row] for row in rows.tolist()],
        facts=[fact.at(rows) for fact in facts],
        known=[group for group in known if len(group) > 1],
        seed=options.seed,
        least_pairs=max(LEAST_PAIRS, min(len(rows), _LEAST_PAIRS_DEEP)),
        most_pairs=_MOST_PAIRS_DEEP,
    )
    return done.at(rows)


def _by_group(items: Sequence[Item]) -> Iterator[list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for position, item in enumerate(items):
        if item.group is not None:
            members[item.group].append(position)
    return iter(members.values())


def _judge(
    names: Sequence[str],
    classes: Sequence[str],
    features: npt.NDArray[np.floating[Any]],
    labels: npt.NDArray[np.int64],
    units: npt.NDArray[np.int64],
    facts: Sequence[Fact],
    seed: int,
) -> Audit:
    """Judge labels, classes and shortcuts by probes of other folds, where classes allow it."""
    sizes = [len(np.unique(units[labels == label])) for label in range(len(classes))]
    few = [(name, size) for name, size in zip(classes, sizes, strict=True) if size]
    few = [(name, size) for name, size in few if size < _LEAST_OF_CLASS]
    able = np.flatnonzero(np.array(sizes) >= _LEAST_OF_CLASS)
    found = [_too_few(few)] if few else []
    if len(able) < 2:
        return Audit(tuple(found))
    rows = np.flatnonzero(np.isin(labels, able))
    kept = [classes[label] for label in able.tolist()]
    y = np.searchsorted(able, labels[rows])
    fold = deal(y, units[rows], seed=seed)
    probed = predict_out_of_fold(features[rows], y, fold, seed=seed)
    p, judged = probed.probabilities, probed.judged
    suspects = label_errors.suspects(y, p, kept, judged)
    joint = label_errors.confident_joint(y[judged], p[judged])
    estimate = label_errors.estimated_errors(y[judged], joint)
    overlaps = overlap.overlaps(y, p, kept, judged)
    betrayed = shortcuts.shortcuts([fact.at(rows) for fact in facts], y, units[rows], fold, kept)
    some = [names[row] for row in rows.tolist()]
    in_doubt = label_errors.finding(suspects, some, estimate)
    found += [] if in_doubt is None else [in_doubt]
    found += [overlap.finding(pair, some) for pair in overlaps]
    found += [shortcuts.finding(shortcut, some, kept) for shortcut in betrayed]
    parts = Audit(
        *(tuple(found), (), (), in_doubt, suspects), overlaps=overlaps, shortcuts=betrayed
    )
    return replace(parts.at(rows), wrong_labels=estimate)


def _placed(found: Iterable[Placed], rows: npt.NDArray[np.int64]) -> Iterator[Placed]:
    for one in found:
        yield replace(one, position=int(rows[one.position]))


def _moved(found: Iterable[Located], rows: npt.NDArray[np.int64]) -> Iterator[Located]:
    for one in found:
        yield replace(one, positions=tuple(rows[list(one.positions)].tolist()))


def _too_few(classes: Sequence[tuple[str, int]]) -> Finding:
    listed = ", ".join(f"{name} ({size})" for name, size in classes[:_MOST_NAMED])
    more = f", … ({len(classes)} in all)" if len(classes) > _MOST_NAMED else ""
    return Finding(
        "few-images",
        "note",
        (),
        f"Classes of fewer than {_LEAST_OF_CLASS} independent images: {listed}{more}. Their "
        "labels, their overlap with others and their shortcuts are not judged.",
        "Collect more images of them, or look at each by eye.",
    )
