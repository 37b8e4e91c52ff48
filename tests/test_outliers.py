"""Images unlike all others."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.feature_neighbours import nearest
from headstart.outliers import NEIGHBOUR, _medcouple, finding, outliers


def two_kinds(n: int = 200, dim: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    centres = 3 * rng.normal(0, 1, (2, dim))
    return (rng.normal(0, 1, (n, dim)) + centres[labels]).astype(np.float32), labels


def found_in(features: np.ndarray, labels: np.ndarray) -> list[int]:
    return [one.position for one in outliers(nearest(features, NEIGHBOUR), labels)]


def test_what_is_like_nothing_else_is_found_first():
    features, labels = two_kinds()
    features[17] = 5 * np.random.default_rng(1).normal(0, 1, 32)
    found = outliers(nearest(features, NEIGHBOUR), labels)
    assert found[0].position == 17
    assert found[0].score > 1
    assert len(found) <= 2
    told = finding(found[:1], [f"{number}.jpg" for number in range(200)])
    assert told is not None
    assert (told.kind, told.severity, told.files) == ("outlier", "note", ("17.jpg",))
    assert "1 image is unlike all others" in told.message


def test_ordinary_images_are_hardly_ever_outliers():
    found = [len(found_in(*two_kinds(seed=seed))) for seed in range(20)]
    assert np.mean(found) < 1  # of 200 images
    assert finding((), []) is None


def test_a_wrong_label_alone_is_no_outlier():
    features, labels = two_kinds()
    labels[17] = 1 - labels[17]
    assert 17 not in found_in(features, labels)


def test_copies_do_not_make_a_strange_image_ordinary():
    features, labels = two_kinds()
    features[[17, 19, 21]] = 5 * np.random.default_rng(1).normal(0, 1, 32)
    assert set(found_in(features, labels)) & {17, 19, 21}


def test_findings_are_bounded():
    features, labels = two_kinds(n=300)
    strange = np.arange(0, 300, 20)
    features[strange] = 6 * np.random.default_rng(1).normal(0, 1, (len(strange), 32))
    assert len(found_in(features, labels)) <= 3


@pytest.mark.parametrize("n", [1, 5, 19])
def test_few_images_have_no_usual_distance(n):
    features, labels = two_kinds(n=20)
    assert outliers(nearest(features[:n], NEIGHBOUR), labels[:n]) == ()


def test_equal_images_all_have_no_outlier():
    features = np.ones((50, 4), np.float32)
    features[3] = (9, -4, 0, 2)
    assert found_in(np.ones((50, 4), np.float32), np.zeros(50, np.int64)) == []
    assert len(found_in(features, np.zeros(50, np.int64))) <= 1


def test_the_skew_of_known_distributions_is_theirs():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    assert _medcouple(values) == 0
    skewed = np.random.default_rng(0).exponential(1, 3000)
    assert 0.2 < _medcouple(skewed) < 0.45  # 1/3 for an exponential, in theory
    assert _medcouple(-skewed) == pytest.approx(-_medcouple(skewed), abs=0.01)
    assert _medcouple(np.ones(7)) == 0
