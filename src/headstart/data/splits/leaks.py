"""What lies on two sides of a split that must not: copies, confirmed pairs and groups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from headstart.data.checks.check import Finding
from headstart.data.items import Item
from headstart.data.matching import require_learnt
from headstart.data.quoting import listed
from headstart.data.splits.units import Pairs
from headstart.errors import DataError

if TYPE_CHECKING:
    from headstart.data.splits.split import Split

__all__ = [
    "PARTS",
    "check_classes",
    "copies_out",
    "gathered",
    "same_files",
    "straddling",
    "without_copies",
]

PARTS = ("train", "val", "test")  # the later, the more it must be kept from the others

_MOST_FILES = 100  # that one finding lists
_MOST_NAMED = 10  # that a message names


def same_files(digests: Sequence[str]) -> list[list[int]]:
    """Return the positions of files that are the same to the byte, a list for each such image."""
    copies = defaultdict(list)
    for index, image in enumerate(digests):
        copies[image].append(index)
    return [group for group in copies.values() if len(group) > 1]


def copies_out(sides: Mapping[int, int], copies: Iterable[Sequence[int]]) -> dict[int, int]:
    """Choose which copies to leave out, so that no image is on two sides.

    An image stays where it must be kept from the others most: in test, else in val. Several
    copies on one side stay.

    Args:
        sides: The place in ``PARTS`` of every position; positions without one don't count.
        copies: Positions of images that are the same, a sequence for each image.

    Returns:
        For each position to leave out, that of a copy which stays.
    """
    out = {}
    for group in copies:
        members = [index for index in group if index in sides]
        kept = max(members, key=lambda index: (sides[index], -index), default=None)
        for index in members:
            if kept is not None and sides[index] < sides[kept]:
                out[index] = kept
    return out


def without_copies(split: Split, copies: Iterable[Sequence[int]], items: Sequence[Item]) -> Split:
    """Leave out of train, then of val, what is also in a more held-out part.

    The digest stays: it names the split as it was planned.

    Args:
        split: Any split.
        copies: Positions of images that are the same, a sequence for each image: by their bytes,
            or by their pixels once they are decoded.
        items: What the split was made of.

    Raises:
        DataError: A class would lose all its training images.
    """
    parts = (split.train, split.val, split.test)
    sides = {index: side for side, part in enumerate(parts) for index in part}
    out = copies_out(sides, copies)
    if not out:
        return split
    left = replace(split.without(out), removed=tuple(sorted((*split.removed, *out))))
    learnt = {items[index].label for index in left.train}
    lost = sorted({items[index].label for index in split.train} - learnt)
    if lost:
        raise DataError(
            f"All training images of these classes are also in val or test: {listed(lost)}.",
            field="split",
            hint="Remove the copies from val and test, or give train other images.",
        )
    counted = Counter(PARTS[sides[index]] for index in out)
    places = " and ".join(f"{n} out of {part}" for part, n in sorted(counted.items()))
    note = f"Copies of images in a more held-out part were left out: {places}."
    return replace(
        left,
        notes=(*split.notes, note),
        findings=(*split.findings, _left_out(out, sides, items)),
    )


def gathered(split: Split, copies: Iterable[Sequence[int]], items: Sequence[Item]) -> Split:
    """Move images that turned out to be the same to one side of a split of our own.

    It is the most held-out side that has one of them; or train, where a class would have no
    training image left. The digest stays: it names the split as it was planned.

    Args:
        split: A split that the data and the user have no part in.
        copies: Positions of images that are the same, a sequence for each image.
        items: What the split was made of.
    """
    parts = [set(split.train), set(split.val), set(split.test)]
    learnt = Counter(items[index].label for index in parts[0])
    moved = 0
    for group in copies:
        sides = {index: side for side, part in enumerate(parts) for index in group if index in part}
        leaving = Counter(items[index].label for index, side in sides.items() if side == 0)
        place = max(sides.values(), default=0)
        if any(learnt[label] == count for label, count in leaving.items()):
            place = 0
        for index, side in sides.items():
            if side == place:
                continue
            parts[side].remove(index)
            parts[place].add(index)
            learnt[items[index].label] += (place == 0) - (side == 0)
            moved += 1
    if not moved:
        return split
    train, val, test = (tuple(sorted(part)) for part in parts)
    note = f"{moved} images have the same pixels as others in other files, and join their part."
    return replace(split, train=train, val=val, test=test, notes=(*split.notes, note))


def straddling(
    parts: Sequence[Sequence[int]], items: Sequence[Item], together: Pairs
) -> Iterator[Finding]:
    """Yield findings of groups, and of confirmed pairs, that lie in more than one part."""
    side = {index: part for part, indices in enumerate(parts) for index in indices}
    groups: dict[str, list[int]] = defaultdict(list)
    for index in sorted(side):
        group = items[index].group
        if group is not None:
            groups[group].append(index)
    parted = {
        group: members
        for group, members in groups.items()
        if len({side[index] for index in members}) > 1
    }
    if parted:
        names = [items[index].name for members in parted.values() for index in members]
        listed = ", ".join(list(parted)[:_MOST_NAMED]) + (
            ", …" if len(parted) > _MOST_NAMED else ""
        )
        yield Finding(
            "group-leak",
            "warning",
            tuple(names[:_MOST_FILES]),
            f"{len(parted)} of {len(groups)} groups lie in more than one part of the given split: "
            f"{listed}.",
            "The result may look better than it is. Give a split that keeps groups whole, or none.",
        )
    pairs = [
        pair
        for pair in together
        if all(index in side for index in pair) and side[pair[0]] != side[pair[1]]
    ]
    if pairs:
        names = [items[index].name for pair in pairs for index in pair]
        yield Finding(
            "split-leak",
            "warning",
            tuple(dict.fromkeys(names))[:_MOST_FILES],
            f"{len(pairs)} pairs of near copies lie in different parts of the given split.",
            "Remove them from all but one, or the result will look better than it is.",
        )


def check_classes(parts: Sequence[Sequence[int]], items: Sequence[Item]) -> None:
    """Refuse a given split whose val or test has classes that train has not; by name.

    Raises:
        DataError: It has, with the classes of both.
    """
    labels = [{items[index].label for index in indices} for indices in parts]
    held = dict(zip(PARTS[1:], labels[1:], strict=True))
    require_learnt(labels[0], held, where="The split", field="split")


def _left_out(out: Mapping[int, int], sides: Mapping[int, int], items: Sequence[Item]) -> Finding:
    """Return the finding that names copies which were left out, and those they are copies of."""
    pairs = [
        f"{items[index].name} ({PARTS[sides[index]]}) is {items[kept].name} ({PARTS[sides[kept]]})"
        for index, kept in sorted(out.items())
    ]
    listed = "; ".join(pairs[:_MOST_NAMED]) + ("; …" if len(pairs) > _MOST_NAMED else "")
    names = [items[index].name for pair in sorted(out.items()) for index in pair]
    return Finding(
        "removed",
        "warning",
        tuple(dict.fromkeys(names))[:_MOST_FILES],
        f"{len(out)} copies of images in a more held-out part were left out: {listed}.",
        "Nothing need be done; without the copies in the data this is not said.",
    )
