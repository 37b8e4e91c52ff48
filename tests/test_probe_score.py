"""What a cross-validated probe says of features."""

from __future__ import annotations

import json

import numpy as np
import pytest

from headstart.errors import DataError
from headstart.probe_score import Dealt, score, standard_error
from probed import blobs, scored


def test_what_lies_apart_is_told_and_what_does_not_is_not():
    far, labels = blobs(150, apart=4)
    found = score(far, labels, np.arange(150))
    assert found.n == 150
    assert found.accuracy > 0.97
    assert found.knn_accuracy > 0.97
    assert found.log_loss < 0.1
    near, labels = blobs(150, apart=0)
    chance = score(near, labels, np.arange(150))
    assert abs(chance.accuracy - 1 / 3) < 3 * chance.accuracy_noise
    assert abs(chance.knn_accuracy - 1 / 3) < 0.15
    assert chance.log_loss == pytest.approx(np.log(3), abs=0.1)
    assert chance.penalty > found.penalty


def test_the_same_features_have_the_same_score():
    features, labels = blobs(90)
    first, second = (score(features, labels, np.arange(90)) for _ in range(2))
    assert first.loss.tolist() == second.loss.tolist()
    other = score(features, labels, np.arange(90), seed=1)
    assert first.loss.tolist() != other.loss.tolist()


def test_loss_and_right_are_each_images_own():
    features, labels = blobs(90, classes=2, apart=0.6)
    found = score(features, labels, np.arange(90))
    assert found.right.tolist() == (found.loss < np.log(2)).tolist()
    assert found.log_loss == found.loss.mean()
    assert 0 < found.accuracy == found.right.mean() < 1


def test_a_group_does_not_vouch_for_itself():
    draw = np.random.default_rng(0)
    centres = draw.normal(0, 1, (30, 64))
    groups = np.repeat(np.arange(30), 6)
    labels = draw.permutation(np.arange(30) % 2)[groups]  # of a group, and of nothing else
    features = (centres[groups] + draw.normal(0, 0.05, (180, 64))).astype(np.float32)
    parted = score(features, labels, np.arange(180))
    whole = score(features, labels, groups)
    assert parted.accuracy > 0.95
    assert parted.knn_accuracy > 0.95
    assert whole.accuracy < 0.75
    assert whole.knn_accuracy < 0.75
    assert whole.accuracy_noise > 1.5 * parted.accuracy_noise


def test_a_class_that_no_other_fold_knows_is_left_out():
    features, labels = blobs(60, apart=3)
    labels[-1] = 7  # a class of one image
    found = score(features, labels, np.arange(60))
    assert found.n == 59
    assert 59 not in found.images
    assert found.accuracy > 0.9


def test_images_have_the_names_they_are_given():
    features, labels = blobs(30)
    found = score(features, labels, np.arange(30) + 5, images=np.arange(30) * 2)
    assert found.images.tolist() == list(range(0, 60, 2))
    assert found.groups.tolist() == list(range(5, 35))


@pytest.mark.parametrize(
    ("labels", "groups"),
    [([0] * 20, range(20)), ([0] * 19 + [1], range(20)), ([0, 1] * 10, [0] * 20)],
)
def test_what_can_not_be_cross_validated_is_refused(labels, groups):
    features, _ = blobs(20)
    with pytest.raises(DataError, match="two classes have images in two groups"):
        score(features, np.array(labels), np.array(groups))


def test_where_nobody_was_judged_there_is_no_score():
    dealt = Dealt.of(np.array([0, 0, 1, 1]), np.arange(4))
    with pytest.raises(DataError, match="there are fewer"):
        dealt.scored(np.ones((4, 2)), np.zeros(4, np.bool_), np.zeros(4, np.int64), 1.0)


def test_the_standard_error_is_the_usual_one_without_groups():
    values = np.random.default_rng(0).normal(0, 2, 400)
    usual = values.std() / 20
    assert standard_error(values, np.arange(400)) == pytest.approx(usual)
    twice = np.repeat(values, 2)
    assert standard_error(twice, np.repeat(np.arange(400), 2)) == pytest.approx(usual)
    assert standard_error(twice, np.arange(800)) == pytest.approx(usual / 2**0.5)


def test_the_summary_is_plain_json():
    found = scored([True, True, False, True])
    told = json.loads(json.dumps(found.to_dict()))
    assert told["n"] == 4
    assert told["accuracy"] == 0.75
    assert told["accuracy_noise"] == pytest.approx((0.75 * 0.25 / 4) ** 0.5)
    assert told["log_loss"] == pytest.approx((3 * 0.2 + 1.5) / 4)
    assert told["log_loss_noise"] == pytest.approx(found.loss.std() / 2)
    assert told["knn_accuracy"] == 0.75
    assert told["penalty"] == 10
