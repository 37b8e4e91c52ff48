"""Labels that are probably wrong; the numbers are those of cleanlab."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.label_errors import (
    candidates,
    confident_joint,
    estimated_errors,
    finding,
    normalised_margin,
    self_confidence,
    suspects,
    thresholds,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    count = pytest.importorskip("cleanlab.count")
    filters = pytest.importorskip("cleanlab.filter")
    rank = pytest.importorskip("cleanlab.rank")

CLASSES = ["cat", "dog", "owl"]


def drawn(
    seed: int, n: int, n_classes: int, sharpness: float, wrong: float
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, a share of them wrong, and probabilities that know better; every class is there."""
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n)])
    logits = rng.normal(0, 1, (len(true), n_classes))
    logits[np.arange(len(true)), true] += sharpness
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.where(rng.random(len(true)) < wrong, rng.integers(0, n_classes, len(true)), true)
    labels[:n_classes] = np.arange(n_classes)
    return labels, probabilities


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(5, 200),
    n_classes=st.integers(2, 7),
    sharpness=st.floats(0, 6),
    wrong=st.floats(0, 0.6),
)
def test_sets_counts_and_scores_are_cleanlabs(seed, n, n_classes, sharpness, wrong):
    labels, probabilities = drawn(seed, n, n_classes, sharpness, wrong)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of division where a class has no confident image
        joint = count.compute_confident_joint(labels, probabilities, calibrate=False)
        found = filters.find_label_issues(
            labels, probabilities, filter_by="confident_learning", n_jobs=1
        )
        share = count.estimate_joint(labels, probabilities, confident_joint=joint)
    assert np.array_equal(confident_joint(labels, probabilities), joint)
    assert np.array_equal(candidates(labels, probabilities), found)
    assert np.allclose(
        thresholds(labels, probabilities), count.get_confident_thresholds(labels, probabilities)
    )
    # cleanlab rounds the counts that it calibrates, ours are not rounded.
    wrong_share = 1 - np.trace(share)
    assert abs(estimated_errors(labels, joint) / len(labels) - wrong_share) <= n_classes / len(
        labels
    )
    for ours, theirs in (
        (self_confidence, rank.get_self_confidence_for_each_label),
        (normalised_margin, rank.get_normalized_margin_for_each_label),
    ):
        assert np.allclose(ours(labels, probabilities), theirs(labels, probabilities))


def test_ties_and_equal_probabilities_are_cleanlabs():
    labels = np.array([0, 0, 1, 1, 0, 1])
    probabilities = np.array([[0.5, 0.5]] * 4 + [[0.5 - 1e-7, 0.5 + 1e-7], [0.4, 0.6]])
    theirs = filters.find_label_issues(
        labels, probabilities, filter_by="confident_learning", n_jobs=1
    )
    assert np.array_equal(candidates(labels, probabilities), theirs)


def test_real_probabilities_give_cleanlabs_set():
    """Out-of-fold probabilities of digits with a tenth of the labels swapped."""
    from sklearn.datasets import load_digits

    from headstart.out_of_fold import deal, predict_out_of_fold

    digits = load_digits()
    rng = np.random.default_rng(0)
    swapped = rng.choice(len(digits.target), 180, replace=False)
    labels = digits.target.astype(np.int64)
    labels[swapped] = (labels[swapped] + rng.integers(1, 10, 180)) % 10
    fold = deal(labels, np.arange(len(labels)), seed=0)
    found = predict_out_of_fold(digits.data.astype(np.float32), labels, fold, seed=0)
    ours = candidates(labels, found.probabilities)
    theirs = filters.find_label_issues(
        labels, found.probabilities, filter_by="confident_learning", n_jobs=1
    )
    assert np.array_equal(ours, theirs)
    assert ours[swapped].mean() > 0.7  # 0.77 measured; the ranking below finds more
    first = [one.position for one in suspects(labels, found.probabilities, list("0123456789"))]
    assert len(set(first[:180]) & set(swapped.tolist())) > 150


def test_a_class_without_images_has_no_threshold_and_takes_no_image():
    labels, probabilities = drawn(0, 40, 2, 3, 0.2)
    wide = np.concatenate([0.5 * probabilities, np.full((len(labels), 1), 0.5)], axis=1)
    assert thresholds(labels, wide)[2] == np.inf
    assert confident_joint(labels, wide)[:, 2].sum() == 1  # of the diagonal's least
    assert not candidates(labels, wide).any() or candidates(labels, wide).sum() < len(labels) / 2


def test_suspects_are_ranked_by_what_their_labels_lack():
    labels = np.array([0, 0, 0, 1, 1, 2, 2])
    sure = np.eye(3)[[0, 0, 1, 1, 1, 2, 0]] * 0.9 + 0.1 / 3
    sure[6] = [0.6, 0.1, 0.3]
    found = suspects(labels, sure, CLASSES)
    assert [(one.position, one.given, one.suggested) for one in found] == [
        (2, "cat", "dog"),
        (6, "owl", "cat"),
    ]
    assert found[0].confidence == pytest.approx(1 - 0.1 / 3)
    assert found[1].confidence == pytest.approx(0.7)
    assert suspects(labels, sure, CLASSES, np.arange(7) != 2) == found[1:]


def test_the_finding_lists_candidates_alone():
    labels, probabilities = drawn(3, 300, 3, 4, 0.1)
    names = [f"{number}.jpg" for number in range(len(labels))]
    found = suspects(labels, probabilities, CLASSES)
    told = finding(found, names, 20.0)
    doubtful = [names[one.position] for one in found if one.candidate]
    assert told is not None
    assert (told.kind, told.severity, told.files) == ("label", "warning", tuple(doubtful))
    assert f"{len(doubtful)} of {len(names)} labels are in doubt" in told.message
    assert "6.6 % of all are wrong" in told.message
    assert len(doubtful) < len(found)
    right = np.eye(3)[labels] * 0.7 + 0.1
    assert finding(suspects(labels, right, CLASSES), names, 0.0) is None


def test_the_module_needs_no_cleanlab():
    source = Path(__file__).parents[1] / "src" / "headstart" / "label_errors.py"
    assert "import cleanlab" not in source.read_text("utf-8")
