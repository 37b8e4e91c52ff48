from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from headstart.data.checks import neighbours as module
from headstart.data.checks.look import describe_picture
from headstart.data.checks.neighbours import candidates, invariants, symmetries

T = Image.Transpose
pictures = arrays(np.uint8, (32, 32))
flags = st.tuples(*[st.booleans()] * 3)


def turned(image: Image.Image, transposed: bool, left_right: bool, up_down: bool) -> Image.Image:
    image = image.transpose(T.TRANSPOSE) if transposed else image
    image = image.transpose(T.FLIP_LEFT_RIGHT) if left_right else image
    return image.transpose(T.FLIP_TOP_BOTTOM) if up_down else image


def described(image: Image.Image) -> np.ndarray:
    return describe_picture(image).astype(np.float32)


def vectors(n: int, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, 64))
    found[:, 0] = 0
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@settings(max_examples=60, deadline=None)
@given(pictures, flags)
def test_symmetries_of_a_descriptor_are_those_of_the_picture(pixels, flag) -> None:
    image = Image.fromarray(pixels)
    position = list(product((False, True), repeat=3)).index(flag)
    own = symmetries(described(image)[None])[position, 0]
    np.testing.assert_allclose(own, described(turned(image, *flag)), atol=2e-3)


@settings(max_examples=60, deadline=None)
@given(pictures, flags)
def test_invariants_are_the_same_in_every_symmetry(pixels, flag) -> None:
    image = Image.fromarray(pixels)
    both = np.stack([described(image), described(turned(image, *flag))])
    one, other = invariants(both)
    np.testing.assert_allclose(one, other, atol=3e-3)


def test_invariants_are_never_further_apart_than_the_pictures() -> None:
    some = vectors(60)
    turns = symmetries(some)  # (8, 60, 64)
    apart = np.linalg.norm(turns[:, :, None] - some, axis=-1).min(axis=0)
    fixed = invariants(some)
    assert (np.linalg.norm(fixed[:, None] - fixed, axis=-1) <= apart + 1e-5).all()
    np.testing.assert_allclose(np.linalg.norm(fixed, axis=1), 1, atol=1e-5)


def near(vector: np.ndarray, distance: float, seed: int) -> np.ndarray:
    """Return a vector of length 1 at a distance."""
    aside = np.random.default_rng(seed).normal(size=64)
    aside[0] = 0
    aside -= vector * (aside @ vector)
    cosine = 1 - distance**2 / 2
    return cosine * vector + np.sqrt(1 - cosine**2) * aside / np.linalg.norm(aside)


def test_near_pictures_are_candidates_in_any_symmetry() -> None:
    some = vectors(200)
    copies = [symmetries(near(some[n], 0.3, n)[None])[n % 8, 0] for n in range(40)]
    far = [near(some[n], 0.6, n) for n in range(100, 140)]
    found = candidates(np.stack([*some, *copies, *far]).astype(np.float16))
    assert found == [(n, 200 + n) for n in range(40)]


def test_in_a_crowd_only_what_stands_out_is_a_candidate() -> None:
    centre = vectors(1)[0]
    crowd = np.stack([near(centre, 0.2, seed) for seed in range(40)])  # some 0.28 apart
    assert candidates(crowd.astype(np.float16)) == []
    copies = np.stack([near(crowd[0], 0.02, 99), near(crowd[1], 0.12, 98)])
    assert candidates(np.concatenate([crowd, copies]).astype(np.float16)) == [(0, 40), (1, 41)]


def test_pictures_of_one_colour_are_in_no_pair() -> None:
    some = np.concatenate([np.zeros((5, 64)), vectors(1), vectors(1)]).astype(np.float16)
    assert candidates(some) == [(5, 6)]
    assert candidates(some[:5]) == candidates(some[:0]) == []


@pytest.mark.parametrize("block", [64, 700, 1 << 20])
def test_blocks_change_nothing(monkeypatch, block) -> None:
    some = vectors(100, seed=3)
    some[60:] = some[:40]
    monkeypatch.setattr(module, "_BLOCK", block)
    monkeypatch.setattr(module, "_ROWS", 1)
    assert candidates(some.astype(np.float16)) == [(n, 60 + n) for n in range(40)]


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_pictures_does_not_matter(random) -> None:
    some = np.concatenate([vectors(30), vectors(20)]).astype(np.float16)
    order = list(range(50))
    random.shuffle(order)
    found = {frozenset((order[a], order[b])) for a, b in candidates(some[order])}
    assert found == {frozenset(pair) for pair in candidates(some)}
