"""What is worth knowing about a data set, found in what is known of its files.

Each function turns facts into findings and reads no file. Thresholds stand here, each with what
it was chosen for.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from headstart.data.checks.copies import Group
from headstart.data.items import Item
from headstart.data.read import DEEP, FRAMES, Failure
from headstart.errors import DataError

__all__ = [
    "MOST_FILES",
    "Finding",
    "Severity",
    "by_severity",
    "classes",
    "copies",
    "group_leaks",
    "judge_failures",
    "noted",
    "unreadable",
]

Severity = Literal["note", "warning", "error"]

MOST_FILES = 100  # that one finding lists
_MOST_GROUPS = 100  # of copies that get a finding each
_MOST_NAMED = 10  # that a message names
_IMBALANCE = 10  # largest class to smallest, from here on worth a warning
_MEASURABLE = 3  # different images that a class needs to be in train, val and test
_NOTES = {DEEP: "depth", FRAMES: "frames"}  # any other note is about the format
_GRAVITY = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth knowing about a data set.

    Attributes:
        kind: ``unreadable``, ``suspicious``, ``format``, ``depth``, ``frames``, ``sizes``,
            ``modes``, ``duplicate``, ``near-duplicate``, ``not-searched``, ``label``,
            ``split-leak``, ``group-leak``, ``imbalance`` or ``few-images``.
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


def by_severity(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return the findings, the gravest first, else in the order given."""
    return tuple(sorted(findings, key=lambda finding: _GRAVITY.index(finding.severity)))


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
    # The margin is for shares such as 0.29, of which a hundredfold is a little less than 29.
    if len(failed) > max_bad * n_total + 1e-9 or len(failed) == n_total:
        found = f"{len(failed)} of {n_total} images can't be read"
        raise DataError(
            "\n  ".join([f"{found}; --max-bad allows {100 * max_bad:g} %:", *_listed(failed)]),
            field="data",
            hint="Repair or remove them, or allow more with --max-bad.",
        )
    return (unreadable(n_total, failed, "warning"),)


def unreadable(n_total: int, failed: Sequence[Failure], severity: Severity) -> Finding:
    """Return the finding that lists images which can't be read, with reasons."""
    message = (
        f"{len(failed)} of {n_total} images can't be read and are left out: "
        f"{'; '.join(_listed(failed))}."
    )
    names = tuple(failure.name for failure in failed[:MOST_FILES])
    return Finding("unreadable", severity, names, message, "Repair or remove them.")


def copies(items: Sequence[Item], groups: Sequence[Group]) -> Iterator[Finding]:
    """Yield findings about groups of copies: one a group, or two where it errs in two ways.

    Those beyond a hundred of a kind are summed up in one finding.
    """
    found: dict[str, list[Finding]] = defaultdict(list)
    for group in groups:
        for finding in _group([items[index] for index in group.members], group.how == "near"):
            found[finding.kind].append(finding)
    for kind, findings in found.items():
        yield from findings[:_MOST_GROUPS]
        if len(findings) > _MOST_GROUPS:
            more = f"{len(findings) - _MOST_GROUPS} more such groups of copies."
            yield Finding(kind, findings[0].severity, (), more, findings[0].hint)


def group_leaks(items: Sequence[Item]) -> Iterator[Finding]:
    """Yield one finding about groups whose images lie in two of the data's own splits."""
    splits: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.group is not None and item.split is not None:
            splits[item.group].add(item.split)
    torn = {group for group, found in splits.items() if len(found) > 1}
    if torn:
        files = tuple(item.name for item in items if item.group in torn)[:MOST_FILES]
        message = f"{_several(len(torn), 'group')} in more than one split: {_named(sorted(torn))}."
        hint = "Move each to one side, or the result will look better than it is."
        yield Finding("group-leak", "warning", files, message, hint)


def classes(
    labels: Sequence[str], items: Sequence[Item], images: Sequence[object]
) -> Iterator[Finding]:
    """Yield findings about the sizes of classes.

    Args:
        labels: The data set's classes.
        items: The readable images.
        images: For each item what is equal for copies, such as a digest.
    """
    sizes = Counter(dict.fromkeys(labels, 0))
    sizes.update(item.label for item in items)
    (most, large), (least, small) = sizes.most_common()[0], sizes.most_common()[-1]
    if small and large >= _IMBALANCE * small:
        message = f"{most} has {large} images, {least} only {small}."
        hint = "Weigh the classes with --class-weights balanced, and read the balanced accuracy."
        yield Finding("imbalance", "warning", (), message, hint)
    pairs = {(item.label, image) for item, image in zip(items, images, strict=True)}
    different = Counter(label for label, _ in pairs)
    few = [f"{label} ({different[label]})" for label in labels if different[label] < _MEASURABLE]
    if few:
        message = f"Classes with fewer than {_MEASURABLE} different images: {', '.join(few)}."
        hint = "They are learnt from as far as they go, but can't be measured."
        yield Finding("few-images", "warning", (), message, hint)
    for split in ("val", "test"):
        there = {item.label for item in items if item.split == split}
        missing = [label for label in labels if there and label not in there]
        if missing:
            message = f"Classes without an image in the data's own {split}: {_named(missing)}."
            hint = f"Nothing is known of them from {split}."
            yield Finding("few-images", "warning", (), message, hint)


def noted(items: Sequence[Item], notes: Sequence[Sequence[str]]) -> Iterator[Finding]:
    """Yield one finding for each kind of note that headers gave rise to."""
    found: Mapping[str, list[tuple[str, str]]] = defaultdict(list)
    for item, told in zip(items, notes, strict=True):
        for note in told:
            found[_NOTES.get(note, "format")].append((item.name, note))
    for kind, pairs in sorted(found.items()):
        names = tuple(name for name, _ in pairs[:MOST_FILES])
        usual = ", ".join(note for note, _ in Counter(note for _, note in pairs).most_common(3))
        yield Finding(kind, "note", names, f"{len(pairs)} of {len(items)} images: {usual}.")


def _group(group: Sequence[Item], near: bool) -> Iterator[Finding]:
    names = tuple(item.name for item in group[:MOST_FILES])
    labels = sorted({item.label for item in group})
    splits = sorted({item.split for item in group if item.split is not None})
    alike = "nearly the same image" if near else "the same image"
    found = f"{len(group)} files hold {alike}"
    look = "Look at them: they are told by their pixels, not by their bytes. " if near else ""
    if len(labels) > 1:
        message = f"{found} under different labels: {', '.join(labels)}."
        yield Finding(
            "label", "warning", names, message, f"{look}Keep the one whose label is right."
        )
    if len(splits) > 1:
        pairs = _named([f"{item.name} ({item.split})" for item in group if item.split])
        message = f"{found} in different splits: {pairs}."
        hint = f"{look}Remove it from all but one, or the result will look better than it is."
        yield Finding("split-leak", "warning", names, message, hint)
    if len(labels) > 1 or len(splits) > 1:
        return
    if near:
        hint = f"{look}Where no split is given, name them as one group in a table."
        yield Finding("near-duplicate", "note", names, f"{found}.", hint)
    else:
        yield Finding("duplicate", "note", names, f"{found}.")


def _listed(failed: Sequence[Failure]) -> list[str]:
    listed = [f"{failure.name}: {failure.reason}" for failure in failed[:_MOST_NAMED]]
    return [*listed, "…"] if len(failed) > _MOST_NAMED else listed


def _named(names: Sequence[str]) -> str:
    return ", ".join([*names[:_MOST_NAMED], *(["…"] if len(names) > _MOST_NAMED else [])])


def _several(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"
