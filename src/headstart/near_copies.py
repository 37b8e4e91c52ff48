"""Near copies: images that a network finds nearly equal, and whose pixels confirm it.

A network's features see through a crop, an exposure or an encoder; but where all images are
alike, the next image is as near as a copy is. So features only propose, and the pixels decide
(:func:`headstart.data.checks.copies.confirm`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from headstart.data.checks.copies import grouped
from headstart.data.checks.findings import Finding
from headstart.data.items import Item
from headstart.feature_neighbours import Neighbours

__all__ = ["NEIGHBOURS", "components", "findings", "groups_of", "proposed"]

Pair = tuple[int, int]

NEIGHBOURS = 5
# Copies that were flipped, re-encoded and shrunk at once kept 0.3 or more of three real sets'
# features; pictures that have nothing to do with each other have 0 on average.
_LEAST = 0.3
_MOST_GROUPS = 100
_MOST_FILES = 100


def proposed(neighbours: Neighbours, settled: npt.NDArray[np.int64], most: int) -> list[Pair]:
    """Propose pairs that may be copies: each among the other's nearest five, most alike first.

    Args:
        neighbours: Each image's nearest others.
        settled: (N,) a number that images share which are known to be copies, so that they are
            not proposed.
        most: How many pairs at most.
    """
    index, similarity = neighbours.index[:, :NEIGHBOURS], neighbours.similarity[:, :NEIGHBOURS]
    rows, places = np.nonzero(similarity >= _LEAST)
    others = index[rows, places]
    mutual = (index[others] == rows[:, None]).any(axis=1)
    kept = mutual & (rows < others) & (settled[rows] != settled[others])
    ranked = np.lexsort((others[kept], rows[kept], -similarity[rows, places][kept]))[:most]
    return list(zip(rows[kept][ranked].tolist(), others[kept][ranked].tolist(), strict=True))


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
        hint = "One is enough; a split of headstart's own keeps them on one side."
        yield Finding("near-duplicate", "note", names, f"{copies}.", hint)
