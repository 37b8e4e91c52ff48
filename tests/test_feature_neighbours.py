"""Each image's nearest others."""

from __future__ import annotations

import numpy as np
import pytest

from headstart import feature_neighbours
from headstart.feature_neighbours import nearest


def brute(features: np.ndarray, k: int) -> np.ndarray:
    centred = features - features.mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    return np.sort(similarity, axis=1)[:, ::-1][:, :k]


@pytest.mark.parametrize("block", [1, 3000, 1 << 26])
def test_blocks_of_any_size_find_the_nearest(monkeypatch, block):
    monkeypatch.setattr(feature_neighbours, "_BLOCK_BYTES", block)
    features = np.random.default_rng(0).normal(3, 1, (70, 12)).astype(np.float32)
    found = nearest(features, 4)
    assert np.allclose(found.similarity, brute(features, 4), atol=1e-5)
    assert not (found.index == np.arange(70)[:, None]).any()
    assert found.index.dtype == np.int64


def test_a_common_part_does_not_make_images_alike():
    features = np.random.default_rng(0).normal(0, 1, (50, 20)).astype(np.float32)
    found, moved = nearest(features, 3), nearest(features + 100, 3)
    assert np.array_equal(found.index, moved.index)
    assert np.allclose(found.similarity, moved.similarity, atol=1e-3)


def test_copies_come_first_and_equals_by_position():
    features = np.random.default_rng(0).normal(0, 1, (20, 5)).astype(np.float32)
    features[[7, 13]] = features[2]
    found = nearest(features, 2)
    assert found.index[[2, 7, 13]].tolist() == [[7, 13], [2, 13], [2, 7]]
    assert np.allclose(found.similarity[2], 1)


@pytest.mark.parametrize(("n", "k"), [(1, 0), (2, 1), (3, 2)])
def test_few_images_have_few_neighbours(n, k):
    found = nearest(np.arange(5 * n, dtype=np.float32).reshape(n, 5) ** 2, 5)
    assert found.index.shape == found.similarity.shape == (n, k)


def test_equal_images_all_are_no_error():
    assert np.isfinite(nearest(np.ones((10, 4), np.float32), 3).similarity).all()


def test_many_images_are_compared_in_their_principal_directions(monkeypatch):
    rng = np.random.default_rng(0)
    flat = rng.normal(0, 1, (300, 6)) @ rng.normal(0, 1, (6, 40))
    features = (flat + rng.normal(0, 0.01, (300, 40))).astype(np.float32)
    exact = nearest(features, 3)
    monkeypatch.setattr(feature_neighbours, "_MANY", 200)
    monkeypatch.setattr(feature_neighbours, "_DIRECTIONS", 8)
    found = nearest(features, 3)
    assert np.allclose(found.similarity, exact.similarity, atol=1e-3)
    assert (found.index[:, 0] == exact.index[:, 0]).mean() > 0.97
    monkeypatch.setattr(feature_neighbours, "_DIRECTIONS", 2)
    assert (nearest(features, 3).index[:, 0] == exact.index[:, 0]).mean() < 0.9
