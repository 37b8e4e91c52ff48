"""Sharing images out to train, val and test: stratified, and never parting what belongs together.

No random numbers: images stand in the order of a hash of (seed, image digest). So a split does
not depend on file names or on the order of a listing, and an added image moves few others.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from headstart.data.splits.balance import Balance
from headstart.data.splits.units import Unit, groups_among, rank, unit_rank

__all__ = ["Parts", "Shares", "share_out"]

Shares = tuple[float, float, float]
Parts = tuple[list[int], list[int], list[int]]

_TRAIN, _VAL, _TEST = 0, 1, 2
# Units of a class that a part waits for: what cannot be in all parts is learnt, then tested.
_ENOUGH = {_TRAIN: 1, _TEST: 2, _VAL: 3}
_MOST_PASSES = 20
_LEAST_GAIN = 1e-9  # less is rounding, and could go in circles


def share_out(
    units: Sequence[Unit], labels: Sequence[str], digests: Sequence[str], shares: Shares, seed: int
) -> Parts:
    """Share out units so that every part comes as near to its share of each class as it can.

    A class of three or more units has at least one in every part with a share, a class of two in
    train and test, a single one goes to train. Where units of several classes make that
    impossible, train comes first, then test.

    Args:
        units: Positions that stay together.
        labels: The label of every item.
        digests: The image digest of every item.
        shares: Of train, val and test; they sum to 1, and a part without a share gets nothing.
        seed: Another seed, another order.

    Returns:
        The positions in train, val and test.
    """
    if groups_among(units, digests):
        return _by_unit(units, labels, digests, shares, seed)
    parts = _by_class(units, labels, digests, shares, seed)
    mixed = any(labels[index] != labels[unit[0]] for unit in units for index in unit)
    return _covered(units, parts, labels, digests, shares, seed) if mixed else parts


def _covered(
    units: Sequence[Unit],
    parts: Parts,
    labels: Sequence[str],
    digests: Sequence[str],
    shares: Shares,
    seed: int,
) -> Parts:
    """Move copies that have several labels where a class would be missing from a part otherwise.

    Class by class, such a unit is counted to the first of its labels only.
    """
    side = {index: part for part, indices in enumerate(parts) for index in indices}
    balance = Balance(units, labels, shares)
    for number, unit in enumerate(units):
        balance.put(side[unit[0]], number)
    ranks = [unit_rank(seed, unit, digests) for unit in units]
    _cover(balance, sorted(range(len(units)), key=ranks.__getitem__), shares)
    covered: Parts = ([], [], [])
    for number, unit in enumerate(units):
        covered[balance.place[number]].extend(unit)
    return covered


def _by_class(
    units: Sequence[Unit], labels: Sequence[str], digests: Sequence[str], shares: Shares, seed: int
) -> Parts:
    """Share out images, with nothing but their copies in a unit, class by class.

    What rounding owes a part, the next class pays, so that the sizes of the parts add up. That
    is one image at most: where small classes force a part to grow, the others keep their shares.
    """
    classes = defaultdict(list)
    for unit in units:
        classes[min(labels[index] for index in unit)].append(unit)
    parts: Parts = ([], [], [])
    owed = [0.0, 0.0, 0.0]
    for _, members in sorted(classes.items()):
        members.sort(key=lambda unit: rank(seed, digests[unit[0]]))
        sizes = [len(unit) for unit in members]
        ideal = [share * sum(sizes) + debt for share, debt in zip(shares, owed, strict=True)]
        placed = [0, 0, 0]
        for unit, place in zip(members, _places(sizes, ideal, shares), strict=True):
            parts[place].extend(unit)
            placed[place] += len(unit)
        owed = [max(-1.0, min(1.0, due - got)) for due, got in zip(ideal, placed, strict=True)]
    return parts


def _places(sizes: Sequence[int], ideal: Sequence[float], shares: Shares) -> Iterator[int]:
    """Yield the part (0, 1, 2 for train, val, test) of each of a class's images, in order.

    Args:
        sizes: How many copies each image has.
        ideal: How many files each part should get.
        shares: The fractions; a part without a share gets nothing.
    """
    different = len(sizes)
    lacking = {part for part, enough in _ENOUGH.items() if shares[part] and different >= enough}
    sharing = [part for part in (_TEST, _VAL, _TRAIN) if shares[part]]
    room = [sum(sizes), 0, 0]
    if different >= max(_ENOUGH.values()):
        room = _rounded(ideal, sum(sizes), lacking, sharing)
    for position, size in enumerate(sizes):
        if lacking and len(lacking) >= different - position:
            place = max(lacking)
        else:
            fitting = [part for part in (_TEST, _VAL) if room[part] >= size]
            place = fitting[0] if fitting else _TRAIN
        lacking.discard(place)
        room[place] -= size
        yield place


def _rounded(
    ideal: Sequence[float], total: int, lacking: Collection[int], sharing: Sequence[int]
) -> list[int]:
    """Round to whole numbers that sum to ``total``, at least 1 where a part is lacking."""
    least = [int(part in lacking) for part in range(3)]
    counts = [max(low, math.floor(value)) for low, value in zip(least, ideal, strict=True)]
    while sum(counts) < total:
        counts[max(sharing, key=lambda part: ideal[part] - counts[part])] += 1
    while sum(counts) > total:
        spare = [part for part in sharing if counts[part] > least[part]]
        counts[max(spare, key=lambda part: counts[part] - ideal[part])] -= 1
    return counts


def _by_unit(
    units: Sequence[Unit], labels: Sequence[str], digests: Sequence[str], shares: Shares, seed: int
) -> Parts:
    """Share out whole groups, in the order of a hash.

    A group goes to test, else to val, where that brings the part nearer to its shares of the
    classes, and to train where it would do so nowhere: a group too large for the others is learnt
    from. Then groups are moved as long as that brings the parts nearer to their shares.
    """
    balance = Balance(units, labels, shares)
    ranks = [unit_rank(seed, unit, digests) for unit in units]
    order = sorted(range(len(units)), key=ranks.__getitem__)
    held_out = [part for part in (_TEST, _VAL) if shares[part]]
    for unit in order:
        fitting = (part for part in held_out if balance.class_cost(part, unit) < 0)
        balance.put(next(fitting, _TRAIN), unit)
    _improve(balance, order, [part for part in _ENOUGH if shares[part]])
    _cover(balance, order, shares)
    parts: Parts = ([], [], [])
    for unit in order:
        parts[balance.place[unit]].extend(units[unit])
    return parts


def _improve(balance: Balance, order: Sequence[int], parts: Sequence[int]) -> None:
    """Move single groups to other parts until none is better placed elsewhere."""
    for _ in range(_MOST_PASSES):
        moved = False
        for unit in order:
            costs = {
                part: balance.cost(part, unit) for part in parts if part != balance.place[unit]
            }
            best = min(costs, key=costs.__getitem__, default=_TRAIN)
            if costs and costs[best] + balance.relief(unit) < -_LEAST_GAIN:
                balance.put(best, unit)
                moved = True
        if not moved:
            return


def _cover(balance: Balance, order: Sequence[int], shares: Shares) -> None:
    """Move groups until every class is in every part it has enough groups for, where that can be.

    What one part is given is not taken away from a more important one.
    """
    settled: list[int] = []
    for part in _ENOUGH:
        if not shares[part]:
            continue
        settled.append(part)
        for label in sorted(balance.units_with):
            if balance.holding(part, label) or balance.units_with[label] < _ENOUGH[part]:
                continue
            movable = [
                unit
                for unit in order
                if label in balance.counts[unit] and _spared(balance, unit, settled)
            ]
            if movable:
                costs = {unit: balance.cost(part, unit) + balance.relief(unit) for unit in movable}
                balance.put(part, min(movable, key=costs.__getitem__))


def _spared(balance: Balance, unit: int, settled: Collection[int]) -> bool:
    """Tell whether a unit's part can do without it."""
    place = balance.place[unit]
    return place not in settled or all(
        balance.holding(place, label) > 1 for label in balance.counts[unit]
    )
