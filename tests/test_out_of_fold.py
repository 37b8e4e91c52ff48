"""Every image judged by a probe that has not seen it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart import out_of_fold
from headstart.out_of_fold import FOLDS, deal, predict_out_of_fold


def blobs(n: int, n_classes: int = 3, dim: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    features = rng.normal(0, 1, (n, dim)) + 3 * rng.normal(0, 1, (n_classes, dim))[labels]
    return features.astype(np.float32), labels


@settings(max_examples=50, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=2, max_size=120),
    sharing=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_units_are_never_parted_and_classes_are_even(labels, sharing, seed):
    labels = np.array(labels)
    units = np.random.default_rng(seed).integers(0, max(1, len(labels) // sharing), len(labels))
    fold = deal(labels, units, seed=seed)
    assert set(fold) <= set(range(FOLDS))
    assert all(len(set(fold[units == unit])) == 1 for unit in np.unique(units))
    alone = deal(labels, np.arange(len(labels)), seed=seed)
    counts = np.array([np.bincount(alone[labels == c], minlength=FOLDS) for c in set(labels)])
    assert (np.ptp(counts, axis=1) <= 1).all()
    assert np.ptp(counts.sum(axis=0)) <= FOLDS


def test_the_deal_is_the_seeds():
    labels = np.arange(100) % 3
    units = np.arange(100)
    assert np.array_equal(deal(labels, units, seed=1), deal(labels, units, seed=1))
    assert not np.array_equal(deal(labels, units, seed=1), deal(labels, units, seed=2))


def test_probabilities_are_those_of_the_others():
    features, labels = blobs(150)
    fold = deal(labels, np.arange(150), seed=0)
    found = predict_out_of_fold(features, labels, fold, seed=0)
    assert found.probabilities.shape == (150, 3)
    assert np.allclose(found.probabilities.sum(axis=1), 1)
    assert found.judged.all()
    assert found.folds == FOLDS
    assert (found.probabilities.argmax(axis=1) == labels).mean() > 0.95
    again = predict_out_of_fold(features, labels, fold, seed=0)
    assert np.array_equal(found.probabilities, again.probabilities)


def test_noise_is_not_learnt_by_heart():
    rng = np.random.default_rng(0)
    features = rng.normal(0, 1, (200, 400)).astype(np.float32)  # enough to learn all by heart
    labels = np.arange(200) % 2
    found = predict_out_of_fold(features, labels, deal(labels, np.arange(200), seed=0), seed=0)
    assert abs((found.probabilities.argmax(axis=1) == labels).mean() - 0.5) < 0.12
    assert found.penalty >= 1000


def test_a_copy_does_not_vouch_for_a_wrong_label():
    features, labels = blobs(120, n_classes=2)
    features, labels = np.repeat(features, 2, axis=0), np.repeat(labels, 2)
    labels[10:12] = 1 - labels[10:12]
    units = np.repeat(np.arange(120), 2)
    found = predict_out_of_fold(features, labels, deal(labels, units, seed=0), seed=0)
    assert (found.probabilities[10:12].argmax(axis=1) != labels[10:12]).all()


def test_a_class_of_one_unit_is_not_judged():
    features, labels = blobs(63)
    labels = np.where(labels == 2, 2, labels)
    units = np.where(labels == 2, 1000, np.arange(63))
    found = predict_out_of_fold(features, labels, deal(labels, units, seed=0), seed=0)
    assert not found.judged[labels == 2].any()
    assert found.judged[labels != 2].all()
    assert (found.probabilities[labels == 2][:, 2] == 0).all()


def test_folds_without_two_classes_to_learn_from_are_left_even():
    features, labels = blobs(20, n_classes=2)
    found = predict_out_of_fold(features, labels, labels.copy(), seed=0)  # a fold is a class
    assert not found.judged.any()
    assert (found.probabilities == 0.5).all()
    assert found.folds == 0


@pytest.mark.parametrize("n_classes", [2, 3])
def test_probes_of_many_images_learn_from_a_part(monkeypatch, n_classes):
    features, labels = blobs(600, n_classes=n_classes)
    labels[:12] = n_classes  # a rare class keeps all it has
    monkeypatch.setattr(out_of_fold, "_MOST_TRAIN", 100)
    seen = []
    probe = out_of_fold.Fold.probe

    def spied(fold: out_of_fold.Fold):
        seen.append(np.bincount(labels[fold.train]))
        return probe(fold)

    monkeypatch.setattr(out_of_fold.Fold, "probe", spied)
    found = predict_out_of_fold(features, labels, deal(labels, np.arange(600), seed=0), seed=0)
    assert all(counts.sum() < 130 and counts[-1] >= 9 for counts in seen)
    assert (found.probabilities.argmax(axis=1) == labels)[12:].mean() > 0.9


def test_a_feature_that_does_not_vary_is_left_out():
    features, labels = blobs(90)
    more = np.concatenate([features, np.full((90, 1), 7.0, np.float32)], axis=1)
    fold = deal(labels, np.arange(90), seed=0)
    plain = predict_out_of_fold(features, labels, fold, seed=0)
    wide = predict_out_of_fold(more, labels, fold, seed=0)
    assert np.allclose(plain.probabilities, wide.probabilities, atol=1e-3)
