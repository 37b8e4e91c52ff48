"""Near copies: proposed by features, joined to groups, told."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.data.items import Item
from headstart.feature_neighbours import nearest
from headstart.near_copies import NEIGHBOURS, components, findings, groups_of, proposed


def features_with_copies() -> np.ndarray:
    """Forty random images; 11 is a copy of 3 and 29 a poor copy of 20."""
    features = np.random.default_rng(0).normal(0, 1, (40, 64)).astype(np.float32)
    noise = np.random.default_rng(1).normal(0, 1, (2, 64))
    features[11] = features[3] + 0.2 * noise[0]
    features[29] = features[20] + 1.2 * noise[1]
    return features


def alone(n: int) -> np.ndarray:
    return np.arange(n)


def item(name: str, label: str = "cat", split: str | None = None) -> Item:
    return Item(Path(name), name, label, split)


def test_the_most_alike_are_proposed_first_and_once():
    found = proposed(nearest(features_with_copies(), NEIGHBOURS), alone(40), 10)
    assert found[:2] == [(3, 11), (20, 29)]
    assert len(set(found)) == len(found)
    assert all(one < other for one, other in found)


def test_no_more_are_proposed_than_wanted():
    neighbours = nearest(features_with_copies(), NEIGHBOURS)
    assert proposed(neighbours, alone(40), 1) == [(3, 11)]
    assert proposed(neighbours, alone(40), 0) == []


def test_what_is_known_is_not_proposed():
    known = components(40, [(11, 3)])
    found = proposed(nearest(features_with_copies(), NEIGHBOURS), known, 10)
    assert (3, 11) not in found
    assert found[0] == (20, 29)


def test_images_that_are_not_alike_are_not_proposed():
    unlike = np.eye(12, dtype=np.float32)
    assert proposed(nearest(unlike, NEIGHBOURS), alone(12), 10) == []


def test_a_single_image_has_no_copies():
    assert proposed(nearest(np.ones((1, 3), np.float32), NEIGHBOURS), alone(1), 10) == []


def test_bonds_join_across_others():
    numbers = components(7, [(0, 4), (4, 2), (5, 6, 1)])
    assert numbers[0] == numbers[4] == numbers[2]
    assert numbers[5] == numbers[6] == numbers[1]
    assert len(set(numbers)) == 3
    assert len(set(components(3, []))) == 3


def test_groups_hold_known_copies_and_no_chains():
    digests = [str(number) for number in range(9)]
    asked = []

    def same(pairs):
        asked.extend(pairs)
        return []

    groups = groups_of([(0, 1), (1, 2), (2, 3)], digests, [(3, 8), (5, 6)], same)
    assert groups == ((0, 1, 2),)  # 3 is a copy of 2, but not of 1, the group's centre
    assert asked == [(1, 3)]
    assert groups_of([(2, 3)], digests, [(3, 8), (5, 6)], same) == ((2, 3, 8),)
    assert groups_of([], digests, [(3, 8)], same) == ()


def test_each_harm_is_told_by_its_own_kind():
    items = [
        *(item("a/1", "cat", "train"), item("a/2", "cat", "train")),
        *(item("b/1", "cat", "train"), item("b/2", "dog", "test")),
    ]
    told = list(findings([(0, 1), (2, 3)], items))
    assert [(one.kind, one.severity, one.files) for one in told] == [
        ("label", "warning", ("b/1", "b/2")),
        ("split-leak", "warning", ("b/1", "b/2")),
        ("near-duplicate", "note", ("a/1", "a/2")),
    ]
    assert "cat, dog" in told[0].message
    assert "test, train" in told[1].message
    assert all(one.hint for one in told)


def test_findings_are_bounded():
    items = [item(f"{number}.jpg") for number in range(230)]
    told = list(findings([(2 * pair, 2 * pair + 1) for pair in range(115)], items))
    assert len(told) == 101
    assert told[-1].message == "15 more such findings about near copies."
