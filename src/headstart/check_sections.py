"""What the page of a check shows: the findings by kind, as pictures and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headstart.check_text import spoken
from headstart.data.checks.check import Finding
from headstart.fixing import doubt

if TYPE_CHECKING:
    from headstart.checking import CheckResult

__all__ = ["Card", "Gauge", "Section", "Strip", "sections"]

_STRIPS = 12  # of a kind of finding
_COPIES = 6  # pictures of a group of copies
_CARDS = {"outlier": 20, "suspicious": 20, "overlap": 10}  # pictures of a finding
_OTHER_CARDS = 5
_SUSPECTS_SHOWN = 40
_COPYING = {"duplicate", "near-duplicate", "split-leak", "label"}  # a finding is a group of copies

_TITLES = {
    "unreadable": ("Files that can't be read", "They are left out of everything."),
    "suspicious": ("Images that show little", "They can be read, but hardly hold a picture."),
    "split-leak": (
        "On both sides of the split",
        "What was learnt by heart is then taken for skill: the result looks better than it is.",
    ),
    "group-leak": (
        "Groups on both sides of the split",
        "Images of one group have more in common than their class.",
    ),
    "label": (
        "One image, two labels",
        "At least one of the labels is wrong, and together they teach nothing.",
    ),
    "duplicate": (
        "The same image several times",
        "Equal to the byte or to the pixel. It counts more than others, and measures nothing new.",
    ),
    "near-duplicate": (
        "Nearly the same image",
        "Encoded anew, resized, mirrored or turned. Such copies belong on one side of a split.",
    ),
    "overlap": ("Classes that overlap", "A network can hardly tell them apart."),
    "outlier": (
        "Unlike all others",
        "Far from every other image, as a network sees them: often of no class at all.",
    ),
    "shortcut": (
        "Shortcuts",
        "Facts of the files that betray the label without a look at what is in the picture. A "
        "network may learn them instead, and fail where they no longer hold.",
    ),
    "imbalance": ("Classes of very different size", ""),
    "few-images": ("Classes too small to measure", ""),
    "format": ("Names that tell another format", "Images are read by content, whatever the name."),
    "depth": ("More than 8 bits a channel", ""),
    "frames": ("Several frames", ""),
    "sizes": ("Sizes", ""),
    "modes": ("Colour modes", ""),
}
_SUSPECTS = (
    "Probably wrong labels",
    "Judged by a network that had not seen the image with its label. Look before you change one: "
    "some are only unusual.",
)


@dataclass(frozen=True, slots=True)
class Card:
    """A picture with what is to be known of it.

    Attributes:
        position: Of the item in the result; None for a file that is not among them.
        name: The item's name.
        facts: What is said below it: term, text, and whether it is what is wrong.
    """

    position: int | None
    name: str
    facts: tuple[tuple[str, str, bool], ...] = ()


@dataclass(frozen=True, slots=True)
class Strip:
    """One finding: what was found, its pictures, and the names of those that are not shown."""

    message: str
    hint: str | None = None
    cards: tuple[Card, ...] = ()
    others: tuple[str, ...] = ()
    copies: bool = False


@dataclass(frozen=True, slots=True)
class Gauge:
    """How well facts alone tell classes from all others: balanced accuracy with its interval."""

    facts: str
    classes: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Section:
    """All findings of a kind.

    Attributes:
        kind: The kind, which also names the section.
        title: The kind in words.
        meaning: Why it matters, or "".
        severity: Of its gravest finding.
        strips: The findings that are shown.
        more: How many are not.
        failed: Names and reasons of files that can't be read.
        gauges: Shares to draw.
    """

    kind: str
    title: str
    meaning: str
    severity: str
    strips: tuple[Strip, ...]
    more: int = 0
    failed: tuple[tuple[str, str], ...] = ()
    gauges: tuple[Gauge, ...] = ()

    @property
    def anchor(self) -> str:
        """What a link to the section names."""
        return f"kind-{re.sub('[^a-z0-9]+', '-', self.kind.lower())}"

    @property
    def size(self) -> str:
        """How much there is of it, where that is more than one thing."""
        if self.failed:
            return spoken(len(self.failed), "file")
        n = len(self.strips) + self.more
        if n > 1:
            return f"{n:,}"
        (strip,) = self.strips
        files = len(strip.cards) + len(strip.others)
        return spoken(files, "image") if files else ""

    @property
    def hints(self) -> tuple[str, ...]:
        """What can be done, where it is the same for all, or for many copies; else empty."""
        hints = tuple(dict.fromkeys(strip.hint for strip in self.strips if strip.hint))
        return hints if len(hints) == 1 or self.strips[0].copies else ()


def sections(result: CheckResult) -> Iterator[Section]:
    """Yield the findings by kind, the gravest first, and the labels that a network doubts."""
    positions = {item.name: position for position, item in enumerate(result.items)}
    findings: Sequence[Finding] = result.findings
    suspects = _suspects(result)
    if suspects is not None and result.audit is not None:  # told by that section, and better
        findings = [finding for finding in findings if finding is not result.audit.label]
    for kind, some in _by_kind(findings).items():
        if suspects is not None and some[0].severity == "note":
            yield suspects
            suspects = None
        yield _section(result, kind, some, positions)
    if suspects is not None:
        yield suspects


def _by_kind(findings: Sequence[Finding]) -> dict[str, list[Finding]]:
    """Return the findings by kind, in the order in which the kinds first come."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    return kinds


def _section(
    result: CheckResult, kind: str, findings: Sequence[Finding], positions: Mapping[str, int]
) -> Section:
    title, meaning = _TITLES.get(kind, (kind.replace("-", " ").capitalize(), ""))
    failed: tuple[tuple[str, str], ...] = ()
    if kind == "unreadable":
        failed = tuple((failure.name, failure.reason) for failure in result.failed)
    reasons = {}
    if kind == "suspicious":
        reasons = {failure.index: failure.reason for failure in result.inspection.suspicious}
    room = _CARDS.get(kind, _OTHER_CARDS)
    strips = []
    for finding in findings[:_STRIPS]:
        copies = kind in _COPYING and len(finding.files) > 1
        shown = finding.files[: _COPIES if copies else room] if not failed else ()
        cards = tuple(_card(result, name, positions.get(name), reasons) for name in shown)
        others = finding.files[len(shown) :] if not failed else ()
        said = finding.message
        if copies and finding.files[0] in said:  # the pictures are named below them
            said = f"{said.partition(':')[0]}."
        strips.append(Strip(said, finding.hint, cards, others, copies))
    return Section(
        kind=kind,
        title=title,
        meaning=meaning,
        severity=findings[0].severity,
        strips=tuple(strips),
        more=len(findings) - len(strips),
        failed=failed,
        gauges=_gauges(result) if kind == "shortcut" else (),
    )


def _card(result: CheckResult, name: str, position: int | None, reasons: Mapping[int, str]) -> Card:
    if position is None:
        return Card(None, name)
    item = result.items[position]
    facts = [("is", item.label, False)] if item.label else []
    if item.split is not None:
        facts.append(("in", item.split, False))
    if position in reasons:
        facts.append(("why", reasons[position], True))
    return Card(position, name, tuple(facts))


def _suspects(result: CheckResult) -> Section | None:
    """Return the section of labels that a network doubts, if there are any."""
    if result.audit is None:
        return None
    suspects = [suspect for suspect in result.audit.suspects if suspect.candidate]
    if not suspects:
        return None
    cards = tuple(
        Card(
            it.position,
            result.items[it.position].name,
            (
                ("is", it.given, False),
                ("looks like", it.suggested, True),
                ("doubt", doubt(it.confidence), False),
            ),
        )
        for it in suspects[:_SUSPECTS_SHOWN]
    )
    others = tuple(result.items[it.position].name for it in suspects[len(cards) :])
    told = result.audit.label
    hint = None if told is None else told.hint
    message = f"{spoken(len(suspects), 'image')}, the surest first."
    title, meaning = _SUSPECTS
    return Section("suspects", title, meaning, "warning", (Strip(message, hint, cards, others),))


def _gauges(result: CheckResult) -> tuple[Gauge, ...]:
    if result.audit is None:
        return ()
    return tuple(
        Gauge(" and ".join(it.facts), ", ".join(it.reveals), it.accuracy, it.low, it.high)
        for it in result.audit.shortcuts
    )
