"""Differences between classifiers: known values, brute force, and how often chance is believed."""

from __future__ import annotations

import itertools
import math
from dataclasses import astuple

import numpy as np
import pytest

from headstart.intervals import wilson
from headstart.significance import holm, mcnemar, mean_accuracy, paired_bootstrap


def right(*rows: str) -> np.ndarray:
    """Turn rows such as ``1101`` into an array (S, N)."""
    return np.array([[mark == "1" for mark in row] for row in rows])


def discordant(only_a: int, only_b: int, both: int = 50) -> tuple[np.ndarray, np.ndarray]:
    a = np.array([True] * only_a + [False] * only_b + [True] * both)
    b = np.array([False] * only_a + [True] * only_b + [True] * both)
    return a, b


# McNemar


@pytest.mark.parametrize(
    ("only_a", "only_b", "expected"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 2**5),
        (1, 9, 2 * (1 + 10) / 2**10),
        (8, 3, 2 * (1 + 11 + 55 + 165) / 2**11),
        (4, 4, 1.0),
    ],
)
def test_mcnemar_is_the_binomial_test_on_the_images_that_differ(only_a, only_b, expected):
    a, b = discordant(only_a, only_b)
    assert mcnemar(a, b) == pytest.approx(expected)
    assert mcnemar(b, a) == pytest.approx(expected)


def test_mcnemar_is_what_going_through_all_outcomes_gives():
    only_a, only_b = 9, 3
    n = only_a + only_b
    chances = [math.comb(n, k) / 2**n for k in range(n + 1)]
    expected = sum(chance for chance in chances if chance <= chances[only_a] * (1 + 1e-9))
    assert mcnemar(*discordant(only_a, only_b)) == pytest.approx(expected)


def test_mcnemar_looks_only_at_images_that_differ():
    assert mcnemar(*discordant(6, 1, both=10)) == mcnemar(*discordant(6, 1, both=1000))


def test_mcnemar_refuses_other_shapes():
    with pytest.raises(ValueError, match="same length"):
        mcnemar(np.ones(3, dtype=bool), np.ones(4, dtype=bool))
    with pytest.raises(ValueError, match="same length"):
        mcnemar(np.ones((2, 3), dtype=bool), np.ones((2, 3), dtype=bool))


# The bootstrap


def every_resample(values: np.ndarray) -> np.ndarray:
    """Return the mean of every resample of seeds and images, each as likely as the other."""
    n_seeds, n_items = values.shape
    return np.array(
        [
            values[np.ix_(seeds, items)].mean()
            for seeds in itertools.product(range(n_seeds), repeat=n_seeds)
            for items in itertools.product(range(n_items), repeat=n_items)
        ]
    )


def test_one_seed_resamples_the_images_and_takes_mcnemars_p_value():
    a, b = right("111010"), right("100011")
    found = paired_bootstrap(a, b, samples=50_000)
    exact = np.quantile(every_resample(a.astype(float) - b), [0.025, 0.975])
    assert found.value == pytest.approx(1 / 6)
    assert (found.low, found.high) == pytest.approx(tuple(exact), abs=1e-9)
    assert found.p_value == mcnemar(a[0], b[0])


def test_resampled_means_have_the_distribution_of_all_resamples():
    from headstart.significance import _resampled

    values = right("11010", "10110").astype(int) - right("01000", "00110")
    drawn = _resampled(values, 200_000, np.random.default_rng(0))
    exact = every_resample(values)
    between = values.mean(axis=1) - values.mean()
    assert drawn.mean() == pytest.approx(exact.mean(), abs=0.003)
    seeds = [s for s in itertools.product((0, 1), repeat=2) for _ in range(5**5)]
    stretched = exact + (math.sqrt(2) - 1) * between[np.array(seeds)].mean(axis=1)
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        assert np.quantile(drawn, share) == pytest.approx(np.quantile(stretched, share), abs=0.02)


def simulated(n_seeds, n_items, *, shift=0.0, between=0.0, seed=0):
    """Two classifiers on images of different difficulty, trained with seeds that matter."""
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(1.3, 1.5, n_items)

    def classifier(lead):
        own = difficulty + rng.normal(0, 0.7, n_items) + lead
        luck = rng.normal(0, 0.7, (n_seeds, n_items)) + rng.normal(0, between, (n_seeds, 1))
        return own + luck > 0

    return classifier(0.0), classifier(-shift)


def test_the_interval_is_near_the_normal_one_where_seeds_hardly_matter():
    a, b = simulated(10, 3000, shift=0.3, seed=1)
    found = paired_bootstrap(a, b)
    differences = a.astype(float) - b
    error = np.sqrt(
        differences.mean(axis=0).var() / 3000 + differences.mean(axis=1).var(ddof=1) / 10
    )
    assert found.value == pytest.approx(differences.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert found.low < found.value < found.high


def test_seeds_that_disagree_widen_the_interval():
    calm, moved = (simulated(3, 1000, between=spread, seed=5) for spread in (0.0, 0.5))
    widths = [d.high - d.low for d in (paired_bootstrap(*calm), paired_bootstrap(*moved))]
    assert widths[1] > 3 * widths[0]


def test_a_clear_difference_is_found_and_bounded_by_the_number_of_samples():
    a, b = simulated(3, 2000, shift=1.5, seed=2)
    found = paired_bootstrap(a, b, samples=1000)
    assert found.p_value == 1 / 1000
    assert found.low > 0.1


def test_the_p_value_is_the_level_at_which_the_interval_touches_zero():
    below = 0
    for seed in range(40):
        found = paired_bootstrap(*simulated(3, 300, shift=0.25, seed=seed), samples=2000)
        assert (found.p_value <= 0.05) == (found.low >= 0 or found.high <= 0)
        below += found.p_value <= 0.05
    assert 3 < below < 37


def test_exchanging_the_two_changes_the_sign_and_nothing_else():
    a, b = simulated(3, 200, shift=0.3, seed=4)
    there, back = paired_bootstrap(a, b), paired_bootstrap(b, a)
    assert there.value > 0
    assert (back.value, back.low, back.high) == (-there.value, -there.high, -there.low)
    assert back.p_value == there.p_value


def test_the_same_seed_gives_the_same_result_and_another_one_not():
    a, b = simulated(3, 200, seed=4)
    assert paired_bootstrap(a, b) == paired_bootstrap(a, b)
    assert paired_bootstrap(a, b) != paired_bootstrap(a, b, seed=1)


def test_the_order_of_the_images_does_not_matter():
    a, b = simulated(3, 200, seed=4)
    order = np.random.default_rng(0).permutation(200)
    found, other = paired_bootstrap(a, b), paired_bootstrap(a[:, order], b[:, order])
    assert astuple(other) == pytest.approx(astuple(found), abs=1e-12)


def test_seeds_that_change_no_answer_count_as_one():
    a, b = right("1110110"), right("1000011")
    once = paired_bootstrap(a, b)
    thrice = paired_bootstrap(np.repeat(a, 3, axis=0), np.repeat(b, 3, axis=0))
    assert thrice.p_value == once.p_value
    assert thrice.low == pytest.approx(once.low, abs=0.03)
    assert thrice.high == pytest.approx(once.high, abs=0.03)


def test_two_that_always_agree_may_still_differ_on_images_nobody_saw():
    a = right("1101", "1101")
    found = paired_bootstrap(a, a)
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert found.high == -found.low == pytest.approx(float(wilson(0, 4)[1]))


def test_a_single_image_is_enough_for_a_number():
    found = paired_bootstrap(right("1", "1"), right("0", "1"))
    assert found.value == 0.5
    assert found.p_value > 0.05


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones(3, dtype=bool), np.ones(3, dtype=bool)),
        (np.ones((2, 3), dtype=bool), np.ones((3, 3), dtype=bool)),
        (np.ones((2, 0), dtype=bool), np.ones((2, 0), dtype=bool)),
    ],
)
def test_the_bootstrap_refuses_other_shapes(a, b):
    with pytest.raises(ValueError, match=r"\(S, N\)"):
        paired_bootstrap(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_seeds", "between", "bound"),
    [(2, 0.1, 0.08), (3, 0.0, 0.05), (3, 0.1, 0.06), (3, 0.4, 0.07), (5, 0.2, 0.06)],
)
def test_equal_classifiers_are_seldom_called_different(n_seeds, between, bound):
    times = 400
    pairs = (simulated(n_seeds, 400, between=between, seed=seed) for seed in range(times))
    false = sum(paired_bootstrap(a, b, samples=1000).p_value <= 0.05 for a, b in pairs)
    assert false / times <= bound + 2 * math.sqrt(bound * (1 - bound) / times)


# Mean accuracy


def test_one_seed_or_equal_seeds_have_wilsons_interval():
    row = right("1110111111")
    low, high = map(float, wilson(9, 10))
    for rows in (row, np.repeat(row, 3, axis=0)):
        found = mean_accuracy(rows)
        assert (found.value, found.low, found.high) == pytest.approx((0.9, low, high))


def test_seeds_that_differ_widen_the_interval_of_the_mean():
    rows, _ = simulated(4, 500, between=0.5, seed=3)
    found = mean_accuracy(rows)
    low, high = wilson(rows.mean() * 500, 500)
    assert found.value == pytest.approx(rows.mean())
    assert found.low < low < found.value < high < found.high <= 1


def test_the_interval_of_a_mean_stays_between_0_and_1():
    found = mean_accuracy(right("111110", "111111"))
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("array", [np.ones(3, dtype=bool), np.ones((0, 3), dtype=bool)])
def test_the_mean_refuses_other_shapes(array):
    with pytest.raises(ValueError, match=r"\(S, N\)"):
        mean_accuracy(array)


# Holm


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5]) == [0.5]
    assert holm([]) == []
    assert holm([0.6, 0.9]) == [1.0, 1.0]


def test_holm_keeps_the_order_and_never_lowers_a_p_value():
    p_values = np.random.default_rng(0).random(50).tolist()
    adjusted = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))
    ranked = [after for _, after in sorted(zip(p_values, adjusted, strict=True))]
    assert ranked == sorted(ranked)
    assert max(adjusted) <= 1
