from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from split_tables import counts, items_of, table

from headstart.data.splits.split import make_split
from headstart.data.splits.thinning import limit, thinned
from headstart.errors import UsageError


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(2, 40), min_size=1),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_limits_are_nested_and_stratified(sizes, one, two) -> None:
    items, digests = table(sizes)
    labels = [item.label for item in items]
    split = make_split(items, digests)
    small, large = sorted(len(sizes) + n for n in (one, two))
    less = limit(split, labels, digests, n=small)
    more = limit(split, labels, digests, n=large)
    assert set(less.train) <= set(more.train) <= set(split.train)
    assert len(less.train) == min(small, len(split.train))
    assert (less.val, less.test) == (split.val, split.test)
    whole = Counter(labels[i] for i in split.train)
    kept = Counter(labels[i] for i in less.train)
    for label, count in whole.items():
        assert kept[label] >= 1
        share = count / len(split.train) * len(less.train)
        assert abs(kept[label] - share) <= len(sizes)


def test_a_limit_per_class() -> None:
    items, digests = table({"a": 40, "b": 10})
    labels = [item.label for item in items]
    split = make_split(items, digests)
    two, three = (limit(split, labels, digests, per_class=n) for n in (2, 3))
    assert [counts(each, items)["a"][0] for each in (two, three)] == [2, 3]
    assert set(two.train) < set(three.train)
    assert counts(limit(split, labels, digests, per_class=9), items)["b"][0] == 7
    both = limit(split, labels, digests, per_class=3, n=4)
    assert set(both.train) < set(three.train)
    assert len(both.train) == 4


def test_a_limit_has_a_digest_and_an_origin_of_its_own() -> None:
    items, digests = table({"a": 40, "b": 40})
    labels = [item.label for item in items]
    split = make_split(items, digests)
    thinned = [limit(split, labels, digests, n=n) for n in (10, 20)]
    assert len({split.digest, *(each.digest for each in thinned)}) == 3
    assert thinned[0].origin == "70/15/15, stratified, seed 0; train thinned to 10"
    assert limit(split, labels, digests, n=1000) == split
    assert limit(split, labels, digests) == split


@pytest.mark.parametrize("limits", [{"n": 1}, {"n": 0}, {"per_class": 0}, {"per_class": -3}])
def test_impossible_limits_are_refused(limits) -> None:
    items, digests = table({"a": 9, "b": 9})
    labels = [item.label for item in items]
    message = r"--limit(-per-class)? must be at least \d.*\nLeave --limit"
    with pytest.raises(UsageError, match=message):
        limit(make_split(items, digests), labels, digests, **limits)


def test_recorded_digests() -> None:
    items, digests = table({"a": 100, "b": 40, "c": 3, "d": 2, "e": 1, "f": 17})
    labels = [item.label for item in items]
    split = make_split(items, digests)
    options = {"n": 20}, {"per_class": 3}, {"per_class": 3, "n": 9, "seed": 4}
    found = [limit(split, labels, digests, **each).digest[:16] for each in options]
    assert found == ["6c5bd4b48241eb59", "39afad1398e79a04", "f948057d87627fa4"]


def test_shots_are_different_images_before_they_are_copies() -> None:
    items, digests = table({"a": 12, "b": 12})
    digests = [digests[n // 3 * 3] for n in range(24)]
    labels = [item.label for item in items]
    split = make_split(items, digests, fractions=(0.5, 0.0, 0.5))
    shots = limit(split, labels, digests, per_class=2)
    assert len({digests[index] for index in shots.train}) == 4
    assert len(limit(split, labels, digests, per_class=5).train) == 10


def test_shots_are_of_different_groups_first() -> None:
    items, digests = items_of([("ab"[n % 2], None, f"{n // 8}") for n in range(160)])
    labels, groups = [item.label for item in items], [item.group for item in items]
    split = make_split(items, digests)
    n_groups = len({groups[index] for index in split.train})
    shots = limit(split, labels, digests, per_class=n_groups, groups=groups)
    taken = Counter((labels[index], groups[index]) for index in shots.train)
    assert len(taken) == 2 * n_groups
    assert set(taken.values()) == {1}
    more = limit(split, labels, digests, per_class=n_groups + 1, groups=groups)
    assert set(shots.train) < set(more.train)


def test_images_without_groups_are_taken_as_if_there_were_none() -> None:
    items, digests = table({"a": 40, "b": 40})
    labels = [item.label for item in items]
    split = make_split(items, digests)
    nobody = limit(split, labels, digests, per_class=3, groups=[None] * 80)
    assert nobody == limit(split, labels, digests, per_class=3)


def test_chosen_images_are_named_by_the_digest_of_a_limit() -> None:
    items, digests = table({"a": 40, "b": 40})
    labels = [item.label for item in items]
    split = make_split(items, digests)
    limited = limit(split, labels, digests, n=9)
    assert thinned(split, limited.train, labels, digests) == limited
