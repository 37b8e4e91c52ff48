"""What probes say of other views of the images."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.probe_score import Dealt, score
from headstart.probe_views import Probes, score_together
from probed import blobs


def test_a_view_is_judged_by_probes_of_the_plain_images():
    features, labels = blobs(120, apart=3)
    probes = Probes(features, Dealt.of(labels, np.arange(120)))
    plain, by_itself = probes.score(features), score(features, labels, np.arange(120))
    assert np.allclose(plain.loss, by_itself.loss, atol=0.02)
    assert plain.right.tolist() == by_itself.right.tolist()
    assert plain.knn_right.tolist() == by_itself.knn_right.tolist()
    moved, lost = probes.score(features + 0.1), probes.score(0 * features)
    assert moved.accuracy > 0.9
    assert moved.loss.tolist() != plain.loss.tolist()
    assert lost.accuracy < 0.5
    assert {each.penalty for each in (plain, moved, lost)} == {by_itself.penalty}


def test_a_class_of_one_image_is_left_out_of_every_view():
    features, labels = blobs(60, apart=3)
    labels[-1] = 7
    dealt = Dealt.of(labels, np.arange(60))
    assert Probes(features, dealt).score(features + 0.1).n == 59
    assert score_together(features, features, dealt).n == 59


def test_no_view_of_an_image_helps_to_judge_it():
    features, labels = blobs(90, apart=0)
    together = score_together(features, features, Dealt.of(labels, np.arange(90)))
    assert together.accuracy < 0.55
    assert together.knn_accuracy < 0.55


def test_views_that_mean_something_else_are_wrong_labels():
    features, labels = blobs(120, classes=2, apart=1)
    dealt = Dealt.of(labels, np.arange(120))
    swapped = features[np.arange(120) ^ 1]  # each image's view looks like one of the other class
    plain = score(features, labels, np.arange(120))
    harmful = score_together(features, swapped, dealt)
    shaken = features + np.random.default_rng(1).normal(0, 0.1, features.shape).astype(np.float32)
    harmless = score_together(features, shaken, dealt)
    assert harmful.accuracy < 0.6 < 0.8 < plain.accuracy
    assert harmless.accuracy > plain.accuracy - 0.03
    assert harmless.images.tolist() == plain.images.tolist() == list(range(120))


def test_names_and_groups_are_those_that_were_dealt():
    features, labels = blobs(30, apart=3)
    dealt = Dealt.of(labels, np.arange(30) // 2, images=np.arange(30) * 2)
    for found in (
        Probes(features, dealt).score(features),
        score_together(features, features, dealt),
    ):
        assert found.images.tolist() == list(range(0, 60, 2))
        assert found.groups.tolist() == (np.arange(30) // 2).tolist()
    assert found.loss.mean() == pytest.approx(found.log_loss)
