"""What can be known of a data set from its files alone, before any network sees it.

One pass reads every file's header and digest, and remembers both: a second pass over the same
files only looks at their sizes and times. Pixels are decoded later, once, by the loader; what
fails there is judged by the same rule, :func:`judge_failures`.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from headstart.data.items import Dataset, Item
from headstart.data.loader import in_threads
from headstart.data.read import DEEP, FRAMES, Failure, read_header, source_digest
from headstart.errors import BadImage, DataError, UsageError
from headstart.memory import FileMemory

__all__ = ["Checked", "Finding", "check", "judge_failures"]

Severity = Literal["note", "warning", "error"]

_MOST_FILES = 100  # that one finding lists
_MOST_GROUPS = 100  # of copies that get a finding each
_MOST_FAILURES = 10  # that a message lists
_IMBALANCE = 10  # largest class to smallest, from here on worth a warning
_MEASURABLE = 3  # different images that a class needs to be in train, val and test
_REMEMBERED = 1000  # files between two writes to the memory: what a killed pass may lose
_VERSION = 1  # of the remembered facts; to be raised when other things are noted of a file
_NOTES = {DEEP: "depth", FRAMES: "frames"}  # any other note is about the format


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth knowing about a data set.

    Attributes:
        kind: ``unreadable``, ``format``, ``depth``, ``frames``, ``duplicate``, ``label``,
            ``split-leak``, ``imbalance`` or ``few-images``.
        severity: ``note``, ``warning`` or ``error``.
        files: Names of the items it is about, at most 100.
        message: What was found.
        hint: What can be done, if anything should.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    message: str
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"files": list(self.files)}


@dataclass(frozen=True, slots=True)
class Checked:
    """A data set's usable part, and what was found.

    Attributes:
        items: The items whose files can be read as far as the header.
        digests: Their image digests, in the same order.
        findings: What was found, the gravest first.
        failed: The items left out, with reasons; ``index`` is the position in the data set.
    """

    items: tuple[Item, ...]
    digests: tuple[str, ...]
    findings: tuple[Finding, ...]
    failed: tuple[Failure, ...]


def check(
    dataset: Dataset,
    memory: FileMemory,
    *,
    max_bad: float,
    progress: Callable[[int, int], None] | None = None,
) -> Checked:
    """Read every file's header and digest, and list all that is wrong at once.

    Args:
        dataset: What to check.
        memory: Files it knows are not opened.
        max_bad: The share of unreadable files that is borne, within 0..1.
        progress: Called with the number of files done and of all files.

    Raises:
        DataError: More files than ``max_bad`` can't be read, or none can.
        UsageError: ``max_bad`` is not within 0..1.
    """
    if not 0 <= max_bad <= 1:
        raise UsageError(
            f"The share must be within 0 and 1, not {max_bad}.",
            field="max-bad",
            hint="0.01 is usual: one unreadable image in a hundred.",
        )
    facts = _facts([item.path for item in dataset.items], memory, progress)
    items, digests, failed = [], [], []
    noted: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for index, item in enumerate(dataset.items):
        fact = facts[item.path]
        if isinstance(fact, str):
            failed.append(Failure(item.name, fact, index))
            continue
        items.append(item)
        digests.append(fact["digest"])
        for note in fact["notes"]:
            noted[_NOTES.get(note, "format")].append((item.name, note))
    findings = [
        *judge_failures(len(dataset.items), failed, max_bad),
        *_copies(items, digests),
        *_classes(dataset.classes, items, digests),
        *_noted(noted, len(items)),
    ]
    findings.sort(key=lambda finding: finding.severity, reverse=True)  # warnings before notes
    return Checked(tuple(items), tuple(digests), tuple(findings), tuple(failed))


def judge_failures(n_total: int, failed: Sequence[Failure], max_bad: float) -> tuple[Finding, ...]:
    """Return the finding about images that can't be read; empty where all can.

    Args:
        n_total: All images, readable or not.
        failed: Those that are not.
        max_bad: The share of them that is borne, within 0..1.

    Raises:
        DataError: There are more, or no image is left.
    """
    if not failed:
        return ()
    found = f"{len(failed)} of {n_total} images can't be read"
    listed = [f"{failure.name}: {failure.reason}" for failure in failed[:_MOST_FAILURES]]
    listed += ["…"] if len(failed) > _MOST_FAILURES else []
    # The margin is for shares such as 0.29, of which a hundredfold is a little less than 29.
    if len(failed) > max_bad * n_total + 1e-9 or len(failed) == n_total:
        raise DataError(
            "\n  ".join([f"{found}; --max-bad allows {100 * max_bad:g} %:", *listed]),
            field="data",
            hint="Repair or remove them, or allow more with --max-bad.",
        )
    names = tuple(failure.name for failure in failed[:_MOST_FILES])
    message = f"{found} and are left out: {'; '.join(listed)}."
    return (Finding("unreadable", "warning", names, message, "Repair or remove them."),)


def _facts(
    paths: Sequence[Path], memory: FileMemory, progress: Callable[[int, int], None] | None
) -> dict[Path, dict[str, Any] | str]:
    """Return what is known of each file, or the reason why it can't be read."""
    known = memory.recall(paths)
    facts: dict[Path, dict[str, Any] | str] = {
        path: fact for path, fact in known.items() if fact.get("version") == _VERSION
    }
    new = [path for path in paths if path not in facts]
    learnt: dict[Path, dict[str, Any]] = {}
    start = time.time_ns()
    for path, fact in zip(new, in_threads(_look_at, new), strict=True):
        facts[path] = fact
        if isinstance(fact, dict):
            learnt[path] = fact
        if len(learnt) == _REMEMBERED:
            memory.remember(learnt, since=start)
            learnt = {}
        if progress is not None:
            progress(len(facts), len(paths))
    memory.remember(learnt, since=start)
    return facts


def _look_at(path: Path) -> dict[str, Any] | str:
    try:
        header = read_header(path)
        return {"version": _VERSION, "digest": source_digest(path), "notes": list(header.notes)}
    except BadImage as error:
        return error.reason


def _copies(items: Sequence[Item], digests: Sequence[str]) -> Iterator[Finding]:
    """Yield one finding a group of files that are the same to the byte."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item, image in zip(items, digests, strict=True):
        groups[image].append(item)
    found: dict[str, list[Finding]] = defaultdict(list)
    for group in groups.values():
        if len(group) > 1:
            for finding in _group(group):
                found[finding.kind].append(finding)
    for kind, findings in found.items():
        yield from findings[:_MOST_GROUPS]
        if len(findings) > _MOST_GROUPS:
            more = f"{len(findings) - _MOST_GROUPS} more such groups of copies."
            yield Finding(kind, findings[0].severity, (), more, findings[0].hint)


def _group(group: Sequence[Item]) -> Iterator[Finding]:
    names = tuple(item.name for item in group[:_MOST_FILES])
    labels = sorted({item.label for item in group})
    splits = sorted({item.split for item in group if item.split is not None})
    copies = f"{len(group)} files hold the same image"
    if len(labels) > 1:
        message = f"{copies} under different labels: {', '.join(labels)}."
        yield Finding("label", "warning", names, message, "Keep the one whose label is right.")
    if len(splits) > 1:
        message = f"{copies} in different splits: {', '.join(splits)}."
        hint = "Remove it from all but one, or the result will look better than it is."
        yield Finding("split-leak", "warning", names, message, hint)
    if len(labels) == 1 and len(splits) <= 1:
        yield Finding("duplicate", "note", names, f"{copies}.")


def _classes(
    classes: Sequence[str], items: Sequence[Item], digests: Sequence[str]
) -> Iterator[Finding]:
    sizes = Counter(dict.fromkeys(classes, 0))
    sizes.update(item.label for item in items)
    (most, large), (least, small) = sizes.most_common()[0], sizes.most_common()[-1]
    if small and large >= _IMBALANCE * small:
        message = f"{most} has {large} images, {least} only {small}."
        hint = "Weigh the classes with --class-weights balanced, and read the balanced accuracy."
        yield Finding("imbalance", "warning", (), message, hint)
    images = {(item.label, image) for item, image in zip(items, digests, strict=True)}
    different = Counter(label for label, _ in images)
    few = [f"{label} ({different[label]})" for label in classes if different[label] < _MEASURABLE]
    if few:
        message = f"Classes with fewer than {_MEASURABLE} different images: {', '.join(few)}."
        hint = "They are learnt from as far as they go, but can't be measured."
        yield Finding("few-images", "warning", (), message, hint)


def _noted(noted: Mapping[str, Sequence[tuple[str, str]]], n_total: int) -> Iterator[Finding]:
    for kind, pairs in sorted(noted.items()):
        names = tuple(name for name, _ in pairs[:_MOST_FILES])
        notes = ", ".join(note for note, _ in Counter(note for _, note in pairs).most_common(3))
        yield Finding(kind, "note", names, f"{len(pairs)} of {n_total} images: {notes}.")
