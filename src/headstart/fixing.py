"""What of a data set with faults to keep: decided here, written by ``fixed_table``.

What can be mended by leaving out or by grouping is mended; what only its owner can decide, such as
the right label of a suspect, is told beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

from headstart.checking import LEAST_CLASSES, CheckResult, divide
from headstart.data.items import Item
from headstart.errors import DataError

if TYPE_CHECKING:
    from headstart.label_errors import Suspect

__all__ = ["Change", "Fix", "FixedRow", "doubt", "mend"]

_HELD_OUT = {"test": 0, "val": 1, "train": 2, None: 3}  # of copies the most held out one is kept

Members = Sequence[int]


@dataclass(frozen=True, slots=True)
class Change:
    """Something worth telling the owner about one image.

    Attributes:
        what: ``left out``, ``grouped`` or ``suspect``; the last is told and not changed.
        name: The item's name.
        why: The reason, in words.
    """

    what: str
    name: str
    why: str

    def to_dict(self) -> dict[str, str]:
        """Return plain JSON types."""
        return {"what": self.what, "path": self.name, "why": self.why}


@dataclass(frozen=True, slots=True)
class FixedRow:
    """An image that is kept, its group, and what its owner should know.

    Attributes:
        item: The item; its label and its split stay as they are.
        group: Its group, the data's own or a new one; "" for none.
        suggested: The class that a network takes it for, where that is not its label; else "".
        note: Why the image deserves a look; else "".
    """

    item: Item
    group: str = ""
    suggested: str = ""
    note: str = ""


@dataclass(frozen=True)
class Fix:
    """The images that are kept, and all that was changed.

    Attributes:
        rows: The images that are kept, in the data's order.
        changes: What is to be told, images left out first.
        refusal: What ``fit`` would stop with, were it given these images; None where it would
            begin.
    """

    rows: tuple[FixedRow, ...]
    changes: tuple[Change, ...]
    refusal: DataError | None = field(default=None, compare=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are left, sorted."""
        return tuple(sorted({row.item.label for row in self.rows}))


def mend(result: CheckResult) -> Fix:
    """Decide what to keep, what to leave out and what belongs together.

    Left out are files that can't be read; all but one of identical images, of which test's is kept
    before val's and train's; identical images whose labels disagree, unless a network doubts all
    of these labels but one; and images of train that have a near copy in val or test, or of val in
    test. Other near copies share a group, so that a split keeps them on one side. Labels stay, and
    so do images that are only odd.
    """
    plan = _Plan(result.items)
    groups = result.inspection.groups
    near: list[Members] = [group.members for group in groups if group.how == "near"]
    for odd in result.inspection.suspicious:
        plan.notes[odd.index].append(odd.reason)
    if result.audit is not None:
        plan.take_doubts(result.audit.suspects)
        near += result.audit.near
        for strange in result.audit.outliers:
            plan.notes[strange.position].append("unlike all other images")
    for group in groups:
        if group.how != "near":
            plan.keep_one(group.members)
    for members in near:
        plan.keep_one_side(members)
    near = [left for members in near if len(left := plan.left(members)) > 1]
    for members in near:
        plan.tell_near(members)
    named = _named_groups(plan, near)
    left_out = [Change("left out", it.name, f"can't be read: {it.reason}") for it in result.failed]
    left_out += [Change("left out", plan.name(it), why) for it, why in sorted(plan.gone.items())]
    rows = {
        position: FixedRow(
            item,
            named.get(position, ""),
            plan.suggested.get(position, ""),
            "; ".join(dict.fromkeys(plan.notes.get(position, ()))),
        )
        for position, item in enumerate(plan.items)
        if position not in plan.gone
    }
    digests = result.inspection.looks.digests
    return Fix(
        tuple(rows.values()),
        (*left_out, *_told(rows.values())),
        _refusal(list(rows.values()), [digests[position] for position in rows]),
    )


def doubt(confidence: float) -> str:
    """Return how sure a network is that a label is wrong, in percent and never wholly."""
    return f"{min(round(100 * confidence), 99)} %"


def _refusal(rows: Sequence[FixedRow], digests: Sequence[str]) -> DataError | None:
    """Return what a fit of these rows would stop with."""
    classes = sorted({row.item.label for row in rows})
    if len(classes) < LEAST_CLASSES:
        return DataError(f"Fewer than {LEAST_CLASSES} classes would be left.", field="classes")
    items = [replace(row.item, group=row.group or None) for row in rows]
    return divide(items, digests, classes)[1]


@dataclass
class _Plan:
    """What is decided on the way, image by image; positions are those of ``items``."""

    items: Sequence[Item]
    gone: dict[int, str] = field(default_factory=dict)
    notes: dict[int, list[str]] = field(default_factory=lambda: defaultdict(list))
    seen_as: dict[int, str] = field(default_factory=dict)
    suggested: dict[int, str] = field(default_factory=dict)

    def take_doubts(self, suspects: Iterable[Suspect]) -> None:
        """Remember what a network takes images for, and tell where that is worth a look."""
        for suspect in suspects:
            self.seen_as[suspect.position] = suspect.suggested
            if suspect.candidate:
                self.suggested[suspect.position] = suspect.suggested
                said = f"looks like {suspect.suggested} (doubt {doubt(suspect.confidence)})"
                self.notes[suspect.position].append(said)

    def name(self, position: int) -> str:
        return self.items[position].name

    def left(self, members: Iterable[int]) -> list[int]:
        """Return those that are still in, the one to keep first: held out, then shortly named."""

        def rank(position: int) -> tuple[int, int, str]:
            item = self.items[position]
            return _HELD_OUT.get(item.split, len(_HELD_OUT)), len(item.name), item.name

        return sorted((it for it in members if it not in self.gone), key=rank)

    def keep_one(self, members: Members) -> None:
        """Leave out all but one of identical images; all of them where their labels disagree."""
        labels = sorted({self.items[position].label for position in members})
        left = self.left(members)
        if len(labels) > 1:
            believed = {self.seen_as.get(it, self.items[it].label) for it in members}
            right = believed.pop() if len(believed) == 1 else None
            why = f"the same image is labelled {' and '.join(labels)}"
            if right in labels:
                why = f"the same image is labelled {right}, and looks like it"
            self.gone |= {it: why for it in left if self.items[it].label != right}
            left = self.left(members)
        for position in left[1:]:
            self.gone[position] = f"the same image as {self.name(left[0])}"

    def keep_one_side(self, members: Members) -> None:
        """Leave out near copies of what a later part of the given split holds."""
        left = self.left(members)
        if not left or self.items[left[0]].split is None:
            return
        kept = self.items[left[0]].split
        why = f"nearly the same image as {self.name(left[0])}, which is in {kept}"
        self.gone |= {it: why for it in left if self.items[it].split != kept}

    def tell_near(self, left: Members) -> None:
        """Note of each near copy which image it is a copy of, and where their labels differ."""
        first = left[0]
        for one, other in [(first, left[1]), *((position, first) for position in left[1:])]:
            label = self.items[other].label
            differs = f", which is labelled {label}" if label != self.items[one].label else ""
            self.notes[one].append(f"nearly the same image as {self.name(other)}{differs}")


def _named_groups(plan: _Plan, near: Sequence[Members]) -> dict[int, str]:
    """Name the groups: the data's own, those that near copies tie together as one, and new ones."""
    kept = [position for position in range(len(plan.items)) if position not in plan.gone]
    own: dict[str, list[int]] = defaultdict(list)
    for position in kept:
        group = plan.items[position].group
        if group is not None:
            own[group].append(position)
    sets = _Sets()
    for members in (*own.values(), *near):
        sets.join(members)
    together: dict[int, list[int]] = defaultdict(list)
    for position in kept:
        together[sets.root(position)].append(position)
    fresh = (name for number in count(1) if (name := f"near-{number}") not in own)
    named: dict[int, str] = {}
    for members in together.values():
        names = sorted({group for it in members if (group := plan.items[it].group) is not None})
        if names or len(members) > 1:
            named |= dict.fromkeys(members, "+".join(names) or next(fresh))
    return named


def _told(rows: Iterable[FixedRow]) -> Iterator[Change]:
    """Yield what is to be told of the images that are kept."""
    for row in rows:
        name = row.item.name
        if row.group != (row.item.group or ""):
            yield Change("grouped", name, f"{row.group}: {row.note or 'joined by a near copy'}")
        elif row.note:
            labelled = f"labelled {row.item.label}, " if row.suggested else ""
            yield Change("suspect", name, labelled + row.note)


class _Sets:
    """Sets of positions that grow together (union-find); the smallest position names a set."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def root(self, position: int) -> int:
        while (above := self._above.get(position, position)) != position:
            self._above[position] = self._above.get(above, above)
            position = above
        return position

    def join(self, members: Members) -> None:
        roots = sorted({self.root(position) for position in members})
        self._above |= dict.fromkeys(roots[1:], roots[0])
