"""What can be known of a data set from its files alone, before any network sees it.

:func:`check` is the light pass before every fit: headers and digests of the bytes; pixels are
decoded later, once, by the loader, and what fails there is judged by the same rule,
:func:`judge_failures`. :func:`inspect` is the full one of ``headstart check``: it decodes every
file. Both remember what they learn: a second pass only looks at sizes and times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from headstart.data.checks import findings, suspicion
from headstart.data.checks.copies import Group, exact_groups, near_groups, same_bytes
from headstart.data.checks.facts import Facts, Row, columns, learn, read_row, usable
from headstart.data.checks.findings import Finding, by_severity, judge_failures
from headstart.data.checks.look import Looks, look
from headstart.data.checks.neighbours import MOST_PICTURES
from headstart.data.items import Dataset, Item
from headstart.data.read import Failure
from headstart.errors import DataError, UsageError
from headstart.memory import FileMemory

__all__ = ["Checked", "Finding", "Inspection", "check", "inspect", "judge_failures"]


@dataclass(frozen=True, slots=True)
class Checked:
    """A data set's usable part, and what was found.

    Attributes:
        items: The items whose files can be read as far as the header.
        digests: Their image digests, in the same order.
        findings: What was found, the gravest first.
        failed: The items left out, with reasons; ``index`` is the position in the data set.
        facts: What the headers of ``items`` say, in the same order.
    """

    items: tuple[Item, ...]
    digests: tuple[str, ...]
    findings: tuple[Finding, ...]
    failed: tuple[Failure, ...]
    facts: Facts = field(compare=False)


@dataclass(frozen=True, slots=True)
class Inspection:
    """All that a data set's files tell of it.

    Attributes:
        n: Its images, readable or not.
        items: Those that can be read to the last pixel, in the data set's order.
        looks: What is known of them, in the same order.
        failed: The others, with reasons; ``index`` is the position in the data set.
        suspicious: Readable images that may show nothing; ``index`` is the position in ``items``.
        groups: Every group of copies, complete; exact ones first. An exact group may lie within a
            near one.
        findings: What was found, the gravest first.
        refusal: What ``fit`` would stop with; None where it would not.
        classes: Readable images of each class, in the data set's order.
    """

    n: int
    items: tuple[Item, ...]
    looks: Looks = field(compare=False)
    failed: tuple[Failure, ...]
    suspicious: tuple[Failure, ...]
    groups: tuple[Group, ...]
    findings: tuple[Finding, ...]
    refusal: DataError | None = field(compare=False)
    classes: Mapping[str, int]

    @property
    def digests(self) -> tuple[str, ...]:
        """SHA-256 of the bytes of ``items``."""
        return self.looks.digests

    @property
    def facts(self) -> Facts:
        """What the headers of ``items`` say."""
        return self.looks.facts

    @property
    def splits(self) -> dict[str, dict[str, int]]:
        """Readable images of each class in each of the data's own splits; empty without them."""
        sizes = Counter((item.split, item.label) for item in self.items if item.split)
        present = [split for split in ("train", "val", "test") if any(s == split for s, _ in sizes)]
        return {split: {c: sizes[split, c] for c in self.classes} for split in present}


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
    _require_share(max_bad)
    items: list[Item] = []
    digests: list[str] = []
    notes: list[tuple[str, ...]] = []
    failed: list[Failure] = []

    def readable() -> Iterator[Row]:
        paths = [item.path for item in dataset.items]
        rows = learn(paths, memory, read_row, usable, progress)
        for index, (item, row) in enumerate(zip(dataset.items, rows, strict=True)):
            if isinstance(row, str):
                failed.append(Failure(item.name, row, index))
                continue
            items.append(item)
            digests.append(row["digest"])
            notes.append(tuple(row["notes"]))
            yield row

    facts = columns(readable())
    found = [
        *judge_failures(len(dataset.items), failed, max_bad),
        *findings.copies(items, same_bytes(digests)),
        *findings.classes(dataset.classes, items, digests),
        *findings.noted(items, notes),
    ]
    return Checked(tuple(items), tuple(digests), by_severity(found), tuple(failed), facts)


def inspect(
    dataset: Dataset,
    memory: FileMemory,
    *,
    max_bad: float = 0.01,
    near: bool = True,
    progress: Callable[[int, int], None] | None = None,
    pair_progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Decode every file, and list all that the files alone can tell.

    Args:
        dataset: What to inspect.
        memory: Files it knows from an earlier inspection are not opened.
        max_bad: The share of unreadable files that ``fit`` would bear, within 0..1.
        near: Whether to look for near copies too.
        progress: Called with the number of files done and of all files.
        pair_progress: The same for the pairs of files that are compared after that.

    Raises:
        UsageError: ``max_bad`` is not within 0..1.
    """
    _require_share(max_bad)
    looks = look(dataset.items, memory, progress=progress)
    exact = exact_groups(looks)
    alike = near_groups(looks, exact, progress=pair_progress) if near else ()
    groups = (*exact, *(alike or ()))
    suspected = suspicion.suspects(looks)
    refusal = _refusal(len(dataset.items), looks.failed, max_bad)
    found: list[Finding] = []
    if looks.failed:
        severity: findings.Severity = "warning" if refusal is None else "error"
        found.append(findings.unreadable(len(dataset.items), looks.failed, severity))
    found += suspicion.suspicious(suspected, len(dataset.items))
    found += findings.copies(looks.items, groups)
    found += findings.group_leaks(looks.items)
    found += findings.classes(dataset.classes, looks.items, [*map(bytes, looks.pixels)])
    found += findings.noted(looks.items, looks.notes)
    found += suspicion.mixtures(looks)
    if alike is None:
        message = f"Near copies were not looked for: that ends at {MOST_PICTURES:,} images."
        found.append(Finding("not-searched", "note", (), message))
    sizes = Counter(item.label for item in looks.items)
    return Inspection(
        *(len(dataset.items), looks.items, looks, looks.failed, suspected, groups),
        *(by_severity(found), refusal),
        {label: sizes[label] for label in dataset.classes},
    )


def _require_share(max_bad: float) -> None:
    if not 0 <= max_bad <= 1:
        raise UsageError(
            f"The share must be within 0 and 1, not {max_bad}.",
            field="max-bad",
            hint="0.01 is usual: one unreadable image in a hundred.",
        )


def _refusal(n_total: int, failed: tuple[Failure, ...], max_bad: float) -> DataError | None:
    try:
        judge_failures(n_total, failed, max_bad)
    except DataError as error:
        return error
    return None
