"""The page of a check: one HTML file with the pictures of what was found.

Like a run's page it needs nothing but a browser: no script, no request, pictures inside. Names are
shown as they are and never interpreted. How large it can get is bounded: it shows a few hundred
small pictures at most, of the gravest findings first, and says where others are left out.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from headstart import __version__
from headstart.check_sections import Section, sections
from headstart.check_text import class_rows, spoken
from headstart.data.checks.check import Finding
from headstart.data.items import Item
from headstart.data.loader import in_threads
from headstart.data.read import decode
from headstart.errors import BadImage, ModelError, UsageError
from headstart.markup import render
from headstart.report import thumbnail

if TYPE_CHECKING:
    from headstart.checking import CheckResult

__all__ = ["MOST_PICTURES", "render_check", "require_replaceable"]

MOST_PICTURES = 240  # some 5 kB each, so that the page stays below 2 MB
_MARK = b'<meta name="generator" content="headstart check">'  # near the page's beginning
_SIDE = 160  # pixels of a picture's longer side
_SAMPLES = 6  # pictures of a class
_SAMPLED = 12  # classes that have them
_CLASSES = 30  # rows of the table of classes that are not folded away


def render_check(result: CheckResult, command: str) -> str:
    """Return the page of a check as HTML that can be encoded as UTF-8.

    Args:
        result: What was found.
        command: The command to show, which does it again.
    """
    shown, n_shown, left = _bounded(list(sections(result)))
    samples = _samples(result) if n_shown + _SAMPLED * _SAMPLES <= MOST_PICTURES else {}
    wanted = [card.position for part in shown for strip in part.strips for card in strip.cards]
    sampled = [position for positions in samples.values() for position in positions]
    pictures = _pictures(result.items, [*wanted, *sampled])
    rows = class_rows(result)
    return render(
        "check.html.j2",
        "check --json",
        {
            "base64": lambda content: b64encode(content).decode("ascii"),
            "above_chance": lambda value: f"{200 * max(value - 0.5, 0):.2f}%",  # of 0.5 to 1
        },
        it=result,
        name=result.dataset.name,
        sections=shown,
        counts=_severities(result.findings),
        rows=rows,
        unfolded=_CLASSES,
        largest=max([row.total for row in rows], default=1) or 1,
        samples=samples,
        pictures=pictures,
        n_shown=n_shown,
        left=left,
        command=command,
        created=time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        version=__version__,
    )


def require_replaceable(path: Path) -> None:
    """Check, before anything is computed, that a page may be written to ``path``.

    Raises:
        UsageError: It is a folder.
        ModelError: There is something that is no page of a check.
    """
    if path.is_dir():
        raise UsageError(f"--html must name a file; {path} is a folder.", field="html")
    if not path.exists() and not path.is_symlink():
        return
    try:
        with path.open("rb") as file:
            ours = _MARK in file.read(1024)
    except OSError:  # a link to nowhere, or not for us to read
        ours = False
    if not ours:
        raise ModelError(
            f"{path} exists and is no page of a check, so --html leaves it alone.",
            field="html",
            hint="Name another file, or remove that one.",
        )


def _severities(findings: Sequence[Finding]) -> list[tuple[str, str]]:
    """Return how many findings there are of each severity, as severity and words."""
    counts = {"error": 0, "warning": 0, "note": 0}
    for finding in findings:
        counts[finding.severity] += 1
    return [(name, spoken(n, name)) for name, n in counts.items() if n]


def _bounded(found: Sequence[Section]) -> tuple[list[Section], int, int]:
    """Take the pictures off those cards that are too many, and count both kinds."""
    n_shown = left = 0
    bounded = []
    for section in found:
        strips = []
        for strip in section.strips:
            cards = []
            for card in strip.cards:
                room = n_shown < MOST_PICTURES
                n_shown += room and card.position is not None
                left += not room and card.position is not None
                cards.append(card if room else replace(card, position=None))
            strips.append(replace(strip, cards=tuple(cards)))
        bounded.append(replace(section, strips=tuple(strips)))
    return bounded, n_shown, left


def _samples(result: CheckResult) -> dict[str, tuple[int, ...]]:
    """Choose a few images of each class, evenly over its names; none where classes are many."""
    if len(result.classes) > _SAMPLED:
        return {}
    of_class: dict[str, list[int]] = {name: [] for name in result.classes}
    for position, item in enumerate(result.items):
        of_class[item.label].append(position)
    return {
        name: tuple(held[len(held) * at // _SAMPLES] for at in range(min(_SAMPLES, len(held))))
        if len(held) > _SAMPLES
        else tuple(held)
        for name, held in of_class.items()
    }


def _pictures(items: Sequence[Item], wanted: Iterable[int | None]) -> dict[int, bytes]:
    """Return small pictures of the items at these positions, without those that are gone."""
    positions = list(dict.fromkeys(position for position in wanted if position is not None))

    def small(position: int) -> bytes | None:
        try:
            return thumbnail(decode(items[position].path, at_least=_SIDE), _SIDE)
        except BadImage:  # since the check
            return None

    made = zip(positions, in_threads(small, positions), strict=True)
    return {position: picture for position, picture in made if picture is not None}
