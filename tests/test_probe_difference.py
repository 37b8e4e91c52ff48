"""Comparing scores by the same images."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.errors import UsageError
from headstart.probe_difference import compare, preferred
from probed import scored

N = 100


def score_of(accuracy: float, loss: float, *, seed: int = 0, spread: float = 0.1):
    """Make a score of 100 images, whose losses vary by ``spread`` from one score to another."""
    draw = np.random.default_rng(seed)
    hard = np.random.default_rng(99).normal(0, 1, N)  # for whoever judges
    right = np.arange(N) < round(accuracy * N)
    return scored(right, loss + hard + spread * draw.normal(0, 1, N))


def test_a_difference_is_paired_by_image():
    first, second = score_of(0.9, 1.0, seed=1), score_of(0.85, 1.2, seed=2)
    found = compare(first, second)
    assert found.n == N
    assert found.accuracy == pytest.approx(0.05)
    assert found.accuracy_noise == pytest.approx((0.05 / N) ** 0.5)
    assert found.log_loss == pytest.approx(-0.2, abs=0.04)
    assert found.log_loss_noise < 0.03 < first.log_loss_noise
    back = compare(second, first)
    assert back.accuracy == pytest.approx(-found.accuracy)
    assert back.log_loss == pytest.approx(-found.log_loss)
    assert (found.better, back.better) == (True, False)


@pytest.mark.parametrize(
    ("accuracy", "loss", "better"),
    [
        (0.85, 1.2, None),  # the same
        (0.90, 1.2, True),  # by accuracy alone
        (0.85, 1.0, True),  # by log loss alone
        (0.90, 1.4, None),  # one against the other
        (0.80, 1.0, None),
        (0.80, 1.2, False),
        (0.85, 1.4, False),
    ],
)
def test_better_is_beyond_noise_in_one_and_not_against_it_in_the_other(accuracy, loss, better):
    second = score_of(0.85, 1.2, seed=2, spread=0.3)
    first = score_of(accuracy, loss, seed=2, spread=0.3)
    assert compare(first, second).better is better


def test_a_gain_within_noise_is_none():
    right, other = np.arange(N) < 85, (np.arange(N) + 13) % N < 86
    found = compare(scored(other, np.ones(N)), scored(right, np.ones(N)))
    assert 0 < found.accuracy < found.accuracy_noise
    assert found.better is None


@pytest.mark.parametrize(
    ("accuracy", "loss", "errors", "worse"),
    [
        (0.85, 1.2, 1, False),
        (0.90, 1.0, 1, False),
        (0.83, 1.2, 1, True),  # two images of a hundred: 1.4 standard errors
        (0.83, 1.2, 2, False),
        (0.80, 1.0, 2, True),  # whatever the log loss says
        (0.90, 1.4, 2, True),  # whatever the accuracy says
    ],
)
def test_worse_is_beyond_so_many_standard_errors_in_either(accuracy, loss, errors, worse):
    second = score_of(0.85, 1.2, seed=2)
    assert compare(score_of(accuracy, loss, seed=2), second).worse(errors) is worse


def test_one_image_is_no_evidence():
    found = compare(scored(np.arange(N) < 86, np.ones(N)), scored(np.arange(N) < 85, np.ones(N)))
    assert found.accuracy == pytest.approx(0.01)
    assert found.better is None


def test_a_loss_that_differs_by_next_to_nothing_is_the_same():
    sure = scored([True] * N, np.full(N, 0.004))
    surer = scored([True] * N, np.full(N, 0.001))
    found = compare(surer, sure)
    assert found.log_loss == pytest.approx(-0.003)
    assert found.log_loss_noise < 1e-9
    assert found.better is None
    assert not compare(sure, surer).worse()


def test_images_that_only_one_judged_do_not_count():
    first = scored([True, True, False], images=[1, 2, 5])
    second = scored([False, False, True, True], images=[0, 1, 2, 6])
    found = compare(first, second)
    assert found.n == 2
    assert found.accuracy == 0.5


def test_scores_without_a_common_image_are_refused():
    with pytest.raises(UsageError, match="of 1 and 2 images none is in both"):
        compare(scored([True], images=[3]), scored([True, True], images=[4, 5]))


def test_groups_make_a_difference_less_certain():
    right, other = np.arange(N) < 90, np.arange(N) < 80
    alone = compare(scored(right), scored(other))
    groups = np.arange(N) // 10
    joined = compare(scored(right, groups=groups), scored(other, groups=groups))
    assert joined.accuracy == alone.accuracy
    assert joined.accuracy_noise > 2 * alone.accuracy_noise


def test_the_default_is_preferred_unless_another_is_better():
    own, better, best = score_of(0.8, 1.2), score_of(0.9, 1.0, seed=1), score_of(0.9, 0.8, seed=2)
    worse = score_of(0.7, 1.5, seed=3)
    assert preferred({"own": own, "worse": worse}, "own") == "own"
    assert preferred({"own": own}, "own") == "own"
    assert preferred({"own": own, "better": better, "best": best}, "own") == "best"
    assert preferred({"own": best, "better": better}, "own") == "own"


def test_the_difference_is_plain_json():
    told = compare(scored([True, False]), scored([True, True])).to_dict()
    assert told["n"] == 2
    assert told["accuracy"] == -0.5
    assert set(told) == {
        *("accuracy", "accuracy_noise", "log_loss", "log_loss_noise", "n", "better"),
    }
