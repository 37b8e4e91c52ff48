from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.data.splits.balance import Balance

UNITS = [(0, 1, 2), (3, 4), (5,), (6, 7, 8, 9)]
LABELS = ["a", "a", "b", "b", "b", "a", "a", "b", "b", "a"]
SHARES = (0.6, 0.4)


def distance(place: dict[int, int], part: int) -> float:
    """Of a part from its shares, counted anew."""
    held = [LABELS[i] for unit, at in place.items() if at == part for i in UNITS[unit]]
    far = (len(held) - SHARES[part] * 10) ** 2 / 5
    return far + sum((held.count(x) - SHARES[part] * 5) ** 2 / 5 for x in "ab")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), max_size=12))
def test_costs_are_differences_of_distances(moves) -> None:
    balance = Balance(UNITS, LABELS, SHARES)
    for unit, part in moves:
        balance.put(part, unit)
    place = dict(balance.place)
    assert place == dict(moves)
    for unit in range(4):
        without = {number: at for number, at in place.items() if number != unit}
        if unit in place:
            part = place[unit]
            expected = distance(without, part) - distance(place, part)
            assert balance.relief(unit) == pytest.approx(expected)
        for part in range(2):
            if place.get(unit) != part:
                expected = distance({**without, unit: part}, part) - distance(without, part)
                assert balance.cost(part, unit) == pytest.approx(expected)
    for part in range(2):
        for label in "ab":
            units = [number for number, at in place.items() if at == part]
            expected = sum(any(LABELS[i] == label for i in UNITS[unit]) for unit in units)
            assert balance.holding(part, label) == expected


def test_the_size_of_a_part_may_be_left_out() -> None:
    balance = Balance(UNITS, LABELS, SHARES)
    for unit, part in ((0, 0), (1, 1)):
        size = len(UNITS[unit])
        in_all = size * (size - 2 * SHARES[part] * 10) / 5
        assert balance.cost(part, unit) == pytest.approx(balance.class_cost(part, unit) + in_all)


def test_classes_are_counted_by_unit() -> None:
    assert Balance(UNITS, LABELS, SHARES).units_with == {"a": 3, "b": 3}
    assert Balance(UNITS, LABELS, SHARES).counts[0] == {"a": 2, "b": 1}
