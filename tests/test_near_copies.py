"""Near copies: proposed by features, joined to groups, told."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from headstart.data.items import Item
from headstart.feature_neighbours import nearest
from headstart.near_copies import (
    NEIGHBOURS,
    Proposals,
    components,
    findings,
    groups_of,
    proposed,
    search,
    unsearched,
)


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
    found = proposed(nearest(features_with_copies(), NEIGHBOURS), alone(40))
    assert found.pairs[:2] == ((3, 11), (20, 29))
    assert len(set(found.pairs)) == len(found.pairs) == len(found.similarity)
    assert all(one < other for one, other in found.pairs)
    assert found.similarity[0] > 0.9
    assert np.all(np.diff(found.similarity) <= 0)


def test_what_is_known_is_not_proposed():
    known = components(40, [(11, 3)])
    found = proposed(nearest(features_with_copies(), NEIGHBOURS), known)
    assert (3, 11) not in found.pairs
    assert found.pairs[0] == (20, 29)


def test_images_that_are_not_alike_are_not_proposed():
    unlike = np.eye(12, dtype=np.float32)
    assert proposed(nearest(unlike, NEIGHBOURS), alone(12)).pairs == ()


def test_a_single_image_has_no_copies():
    found = proposed(nearest(np.ones((1, 3), np.float32), NEIGHBOURS), alone(1))
    assert found.pairs == ()
    assert search(found, list, least=100, most=2000).pairs == ()


def proposals(similarity: list[float]) -> Proposals:
    """Pairs as alike as given, (0, 1), (2, 3) and so on."""
    pairs = tuple((2 * number, 2 * number + 1) for number in range(len(similarity)))
    return Proposals(pairs, np.array(similarity, np.float32))


def searched(similarity: list[float], true: range | list[int], *, least=100, most=2000):
    """Search with pairs of these numbers being copies; also how many were compared."""
    asked: list[int] = []

    def same(pairs):
        asked.extend(pair[0] // 2 for pair in pairs)
        return [pair for pair in pairs if pair[0] // 2 in true]

    found = search(proposals(similarity), same, least=least, most=most)
    assert asked == list(range(len(asked)))  # the most alike first, each once
    return [pair[0] // 2 for pair in found.pairs], found.left, len(asked)


def test_the_search_goes_on_while_it_finds_copies():
    assert searched([0.7] * 1000, range(240)) == (list(range(240)), 0, 400)


def test_the_search_ends_where_copies_become_rare():
    few = [*range(90), 150, 160, 170, 180]  # four in the second hundred
    assert searched([0.7] * 1000, few) == (few, 0, 200)
    enough = [*few, 190]
    assert searched([0.7] * 1000, enough) == (enough, 0, 300)
    assert searched([0.7] * 1000, [], least=250) == ([], 0, 300)


def test_copies_among_images_that_are_all_alike_are_searched_for():
    alike = [0.95] * 300 + [0.85] * 5 + [0.7] * 1000
    assert searched(alike, range(300, 305)) == (list(range(300, 305)), 0, 500)


def test_what_time_does_not_allow_is_counted():
    assert searched([0.7] * 500, range(500), most=250) == (list(range(250)), 250, 250)
    assert searched([0.9] * 400 + [0.7] * 100, [], most=250) == ([], 150, 250)
    assert searched([0.9] * 250, range(250), most=250)[1] == 0


def test_what_was_left_is_told():
    assert unsearched(1).message.startswith("1 more pair of images was alike enough")
    told = unsearched(1200)
    assert (told.kind, told.severity, told.files) == ("not-searched", "note", ())
    assert told.message.startswith("1,200 more pairs of images were alike enough")
    assert "headstart check DATA --deep" in told.hint


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
    assert "headstart check DATA --fix FILE writes a table" in told[2].hint


def test_findings_are_bounded():
    items = [item(f"{number}.jpg") for number in range(230)]
    told = list(findings([(2 * pair, 2 * pair + 1) for pair in range(115)], items))
    assert len(told) == 101
    assert told[-1].message == "15 more such findings about near copies."
