"""Which files hold the same image: to the byte, to the pixel, or nearly.

Near copies are re-encoded, resized, flipped, turned by a right angle, a little brighter or darker,
or cropped by a few percent. Descriptors propose pairs (:mod:`headstart.data.checks.neighbours`),
the pixels decide (:mod:`headstart.data.checks.likeness`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from headstart.data.checks.likeness import LARGEST_SIDE, Thumbnail, is_copy, thumbnail
from headstart.data.checks.look import Looks
from headstart.data.checks.neighbours import MOST_PICTURES, candidates
from headstart.data.loader import in_threads
from headstart.data.read import decode
from headstart.errors import BadImage

__all__ = ["Group", "confirm", "exact_groups", "grouped", "near_groups", "same_bytes"]

Pair = tuple[int, int]

_DECODED_SIDE = 2 * LARGEST_SIDE  # a JPEG is decoded no larger than needed
_THUMBNAILS = 128  # held at a time, 5 MB


@dataclass(frozen=True, slots=True)
class Group:
    """Images that are one.

    Attributes:
        how: ``bytes``, ``pixels`` or ``near``.
        members: Their positions, at least two. Of a near group the first is its centre, which
            each of the others was compared with; the rest ascend.
    """

    how: Literal["bytes", "pixels", "near"]
    members: tuple[int, ...]


def same_bytes(digests: Sequence[str]) -> tuple[Group, ...]:
    """Return the groups of files with the same bytes, in the order of their first members."""
    return tuple(Group("bytes", members) for members in _equal(digests))


def exact_groups(looks: Looks) -> tuple[Group, ...]:
    """Return the groups of images with the same pixels, in the order of their first members.

    Files of other formats or with other metadata may be among them; where all have the same
    bytes, the group says so.
    """
    groups = _equal([row.tobytes() for row in looks.pixels])
    one_file = (len({looks.digests[index] for index in members}) == 1 for members in groups)
    return tuple(
        Group("bytes" if same else "pixels", members)
        for same, members in zip(one_file, groups, strict=True)
    )


def near_groups(
    looks: Looks,
    exact: Sequence[Group],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Group, ...] | None:
    """Return the groups of images that are nearly the same, with their exact copies.

    Args:
        looks: What is known of the images.
        exact: Their exact groups, of which one image each is compared with others.
        progress: Called with the number of pairs compared and of all that are to be.

    Returns:
        None where there are more images than
        :data:`~headstart.data.checks.neighbours.MOST_PICTURES`.
    """
    copies = {group.members[0]: group.members[1:] for group in exact}
    spare = {index for others in copies.values() for index in others}
    single = [index for index in range(len(looks.items)) if index not in spare]
    if len(single) > MOST_PICTURES:
        return None
    paths = [looks.items[index].path for index in single]
    order = [looks.digests[index] for index in single]
    pairs = confirm(paths, candidates(looks.descriptors[single]), progress=progress)
    found = []
    for centre, *others in grouped(pairs, order, lambda asked: confirm(paths, asked)):
        members = [single[index] for index in others]
        members += [copy for index in (centre, *others) for copy in copies.get(single[index], ())]
        found.append(Group("near", (single[centre], *sorted(members))))
    return tuple(sorted(found, key=lambda group: min(group.members)))


def confirm(
    paths: Sequence[Path],
    pairs: Iterable[Pair],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> list[Pair]:
    """Keep the pairs whose images are one, as their pixels tell.

    Args:
        paths: Image files.
        pairs: Positions in ``paths``, from anywhere: descriptors, features, the user.
        progress: Called with the number of pairs compared and of all.
    """

    @lru_cache(maxsize=_THUMBNAILS)
    def small(index: int) -> Thumbnail | None:
        try:
            return thumbnail(decode(paths[index], at_least=_DECODED_SIDE))
        except BadImage:
            return None  # it was readable, and is not any more

    def compare(pair: Pair) -> bool:
        first, second = small(pair[0]), small(pair[1])
        return first is not None and second is not None and is_copy(first, second)

    # Sorted, so that one image's pairs come together and its thumbnail is still there.
    pairs = sorted(pairs)
    kept = []
    for done, (pair, same) in enumerate(zip(pairs, in_threads(compare, pairs), strict=True), 1):
        if same:
            kept.append(pair)
        if progress is not None:
            progress(done, len(pairs))
    return kept


def grouped(
    pairs: Sequence[Pair],
    order: Sequence[str],
    same: Callable[[Sequence[Pair]], Iterable[Pair]],
) -> list[tuple[int, ...]]:
    """Turn pairs into disjoint groups without chains: each member is a copy of the group's first.

    In a series of photos each may pass for a copy of the next, and the last be another picture
    than the first. So of all that hang together, the one with the most copies is the centre, and
    only what is a copy of it joins; what is left is grouped in the same way.

    Args:
        pairs: Positions of images that are copies of each other.
        order: A text for each position, such as its digest, that decides between equals, so that
            the groups do not depend on the order of the images.
        same: Keeps of other pairs those that are copies too.

    Returns:
        Groups of two or more, each with its centre first.
    """
    links: dict[int, set[int]] = defaultdict(set)
    for one, other in pairs:
        links[one].add(other)
        links[other].add(one)
    groups = []
    while links:
        centres = {}
        for together in _connected(links):
            centre = min(together, key=lambda index: (-len(links[index]), order[index]))
            centres[centre] = set(links[centre])
        _widen(centres, links, same)
        groups += [(centre, *sorted(members)) for centre, members in centres.items()]
        taken = {index for centre, members in centres.items() for index in (centre, *members)}
        left = {index: others - taken for index, others in links.items() if index not in taken}
        links = {index: others for index, others in left.items() if others}
    return groups


def _widen(
    centres: dict[int, set[int]],
    links: Mapping[int, set[int]],
    same: Callable[[Sequence[Pair]], Iterable[Pair]],
) -> None:
    """Add to the copies of each centre what a chain of its copies leads to and is one as well.

    Only neighbours of copies are asked for, then those of what joined. Of a series of photos, where
    each is linked to the next, that is the stretch around the centre and not the whole series.
    """
    edges = {centre: {centre, *members} for centre, members in centres.items()}
    known = {centre: set(edge) for centre, edge in edges.items()}
    while edges:
        asked = []
        for centre, edge in edges.items():
            new = set().union(*(links[index] for index in edge)) - known[centre]
            known[centre] |= new
            asked += [_pair(centre, index) for index in sorted(new)]
        edges = defaultdict(set)
        for one, other in same(asked) if asked else ():
            centre, member = (one, other) if one in centres else (other, one)
            centres[centre].add(member)
            edges[centre].add(member)


def _equal(keys: Sequence[Hashable]) -> list[tuple[int, ...]]:
    same: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        same[key].append(index)
    return [tuple(members) for members in same.values() if len(members) > 1]


def _connected(links: Mapping[int, set[int]]) -> list[set[int]]:
    """Return the sets of positions that hang together."""
    seen: set[int] = set()
    found = []
    for start in links:
        if start in seen:
            continue
        together, waiting = {start}, [start]
        while waiting:
            new = links[waiting.pop()] - together
            together |= new
            waiting += new
        seen |= together
        found.append(together)
    return found


def _pair(one: int, other: int) -> Pair:
    return min(one, other), max(one, other)
