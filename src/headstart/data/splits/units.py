"""What must stay on one side of a split: copies of an image, groups, pairs known to be one picture.

A unit is a tuple of positions, ascending. Two images are in one unit where a chain of such ties
leads from one to the other; an image without any is a unit of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from headstart.data.items import Item
from headstart.files import digest

__all__ = ["Pairs", "Unit", "groups_among", "rank", "unit_rank", "units_of"]

Unit = tuple[int, ...]
Pairs = Iterable[tuple[int, int]]


def units_of(
    positions: Iterable[int], items: Sequence[Item], digests: Sequence[str], together: Pairs = ()
) -> list[Unit]:
    """Join the images at ``positions`` that must not be parted.

    Joined are images whose files are the same to the byte, those of one ``Item.group``, and the
    pairs of ``together``. A tie to an image that is not at ``positions`` counts for nothing.

    Args:
        positions: Of the images to join.
        items: All images.
        digests: Their image digests, in the same order.
        together: Further pairs of positions, such as near copies that were confirmed.

    Returns:
        Units that hold each of ``positions`` once, in the order of their first images.
    """
    above = {index: index for index in positions}

    def root(index: int) -> int:
        while above[index] != index:
            above[index] = above[above[index]]
            index = above[index]
        return index

    first: dict[tuple[str, str], int] = {}
    for index in above:
        ties = [("digest", digests[index])]
        if (group := items[index].group) is not None:
            ties.append(("group", group))
        for tie in ties:
            above[root(index)] = root(first.setdefault(tie, index))
    for one, other in together:
        if one in above and other in above:
            above[root(one)] = root(other)
    units = defaultdict(list)
    for index in sorted(above):
        units[root(index)].append(index)
    return [tuple(unit) for unit in units.values()]


def groups_among(units: Iterable[Unit], digests: Sequence[str]) -> list[Unit]:
    """Return the units that hold more than copies of one image."""
    return [unit for unit in units if any(digests[index] != digests[unit[0]] for index in unit)]


def rank(seed: int, image_digest: str) -> str:
    """Return the place of an image in the order that ``seed`` gives to all images."""
    return digest(str(seed), image_digest)


def unit_rank(seed: int, unit: Unit, digests: Sequence[str]) -> str:
    """Return the place of a unit: that of one of its images, always the same one.

    The one is chosen by digest, not by rank: the least rank of many images is a small one, and
    large groups would all come first.
    """
    return rank(seed, min(digests[index] for index in unit))
