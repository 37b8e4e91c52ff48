from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import grouped_tables, items_of, table

from headstart.data.splits.units import groups_among, rank, unit_rank, units_of


def test_copies_groups_and_pairs_are_chained() -> None:
    items, digests = items_of([("a", None, group) for group in ("x", None, "x", "y", None, None)])
    digests[1] = digests[2]
    assert units_of(range(6), items, digests) == [(0, 1, 2), (3,), (4,), (5,)]
    assert units_of(range(6), items, digests, [(5, 3)]) == [(0, 1, 2), (3, 5), (4,)]
    assert units_of(range(6), items, digests, [(3, 0), (4, 5)]) == [(0, 1, 2, 3), (4, 5)]


def test_ties_to_images_that_are_not_asked_for_count_for_nothing() -> None:
    items, digests = items_of([("a", None, "x"), ("a", None, None), ("a", None, "x")])
    assert units_of([0, 2], items, digests, [(0, 1), (1, 2)]) == [(0, 2)]
    assert units_of([2, 1], items, digests, [(0, 1)]) == [(1,), (2,)]
    assert units_of([], items, digests) == []


@settings(deadline=None)
@given(grouped_tables(), st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79)), max_size=5))
def test_units_are_the_components_of_all_ties(data, pairs) -> None:
    items, digests = data
    n = len(items)
    pairs = [pair for pair in pairs if max(pair) < n]
    units = units_of(range(n), items, digests, pairs)
    assert sorted(index for unit in units for index in unit) == list(range(n))
    assert all(list(unit) == sorted(unit) for unit in units)
    assert [unit[0] for unit in units] == sorted(unit[0] for unit in units)
    near = {index: {index} for index in range(n)}
    for one, other in combinations(range(n), 2):
        group = items[one].group
        if digests[one] == digests[other] or (group is not None and group == items[other].group):
            near[one].add(other)
            near[other].add(one)
    for one, other in pairs:
        near[one].add(other)
        near[other].add(one)
    for unit in units:
        reached, waiting = set(), [unit[0]]
        while waiting:
            index = waiting.pop()
            if index not in reached:
                reached.add(index)
                waiting += near[index]
        assert reached == set(unit)


def test_a_unit_of_copies_alone_is_no_group() -> None:
    assert groups_among([(0,), (1, 2), (3, 4)], ["a", "b", "b", "c", "d"]) == [(3, 4)]


def test_the_place_of_a_unit_is_that_of_its_least_digest() -> None:
    _, digests = table({"a": 40})
    unit = (3, 17, 25)
    least = min(digests[index] for index in unit)
    assert unit_rank(4, unit, digests) == rank(4, least) != rank(5, least)
    # Not the least of the ranks, by which large groups would come before small ones.
    alone = sorted(unit_rank(0, (index,), digests) for index in range(20))
    large = [unit_rank(0, tuple(range(20 + n, 40, 2)), digests) for n in range(2)]
    assert max(large) > alone[4]
