"""A data set checked as a whole: what its files say and, if asked, what a network sees in them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.cache import Cache
from headstart.data.checks.check import Finding, Inspection, inspect
from headstart.data.items import Dataset, Item
from headstart.data.objects.in_memory import as_source
from headstart.data.read import Failure
from headstart.data.reading import Reading
from headstart.data.sources import open_dataset
from headstart.data.splits.split import Split
from headstart.division import learnable_classes, planned_split
from headstart.errors import DataError, UsageError
from headstart.memory import FileMemory
from headstart.options import Options

if TYPE_CHECKING:
    from headstart.audit import Audit

__all__ = ["LEAST_CLASSES", "PARTS", "CheckResult", "check", "divide"]

Progress = Callable[[int, int], None]
PARTS = ("train", "val", "test")
LEAST_CLASSES = 2  # to learn from

_GRAVITY = ("error", "warning", "note")
_SAID_OTHERWISE = {"removed"}  # what a fit would leave out is told as the leak that it is
_OF_DEEP = ("backbone", "weights", "size", "resize", "device")  # options only it reads


@dataclass(frozen=True)
class CheckResult:
    """What is known of a data set, and what is wrong with it.

    Attributes:
        data: What was to be checked, as it was named.
        dataset: Its images, readable or not.
        inspection: What their files say.
        audit: What a network's features say; None unless ``deep`` was asked for, and there are
            two classes at least.
        split: How ``fit`` would split it by default; None where it would not.
        refusal: What ``fit`` would stop with; None where it would begin.
        seconds: How long the check took.
    """

    data: str
    dataset: Dataset
    inspection: Inspection
    audit: Audit | None
    split: Split | None
    refusal: DataError | None
    seconds: float

    @property
    def items(self) -> tuple[Item, ...]:
        """The images that can be read; positions in ``inspection`` and ``audit`` are into these."""
        return self.inspection.items

    @property
    def failed(self) -> tuple[Failure, ...]:
        """The images that can't be read, with reasons."""
        return self.inspection.failed

    @property
    def n(self) -> int:
        """How many images can be read."""
        return len(self.inspection.items)

    @property
    def classes(self) -> dict[str, int]:
        """How many readable images each class has, in the order of the classes."""
        return dict(self.inspection.classes)

    @property
    def splits(self) -> dict[str, dict[str, int]]:
        """The same for each part of the data's own split; empty where it has none."""
        given = self.inspection.splits
        return {part: dict(given[part]) for part in PARTS if part in given}

    @property
    def sizes(self) -> dict[str, int]:
        """How many images there are of each size as stored, ``512 x 384``; the commonest first."""
        facts = self.inspection.looks.facts
        pairs = zip(facts.width.tolist(), facts.height.tolist(), strict=True)
        return dict(Counter(f"{width} x {height}" for width, height in pairs).most_common())

    @property
    def formats(self) -> dict[str, int]:
        """How many images there are of each format, told by content; the commonest first."""
        return dict(Counter(self.inspection.looks.facts.format).most_common())

    @property
    def notes(self) -> tuple[str, ...]:
        """What was understood or left out on the way, one sentence each."""
        return self.dataset.notes

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """All that was found, the gravest first, each thing once."""
        refused = () if self.refusal is None else tuple(self._refused(self.refusal))
        deep = () if self.audit is None else self.audit.findings
        doubts = None if self.audit is None else self.audit.label  # says nothing about copies
        copies = [finding for finding in deep if finding is not doubts]
        known = {finding.kind for finding in self.inspection.findings} | _SAID_OTHERWISE
        split = () if self.split is None else self.split.findings
        of_split = [finding for finding in split if finding.kind not in known]
        found = [*refused, *_not_repeated(self.inspection.findings, copies), *of_split, *deep]
        return tuple(sorted(found, key=lambda finding: _GRAVITY.index(finding.severity)))

    def _refused(self, refusal: DataError) -> Iterable[Finding]:
        """Yield the refusal as a finding, unless the inspection's own findings hold it."""
        if refusal is not self.inspection.refusal:
            yield Finding(refusal.field or "data", "error", (), refusal.message, refusal.hint)

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``headstart check --json`` prints.

        A finding lists a hundred files at most, and a hundred groups of copies have findings of
        their own; ``failed``, ``groups`` and ``suspects`` are complete.
        """
        return {
            "data": self.data,
            "n": self.n,
            "classes": self.classes,
            "splits": self.splits,
            "split": None if self.split is None else _counts(self.split),
            "sizes": self.sizes,
            "formats": self.formats,
            "failed": [{"path": it.name, "reason": it.reason} for it in self.failed],
            "findings": [finding.to_dict() for finding in self.findings],
            "groups": list(self._groups()),
            "suspects": list(self._suspects()),
            "deep": self.audit is not None,
            "usable": self.refusal is None,
            "seconds": round(self.seconds, 3),
        }

    def _groups(self) -> Iterable[dict[str, Any]]:
        """Yield every group of copies; ``how`` is ``network`` where features proposed it."""
        near = () if self.audit is None else self.audit.near
        known = ((group.how, group.members) for group in self.inspection.groups)
        for how, members in (*known, *(("network", group) for group in near)):
            yield {"how": how, "files": [self.items[position].name for position in members]}

    def _suspects(self) -> Iterable[dict[str, Any]]:
        """Yield every label that a network doubts, the surest first."""
        for it in () if self.audit is None else self.audit.suspects:
            if it.candidate:
                yield {
                    "path": self.items[it.position].name,
                    "label": it.given,
                    "suggested": it.suggested,
                    "confidence": it.confidence,
                }


def check(
    data: object,
    *,
    deep: bool = False,
    cache: Cache | None = None,
    progress: Callable[[str], Progress] | None = None,
    listed: Callable[[Dataset], None] | None = None,
    **options: Any,
) -> CheckResult:
    """Look at every image of a data set, and list all that is wrong with it.

    Args:
        data: A folder, a table, a zip file, the name of a data set, or labelled images as Python
            objects (``docs/data.md``).
        deep: Ask a network as well: label errors, outliers, classes that overlap, shortcuts.
        cache: Where what was learnt of files is remembered; the user's cache by default.
        progress: Given the name of a stage (``read``, ``pairs``, ``features``), returns what is
            called with (done, total) images, or pairs of them.
        listed: Called with the images before the first is read; what it raises ends the check.
        **options: Fields of ``headstart.Options``: how the source is read, ``max_bad``, and the
            network of ``deep``.

    Returns:
        What was found. Data that ``fit`` would refuse is told as such, with its findings.

    Raises:
        UsageError: An option can't be used, or only with ``deep``, or a name is unknown.
        DataError: There is nothing that could be looked at: no image, or a layout that can't be
            understood.
    """
    start = time.perf_counter()
    chosen = Options(**options)
    _require_reader(chosen, deep)
    cache = cache or Cache()

    def bar(stage: str) -> Progress | None:
        return None if progress is None else progress(stage)

    source = as_source(data, cache.given, chosen.reading)
    dataset, refusal = _opened(source, chosen.reading, cache)
    if listed is not None:
        listed(dataset)
    memory, max_bad = FileMemory(cache.files), chosen.max_bad
    inspection = inspect(
        dataset, memory, max_bad=max_bad, progress=bar("read"), pair_progress=bar("pairs")
    )
    items, digests = inspection.items, inspection.digests
    split, impossible = (None, None) if refusal else divide(items, digests, dataset.classes)
    refusal = refusal or inspection.refusal or impossible
    audit = None
    if deep and len({item.label for item in items}) >= LEAST_CLASSES:
        from headstart.audit import deep as look_deeper

        audit = look_deeper(dataset, inspection, chosen, cache=cache, progress=bar("features"))
    seconds = time.perf_counter() - start
    return CheckResult(str(source), dataset, inspection, audit, split, refusal, seconds)


def _opened(data: str | Path, reading: Reading, cache: Cache) -> tuple[Dataset, DataError | None]:
    """List the images; where only classes are wanting, with what ``fit`` would say to that."""
    try:
        return open_dataset(data, reading, cache=cache), None
    except DataError as error:
        try:
            dataset = open_dataset(data, reading, min_classes=0, cache=cache)
        except DataError:
            raise error from None
        if not dataset.items:
            raise
        return dataset, error


def divide(
    items: Sequence[Item], digests: Sequence[str], classes: Iterable[str]
) -> tuple[Split | None, DataError | None]:
    """Split images as a fit does by default, or return what stops it.

    Args:
        items: Readable images.
        digests: Their image digests, in the same order.
        classes: All that are to be learnt.
    """
    usual = Options()
    try:
        split = planned_split(items, digests, usual)
        learnable_classes(classes, items, split, usual)
    except DataError as error:
        return None, error
    return split, None


def _counts(split: Split) -> dict[str, Any]:
    return {
        "origin": split.origin,
        "digest": split.digest,
        "n_train": len(split.train),
        "n_val": len(split.val),
        "n_test": len(split.test),
    }


def _require_reader(options: Options, deep: bool) -> None:
    usual = Options()
    # Weights bring a backbone with them, which nobody has asked for then.
    backbones = (usual.backbone, Options(weights=options.weights).backbone)
    for name in () if deep else _OF_DEEP:
        usually = backbones if name == "backbone" else (getattr(usual, name),)
        if getattr(options, name) not in usually:
            raise UsageError(
                f"--{name} needs --deep: without it no network is asked.",
                field=name,
                hint=f"Add --deep, or leave --{name} out.",
            )


def _not_repeated(found: Iterable[Finding], again: Iterable[Finding]) -> Iterable[Finding]:
    """Leave out what was found anew by a better look: the same kind, on the same files or more."""
    known: dict[str, list[set[str]]] = {}
    for finding in again:
        known.setdefault(finding.kind, []).append(set(finding.files))
    for finding in found:
        files = set(finding.files)
        if not files or not any(files <= others for others in known.get(finding.kind, ())):
            yield finding
