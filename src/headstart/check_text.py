"""The check of a data set in words, as ``headstart check`` prints it."""

from __future__ import annotations

import os
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.checking import LEAST_CLASSES
from headstart.fixing import Fix, mend
from headstart.report import shortened, text_width

if TYPE_CHECKING:
    from headstart.checking import CheckResult
    from headstart.data.checks.check import Finding
    from headstart.errors import DataError
    from headstart.fixed_table import Table

__all__ = ["ClassRow", "class_rows", "lines", "named", "spoken"]

_WIDTH = 100  # columns of a line
_MARGIN = 10  # columns of the word before it
_SHOWN = 3  # findings of a kind, and files of a finding
_CLASSES = 20  # rows of the table of classes
_WIDEST = 32  # columns of a class's name
_SIZES = 4


@dataclass(frozen=True, slots=True)
class ClassRow:
    """How many images a class has: in each part of the given split, and in all."""

    name: str
    parts: tuple[int, ...]
    total: int


def lines(
    result: CheckResult, table: Table | None = None, reading: Sequence[str] = ()
) -> list[str]:
    """Return what was found as lines for people: counts, then findings, the gravest first.

    Args:
        result: What was found.
        table: What was written to fit instead, if anything.
        reading: The options that said how the data is read, for the commands that come next.
    """
    facts = list(_facts(result))
    fix = mend(result) if table is None else table.fix
    steps = list(_next_steps(result, table, fix, reading))
    return [
        _headline(result),
        "",
        *_table(result),
        "",
        *facts,
        *([""] if facts else []),
        *(_finding_lines(result.findings) or ["Nothing wrong was found."]),
        *([] if result.refusal is None else _refusal(result.refusal)),
        *(_no_table(fix) if table is None and result.refusal is None else []),
        *(["", *steps] if steps else []),
    ]


def class_rows(result: CheckResult) -> list[ClassRow]:
    """Return the counts of every class, in the order of the classes."""
    splits = result.splits
    return [
        ClassRow(name, tuple(part.get(name, 0) for part in splits.values()), total)
        for name, total in result.classes.items()
    ]


def named(names: Sequence[str], most: int = _SHOWN) -> str:
    """Return some names: ``a.jpg, b.jpg, c.jpg and 5 more``."""
    shown = ", ".join(names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")


def spoken(n: int, noun: str) -> str:
    """Return a number of things: ``1 image``, ``2,400 images``."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{n:,} {noun if n == 1 else plural}"


def _next_steps(
    result: CheckResult, table: Table | None, fix: Fix, reading: Sequence[str]
) -> Iterator[str]:
    """Yield the commands that pay next, a line each."""
    data = shlex.join([result.data, *reading])
    steps = []
    if table is not None:
        steps.append((table.command, f"{spoken(len(table.fix.rows), 'image')} of the table"))
    elif _changed(fix) and fix.refusal is None:
        command = f"headstart check {data} --fix {shlex.quote(_new_table(result.data))}"
        steps.append((command, "writes a table without these faults, to fit"))
    if result.audit is None and len([n for n in result.classes.values() if n]) >= LEAST_CLASSES:
        steps.append((f"headstart check {data} --deep", "asks a network: wrong labels, shortcuts"))
    if table is None and result.refusal is None:
        steps.append((f"headstart fit {data}", "takes the images as they are"))
    widths = [text_width(command) for command, _ in steps]
    width = max((width for width in widths if width <= _WIDTH // 2), default=0)
    for number, (command, what) in enumerate(steps):
        yield f"{'' if number else 'next':<{_MARGIN}}{_padded(command, width)}  {what}"


def _headline(result: CheckResult) -> str:
    classes = spoken(len(result.classes), "class") if any(result.classes) else "no class"
    unread = f"; {spoken(len(result.failed), 'file')} can't be read" if result.failed else ""
    return f"{result.dataset.name}: {spoken(result.n, 'image')} in {classes}{unread}"


def _table(result: CheckResult) -> Iterator[str]:
    rows = class_rows(result)
    parts = list(result.splits)
    shown = rows[:_CLASSES]
    width = max([len("class"), *(min(text_width(row.name), _WIDEST) for row in shown)])
    columns = [*parts, "images"]
    yield f"  {'class':<{width}}" + "".join(f"{name:>9}" for name in columns)
    for row in shown:
        numbers = "".join(f"{number:>9,}" for number in (*row.parts, row.total))
        yield f"  {_padded(shortened(row.name, _WIDEST) or '(none)', width)}{numbers}"
    if len(rows) > len(shown):
        rest = [row.total for row in rows[_CLASSES:]]
        yield f"  … and {len(rest):,} more, {min(rest):,} to {max(rest):,} images each"
    if len(rows) > 1:
        sums = [sum(row.parts[at] for row in rows) for at in range(len(parts))]
        yield f"  {'all':<{width}}" + "".join(f"{number:>9,}" for number in (*sums, result.n))


def _facts(result: CheckResult) -> Iterator[str]:
    split = result.split
    if split is not None:
        yield (
            f"{'split':<{_MARGIN}}train {len(split.train):,}, val {len(split.val):,}, test "
            f"{len(split.test):,} ({split.origin})"
        )
        for note in split.notes:
            yield from _wrapped("", note)
    for name, counts in (("sizes", result.sizes), ("formats", result.formats)):
        if counts:
            yield f"{name:<{_MARGIN}}{_counted(counts)}"


def _counted(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    shown = ", ".join(f"{name} ({n:,})" for name, n in list(counts.items())[:_SIZES])
    return shown + (f" and {len(counts) - _SIZES:,} more" if len(counts) > _SIZES else "")


def _finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Return a few findings of each kind; the same advice is given once."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        kinds.setdefault((finding.severity, finding.kind), []).append(finding)
    found = []
    for (severity, kind), some in kinds.items():
        # What is about many images first: a list of doubted labels before this pair and that.
        shown = sorted(some, key=lambda finding: len(finding.files), reverse=True)[:_SHOWN]
        for finding, after in zip(shown, [*shown[1:], None], strict=True):
            found += _wrapped(severity, finding.message)
            if finding.files and finding.files[0] not in finding.message:
                found += _wrapped("", named(finding.files))
            if after is None and len(some) > _SHOWN:
                more = spoken(len(some) - _SHOWN, "more finding")
                found += _wrapped("", f"… and {more} of the kind {kind}")
            if finding.hint and (after is None or after.hint != finding.hint):
                found += _wrapped("", f"> {finding.hint}")
    return found


def _refusal(refusal: DataError) -> list[str]:
    """Return what a fit would stop with, and what it would say to that."""
    message = refusal.message.splitlines()[0].rstrip(":.")
    hint = refusal.hint or ""  # several lines are a drawing, which stands with the finding
    return ["", *_wrapped("fit", f"would not begin: {message}. {'' if chr(10) in hint else hint}")]


def _no_table(fix: Fix) -> list[str]:
    """Return why a table without the faults is not proposed, where these could be left out."""
    if fix.refusal is None or not _changed(fix):
        return []
    why = (
        f"--fix would write none, since fit would refuse it: {fix.refusal.message.splitlines()[0]}"
    )
    return ["", *_wrapped("table", why)]


def _changed(fix: Fix) -> bool:
    """Tell whether a table would differ from the data."""
    return any(change.what != "suspect" for change in fix.changes)


def _new_table(data: str) -> str:
    """Return the name of a table that is not there yet, and not among the images."""
    root = Path(data).resolve()
    here = Path.cwd()
    folder = os.path.relpath(root.parent) if root.is_dir() and here.is_relative_to(root) else ""
    numbered = (f"fixed-{number}.csv" for number in count(2))
    paths = (Path(folder, name) for name in chain(["fixed.csv"], numbered))
    return str(next(path for path in paths if not path.exists()))


def _wrapped(word: str, text: str) -> list[str]:
    """Return a text of at most three lines, with a word in the margin of the first."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"{word:<{_MARGIN}}",
        subsequent_indent=" " * _MARGIN,
        max_lines=_SHOWN,
        placeholder=" …",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _padded(text: str, width: int) -> str:
    return text + " " * (width - text_width(text))
