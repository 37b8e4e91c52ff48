from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.data.checks import copies as module
from headstart.data.checks.copies import (
    Group,
    confirm,
    exact_groups,
    grouped,
    near_groups,
    same_bytes,
)
from headstart.data.checks.look import Looks, look
from headstart.data.items import Item
from headstart.memory import FileMemory
from scenes import encoded, near_copies, scene

Edges = frozenset[frozenset[int]]
PETS = Path(__file__).resolve().parents[4] / "shared/datasets/oxford_pets_3breeds/images"
graphs = st.integers(2, 12).flatmap(
    lambda n: st.sets(
        st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda p: p[0] < p[1])
    )
)


@pytest.fixture
def looked(tree, tmp_path):
    """Look at files; an int is an image of its own."""

    def looks(files: dict[str, object]) -> Looks:
        root = tree(files)
        items = [Item(path, path.name, "any") for path in sorted(root.rglob("*.*"))]
        return look(items, FileMemory(tmp_path / "memory.sqlite"))

    return looks


def names(looks: Looks, groups: tuple[Group, ...]) -> list[set[str]]:
    return [{looks.items[index].name for index in group.members} for group in groups]


def test_files_with_the_same_bytes_are_groups() -> None:
    assert same_bytes(["a", "b", "a", "c", "b", "a"]) == (
        Group("bytes", (0, 2, 5)),
        Group("bytes", (1, 4)),
    )
    assert same_bytes(["a", "b"]) == same_bytes([]) == ()


def test_the_same_pixels_are_an_exact_group(looked, noise, encoded) -> None:
    image = noise(1)
    files = {"a.png": image, "b.png": image, "c.bmp": encoded(image, "BMP"), "d.png": 2}
    looks = looked(files | {"e.png": noise(3), "f.png": noise(3)})
    assert exact_groups(looks) == (Group("pixels", (0, 1, 2)), Group("bytes", (4, 5)))


def test_near_copies_are_found_among_others(looked) -> None:
    others = {f"z{n}.jpg": encoded(scene(n + 100)) for n in range(25)}
    made = {
        f"{seed}-{way}.jpg": content
        for seed in range(2)
        for way, content in near_copies(scene(seed)).items()
    }
    originals = {f"{seed}-own.jpg": encoded(scene(seed), 95) for seed in range(2)}
    looks = looked(others | made | originals)
    groups = near_groups(looks, exact_groups(looks))
    wanted = [{name for name in made | originals if name.startswith(f"{n}-")} for n in range(2)]
    assert names(looks, groups) == wanted
    assert {group.how for group in groups} == {"near"}


def test_a_near_group_holds_the_exact_copies_of_its_members(looked) -> None:
    own, worse = encoded(scene(0), 95), encoded(scene(0), 50)
    looks = looked({"a.jpg": own, "b.jpg": worse, "c.jpg": own, "d.jpg": encoded(scene(1))})
    exact = exact_groups(looks)
    assert exact == (Group("bytes", (0, 2)),)
    (group,) = near_groups(looks, exact)
    assert set(group.members) == {0, 1, 2}


def test_only_exact_copies_make_no_near_group(looked) -> None:
    own = encoded(scene(0))
    looks = looked({"a.jpg": own, "b.jpg": own, "c.jpg": encoded(scene(1))})
    assert near_groups(looks, exact_groups(looks)) == ()


@pytest.mark.slow
@pytest.mark.skipif(not PETS.exists(), reason="there are no pets beside the code")
def test_real_photos_hold_the_near_copies_that_eyes_found(tmp_path) -> None:
    items = [Item(path, path.stem, path.parent.name) for path in sorted(PETS.rglob("*.jpg"))]
    looks = look(items, FileMemory(tmp_path / "memory.sqlite"))
    assert len(looks.items) == 598
    assert exact_groups(looks) == ()
    numbers = [{"11", "177"}, {"122", "172"}, {"24", "56", "80"}, {"5", "87"}]
    wanted = [{f"Abyssinian_{number}" for number in group} for group in numbers]
    assert sorted(map(sorted, names(looks, near_groups(looks, ())))) == sorted(map(sorted, wanted))


def test_so_many_images_are_not_compared(looked, monkeypatch) -> None:
    monkeypatch.setattr(module, "MOST_PICTURES", 2)
    looks = looked({"a.png": 1, "b.png": 2, "c.png": 3})
    assert near_groups(looks, ()) is None
    assert near_groups(looks, (Group("bytes", (0, 1)),)) == ()


def test_confirming_keeps_what_the_pixels_show(tree) -> None:
    files = {"a.jpg": encoded(scene(0)), "b.jpg": near_copies(scene(0))["mirrored"]}
    root = tree(files | {"c.jpg": encoded(scene(1)), "gone.jpg": b""})
    paths = [root / name for name in ("a.jpg", "b.jpg", "c.jpg", "gone.jpg")]
    told: list[tuple[int, int]] = []
    pairs = [(1, 2), (0, 1), (0, 3), (0, 2)]
    assert confirm(paths, pairs, progress=lambda *step: told.append(step)) == [(0, 1)]
    assert told == [(n, 4) for n in range(1, 5)]
    assert confirm(paths, []) == []


def never(asked) -> list:
    return []


def test_a_chain_does_not_become_a_group() -> None:
    chain = [(n, n + 1) for n in range(6)]  # each a copy of the next, and of no other
    found = grouped(chain, "abcdefg", never)
    for centre, *members in found:
        assert all((min(centre, m), max(centre, m)) in chain for m in members)
    assert max(map(len, found)) == 3


def test_what_was_not_proposed_is_asked_for() -> None:
    chain = [(0, 1), (1, 2), (2, 3), (3, 4)]  # copies all, of which only some pairs were proposed
    assert grouped(chain, "abcde", lambda asked: asked) == [(1, 0, 2, 3, 4)]


def test_in_a_series_only_what_is_near_is_compared() -> None:
    """A camera that pans: each photo passes for a copy of the two before and after it."""
    n, asked = 400, []
    proposed = [(one, one + step) for one in range(n) for step in (1, 2) if one + step < n]

    def same(pairs):
        asked.extend(pairs)
        return [pair for pair in pairs if pair[1] - pair[0] <= 2]

    order = [str(hash_of) for hash_of in np.random.default_rng(0).permutation(n)]
    found = grouped(proposed, order, same)
    assert len(asked) < 3 * n
    assert len(set(asked)) == len(asked)
    assert all(abs(member - centre) <= 2 for centre, *members in found for member in members)


def partition(pairs: Edges, order: list[str]) -> set[frozenset[int]]:
    sorted_pairs = sorted((min(pair), max(pair)) for pair in pairs)
    return {frozenset(group) for group in grouped(sorted_pairs, order, never)}


@settings(max_examples=150, deadline=None)
@given(graphs)
def test_groups_are_disjoint_and_every_member_is_linked_to_the_first(pairs) -> None:
    found = grouped(sorted(pairs), [str(n) for n in range(12)], never)
    members = [index for group in found for index in group]
    assert len(members) == len(set(members))
    assert all(len(group) > 1 for group in found)
    for centre, *others in found:
        assert all((min(centre, o), max(centre, o)) in pairs for o in others)
    taken = set(members)
    assert not [pair for pair in pairs if not set(pair) & taken]


@settings(max_examples=100, deadline=None)
@given(graphs, st.permutations(range(12)))
def test_groups_do_not_depend_on_the_order_of_the_images(pairs, places) -> None:
    order = [f"{n:02}" for n in range(12)]
    moved = frozenset(frozenset(places[n] for n in pair) for pair in pairs)
    names = [""] * 12
    for n, place in enumerate(places):
        names[place] = order[n]
    found = partition(frozenset(map(frozenset, pairs)), order)
    assert partition(moved, names) == {frozenset(places[n] for n in group) for group in found}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_where_likeness_is_an_equivalence_groups_are_its_classes(kinds, random) -> None:
    alike = {
        (a, b) for a in range(len(kinds)) for b in range(a + 1, len(kinds)) if kinds[a] == kinds[b]
    }
    spanning = [pair for pair in sorted(alike) if random.random() < 0.7 or pair[1] == pair[0] + 1]
    found = grouped(spanning, [str(n) for n in range(12)], lambda asked: alike & set(asked))
    for group in found:
        assert len({kinds[index] for index in group}) == 1
    linked = {index for pair in spanning for index in pair}
    assert {index for group in found for index in group} == linked
