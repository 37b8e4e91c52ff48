"""Near copies: images that a network finds nearly equal, and whose pixels confirm it.

A network's features see through a crop, an exposure or an encoder; but where all images are
alike, the next image is as near as a copy is. So features only propose, and the pixels decide
(:func:`headstart.data.checks.copies.confirm`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headstart.data.checks.copies import grouped
from headstart.data.checks.findings import Finding
from headstart.data.items import Item
from headstart.feature_neighbours import Neighbours

__all__ = [
    "NEIGHBOURS",
    "Proposals",
    "Search",
    "components",
    "findings",
    "groups_of",
    "proposed",
    "search",
    "unsearched",
]

Pair = tuple[int, int]

NEIGHBOURS = 5
# Copies that were flipped, re-encoded and shrunk at once kept 0.3 or more of three real sets'
# features; pictures that have nothing to do with each other have 0 on average.
_LEAST = 0.3
# Of copies that were only re-encoded or mirrored, 19 in 20 reached 0.86 in two real sets and 0.77
# in a third; of the pairs proposed where there are no copies, fewer than 3 in 100 reach 0.8. So a
# pair this alike is worth a look whatever came of those before it (docs/audit.md).
_ALIKE = 0.8
_BATCH = 100
_SHARE = 0.05  # of a batch, from here on the next one is worth its time
_MOST_GROUPS = 100
_MOST_FILES = 100


@dataclass(frozen=True)
class Proposals:
    """Pairs that may be copies, the most alike first.

    Attributes:
        pairs: M pairs of positions.
        similarity: (M,) float32, how alike they are, -1..1, falling.
    """

    pairs: tuple[Pair, ...]
    similarity: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Search:
    """What came of proposals.

    Attributes:
        pairs: Those that are copies, ascending.
        left: How many were not compared although they may well be copies; 0 where the search came
            to its end.
    """

    pairs: tuple[Pair, ...]
    left: int


def proposed(neighbours: Neighbours, settled: npt.NDArray[np.int64]) -> Proposals:
    """Propose pairs that may be copies: each among the other's nearest five.

    Args:
        neighbours: Each image's nearest others.
        settled: (N,) a number that images share which are known to be copies, so that they are
            not proposed.
    """
    index, similarity = neighbours.index[:, :NEIGHBOURS], neighbours.similarity[:, :NEIGHBOURS]
    rows, places = np.nonzero(similarity >= _LEAST)
    others = index[rows, places]
    mutual = (index[others] == rows[:, None]).any(axis=1)
    kept = mutual & (rows < others) & (settled[rows] != settled[others])
    values = similarity[rows, places][kept]
    ranked = np.lexsort((others[kept], rows[kept], -values))
    pairs = zip(rows[kept][ranked].tolist(), others[kept][ranked].tolist(), strict=True)
    return Proposals(tuple(pairs), values[ranked])


def search(
    proposals: Proposals,
    same: Callable[[Sequence[Pair]], Iterable[Pair]],
    *,
    least: int,
    most: int,
) -> Search:
    """Compare what was proposed, a hundred pairs at a time, for as long as it is worth it.

    Past ``least`` pairs the search goes on while one in twenty of the last batch was a copy, or
    while the next pair is as alike as plain copies are.

    Args:
        proposals: What features proposed.
        same: Keeps the pairs that are copies.
        least: How many pairs are compared in any case.
        most: How many at most.
    """
    pairs, similarity = proposals.pairs, proposals.similarity
    found: list[Pair] = []
    done, pays = 0, False
    while done < min(len(pairs), most):
        if done >= least and not pays and similarity[done] < _ALIKE:
            break
        batch = pairs[done : min(done + _BATCH, most)]
        kept = list(same(batch))
        pays = len(kept) >= _SHARE * len(batch)
        found += kept
        done += len(batch)
    left = len(pairs) - done if pays else int((similarity[done:] >= _ALIKE).sum())
    return Search(tuple(sorted(found)), left)


def components(n: int, bonds: Iterable[Sequence[int]]) -> npt.NDArray[np.int64]:
    """Number what bonds hold together, directly or by others: (N,), one number a component.

    Args:
        n: Number of images.
        bonds: Positions that belong together: pairs of copies, groups of images.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    links = [(bond[0], other) for bond in bonds for other in bond[1:]]
    ends = np.array(links, dtype=np.int64).reshape(-1, 2).T
    graph = coo_matrix((np.ones(len(links), np.int8), tuple(ends)), shape=(n, n))
    numbers: npt.NDArray[np.int64] = connected_components(graph, directed=False)[1]
    return numbers.astype(np.int64)


def groups_of(
    pairs: Sequence[Pair],
    digests: Sequence[str],
    known: Iterable[Sequence[int]],
    same: Callable[[Sequence[Pair]], Iterable[Pair]],
) -> tuple[tuple[int, ...], ...]:
    """Join confirmed pairs to groups without chains, with the known copies of their members.

    Args:
        pairs: Pairs that are copies.
        digests: The N image digests.
        known: Groups of copies that were known before.
        same: Keeps of other pairs those that are copies too.

    Returns:
        Groups of two or more, each ascending, in the order of their first.
    """
    copies: dict[int, set[int]] = defaultdict(set)
    for group in known:
        for member in group:
            copies[member].update(group)
    groups = [
        tuple(sorted({copy for member in group for copy in (member, *copies[member])}))
        for group in grouped(pairs, digests, same)
    ]
    return tuple(sorted(groups))


def findings(groups: Sequence[Sequence[int]], items: Sequence[Item]) -> Iterator[Finding]:
    """Yield a finding for each group of near copies, those that do harm first; at most 100.

    Args:
        groups: Positions of images that are near copies of each other.
        items: All images.
    """
    found = [one for group in groups for one in _findings([items[place] for place in group])]
    found.sort(key=lambda finding: finding.severity, reverse=True)  # warnings before notes
    yield from found[:_MOST_GROUPS]
    if len(found) > _MOST_GROUPS:
        more = f"{len(found) - _MOST_GROUPS} more such findings about near copies."
        yield Finding("near-duplicate", found[_MOST_GROUPS].severity, (), more)


def unsearched(left: int) -> Finding:
    """Return the finding that near copies may have been missed.

    Args:
        left: How many promising pairs were not compared, 1 or more.
    """
    pairs = "1 more pair of images was" if left == 1 else f"{left:,} more pairs of images were"
    return Finding(
        "not-searched",
        "note",
        (),
        f"{pairs} alike enough to be copies, and not compared for want of time: there may be more "
        "near copies than were found, and a score without copies leaves out only those found.",
        "Remove the copies that were found and look again: headstart check DATA --deep compares "
        "the most.",
    )


def _findings(group: Sequence[Item]) -> Iterator[Finding]:
    names = tuple(item.name for item in group[:_MOST_FILES])
    labels = sorted({item.label for item in group})
    splits = sorted({item.split for item in group if item.split is not None})
    copies = f"{len(group)} files show the same picture, encoded, sized or turned differently"
    if len(labels) > 1:
        message = f"{copies}, under different labels: {', '.join(labels)}."
        yield Finding("label", "warning", names, message, "Keep the one whose label is right.")
    if len(splits) > 1:
        message = f"{copies}, in different splits: {', '.join(splits)}."
        hint = "Remove it from all but one, or the result will look better than it is."
        yield Finding("split-leak", "warning", names, message, hint)
    if len(labels) == 1 and len(splits) <= 1:
        hint = (
            "One is enough: headstart check DATA --fix FILE writes a table that keeps them on one "
            "side."
        )
        yield Finding("near-duplicate", "note", names, f"{copies}.", hint)
