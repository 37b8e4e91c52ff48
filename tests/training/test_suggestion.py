"""Rules on curves whose answer is known: where they fall, where they are hurt, what is noise."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.training.suggestion import diverged, smooth, suggest

STEPS = 100
RATES = np.geomspace(1e-6, 1.0, STEPS)
LEVEL = 0.5


def batches(spread: float = 0.3) -> np.ndarray:
    """Losses of batches before anything is learnt: some are harder than others."""
    return LEVEL * np.exp(spread * np.random.default_rng(0).normal(size=STEPS))


def curve(falls_at: float = 1e-3, hurt_at: float = 3e-2, fall: float = 0.6) -> np.ndarray:
    """The logarithm of what becomes of any loss: a slope around ``falls_at``, then a rise."""
    x = np.log10(RATES)
    down = -fall / (1 + np.exp(-6 * (x - np.log10(falls_at))))
    return down + np.maximum(0, x - np.log10(hurt_at)) * 2.0


def told(change: np.ndarray, noise: float = 0.0, **options):
    before = batches()
    drawn = noise * np.random.default_rng(1).normal(size=STEPS)
    n = len(change)
    losses = before[:n] * np.exp(change + drawn[:n])
    return suggest(RATES[:n].tolist(), losses.tolist(), before[:n].tolist(), **options)


def test_the_suggestion_lies_where_the_loss_falls_and_below_where_it_is_hurt():
    for falls_at, hurt_at in ((1e-4, 1e-2), (1e-3, 3e-2), (1e-2, 1e-1)):
        found = told(curve(falls_at, hurt_at), noise=0.05)
        assert falls_at / 3 < found.rate < 3 * falls_at
        assert found.rate < found.highest_good_rate < 3 * hurt_at
        assert found.rules.keys() == {"steepest", "minimum/10", "valley"}
        assert found.rules["minimum/10"] <= found.highest_good_rate / 10


def test_the_reason_has_the_numbers():
    found = told(curve())
    words = found.reason
    assert words.startswith(f"the loss falls fastest at {found.rules['steepest']:.1e}, by 4")
    assert f"until {10 * found.rules['minimum/10']:.1e}" in words
    assert "is above that from" in words


def test_hard_batches_do_not_hide_a_small_fall():
    """The spread of the batches is ten times the fall, and cancels out."""
    found = told(curve(fall=0.05))
    assert found.rate == pytest.approx(1e-3, rel=2)
    assert found.rate < 1e-2


def test_where_the_loss_never_falls_there_is_no_suggestion():
    found = told(curve(fall=0.0))
    assert found.rate is None
    assert found.rules == {}
    assert "the loss never falls by more than its noise" in found.reason
    assert 1e-2 < found.highest_good_rate < 1e-1
    assert told(curve(fall=0.05), noise=1.0).rate is None


def test_where_the_lowest_rate_hurts_no_rate_is_good():
    found = told(np.linspace(0.1, 3.0, STEPS))
    assert found.rate is None
    assert found.highest_good_rate is None
    assert f"from {RATES[0]:.1e} on" in found.reason


def test_where_no_rate_hurts_the_highest_is_good():
    found = told(curve(hurt_at=10.0))
    assert found.highest_good_rate == RATES[-1]
    assert "does not rise up to 1.0e+00" in found.reason
    assert found.rate == pytest.approx(1e-3, rel=2)


def test_from_a_start_that_is_worse_than_guessing_nothing_is_known_to_be_good():
    found = told(curve(), guessing=LEVEL / 3)
    assert found.rate == told(curve()).rate
    assert found.highest_good_rate is None
    assert found.reason.startswith(told(curve()).reason)
    assert "and guessing would give 0.17" in found.reason
    assert told(curve(), guessing=LEVEL).highest_good_rate is not None


def test_a_test_that_blew_up_hurt_at_its_last_rate():
    found = told(curve(hurt_at=10.0)[:70], stopped="not-finite")
    assert found.rate == pytest.approx(1e-3, rel=2)
    assert found.highest_good_rate < RATES[69]
    assert f"from {RATES[69]:.1e} on" in found.reason


def test_what_the_time_was_too_short_for_is_not_suggested():
    cut = int(np.searchsorted(RATES, 3e-3))
    found = told(curve()[:cut], stopped="deadline")
    assert found.rate is None
    assert f"the time was up at {RATES[cut - 1]:.1e}" in found.reason
    late = told(curve()[:-5], stopped="deadline")  # it had said what it could
    assert late.rate == pytest.approx(1e-3, rel=2)


@pytest.mark.parametrize(
    ("stopped", "words"),
    [
        ("not-finite", "the loss or a gradient was not finite"),
        ("diverged", "the loss diverged"),
        ("deadline", "the time was up"),
        (None, "there are too few steps"),
    ],
)
def test_a_test_that_ended_at_once_says_why(stopped, words):
    for n in (0, 1):
        found = told(np.zeros(n), stopped=stopped)
        assert found.rate is None
        assert found.highest_good_rate is None
        assert found.reason == f"no suggestion: {words} at the lowest rate"


def test_the_smoothed_loss_of_what_has_not_changed_is_its_mean():
    before = batches()
    mean = np.exp(np.log(before).mean())
    assert smooth(before, before) == pytest.approx([mean] * STEPS)
    assert smooth(before * 0.5, before) == pytest.approx([mean / 2] * STEPS)
    assert smooth([], before) == []


def test_a_test_that_ended_early_starts_where_the_whole_one_does():
    before = batches()
    assert smooth(before[:7], before) == smooth(before, before)[:7]


def test_a_loss_of_zero_is_finite():
    assert np.isfinite(smooth(np.zeros(20), batches()[:20])).all()


def test_a_loss_diverges_at_four_times_its_best():
    before = np.ones(60)
    assert not diverged([], before)
    assert not diverged(np.full(60, 3.9), before)
    assert diverged(np.full(60, 4.1), before)
    halved = np.concatenate([np.full(40, 0.5), np.full(20, 2.1)])
    assert not diverged(halved[:42], before)
    assert diverged(halved, before)


def test_a_valley_is_the_longest_fall_and_not_the_steepest():
    change = np.concatenate([np.zeros(10), -0.005 * np.arange(60), [-2.0] * 10, [5.0] * 20])
    found = told(change)
    assert found.rules["steepest"] == pytest.approx(RATES[70], rel=1)
    assert RATES[20] < found.rules["valley"] < RATES[60]
