"""Whether a phase's weights stay: decided image by image, and said in words."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from sklearn.metrics import log_loss

from headstart.training.keeping import compare


def shares(right: np.ndarray, sure: float = 0.8) -> np.ndarray:
    """Return probabilities (n, 2) that are right or wrong about class 0, this sure of it."""
    first = np.where(right, sure, 1 - sure)
    return np.stack([first, 1 - first], axis=1)


def decided(right: int, spoilt: int, *, n: int = 100, sure: float = 0.8, after: float = 0.8):
    """Let so many of n images be put right, and so many others be spoilt."""
    was = np.arange(n) < n // 2
    now = was.copy()
    now[n // 2 : n // 2 + right] = True
    now[:spoilt] = False
    return compare(shares(was, sure), shares(now, after), np.zeros(n, dtype=np.int64))


@pytest.mark.parametrize(
    ("right", "spoilt", "kept"),
    [(0, 0, False), (1, 0, False), (2, 0, True), (2, 1, False), (3, 1, False), (4, 1, True),
     (6, 3, False), (7, 3, True), (0, 2, False), (5, 5, False)],
)  # fmt: skip
def test_more_images_must_be_right_than_chance_would_give(right, spoilt, kept):
    # As sure of a right class as of a wrong one, so that log loss says what accuracy does.
    verdict = decided(right, spoilt)
    assert verdict.kept is kept
    assert verdict.n == 100
    assert (verdict.accuracy_before, verdict.accuracy_after) == (
        0.5, pytest.approx(0.5 + (right - spoilt) / 100),
    )  # fmt: skip
    assert verdict.difference == pytest.approx((right - spoilt) / 100)
    assert verdict.noise == pytest.approx(math.sqrt(max(1, right + spoilt)) / 100)
    assert f"put {right} right and spoilt {spoilt}" in verdict.reason or right == spoilt == 0


def test_the_reason_has_the_numbers_of_the_decision():
    assert decided(12, 3).reason == (
        "of 100 val images it put 12 right and spoilt 3: accuracy +9.0 points (noise 3.9 points), "
        "more than the noise"
    )
    assert "not more than the noise, nor are its probabilities clearly better" in (
        decided(3, 2).reason
    )
    assert decided(0, 0).reason == "no epoch was better on val than the weights before it"
    assert "of 1 val image it put" in (
        compare(shares(np.array([False])), shares(np.array([True])), np.array([0])).reason
    )


def test_to_be_surer_of_everything_is_neither_better_nor_worse():
    """Fine-tuned networks are: one temperature takes it away."""
    verdict = decided(12, 3, sure=0.8, after=0.999)
    plain = decided(12, 3)
    assert verdict.kept
    assert verdict.log_loss_difference == pytest.approx(plain.log_loss_difference, abs=1e-6)


def one_sided(logits: np.ndarray) -> np.ndarray:
    """Return probabilities (n, 2) of these logits of class 0."""
    return np.stack([1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(logits))], axis=1)


def test_clearly_better_probabilities_are_enough_where_no_image_is_lost():
    labels = np.zeros(80, dtype=np.int64)
    was = np.where(np.arange(80) < 60, 0.5, -0.5) + np.linspace(-0.4, 0.4, 80)
    now = np.where(was > 0, 3.0, -0.05)
    verdict = compare(one_sided(was), one_sided(now), labels)
    assert verdict.difference == 0.0
    assert verdict.log_loss_difference < -2 * verdict.log_loss_noise
    assert verdict.kept
    assert "its probabilities are better by more than twice their noise" in verdict.reason
    back = compare(one_sided(now), one_sided(was), labels)
    assert not back.kept

    fewer = now.copy()
    fewer[0] = -0.05
    verdict = compare(one_sided(was), one_sided(fewer), labels)
    assert verdict.log_loss_difference < -2 * verdict.log_loss_noise
    assert not verdict.kept  # better probabilities do not make up for an image


def test_where_every_image_moves_by_next_to_nothing_that_is_no_improvement():
    was = np.linspace(0.5, 1.5, 60)
    verdict = compare(one_sided(was), one_sided(was + 0.01), np.zeros(60, dtype=np.int64))
    assert verdict.log_loss_difference < 0
    assert verdict.log_loss_noise == pytest.approx(math.log(2) / 120)
    assert not verdict.kept


def test_more_images_right_do_not_make_up_for_much_worse_probabilities():
    labels = np.zeros(100, dtype=np.int64)
    was = np.where(np.arange(100) < 80, 4.0, -0.05)
    now = np.where(np.arange(100) < 86, 0.05, -0.05)  # right more often, and hardly sure of it
    verdict = compare(one_sided(was), one_sided(now), labels)
    assert verdict.difference > verdict.noise
    assert not verdict.kept
    assert "but its probabilities are worse" in verdict.reason


def test_the_log_loss_is_that_of_the_best_temperature():
    generator = np.random.default_rng(0)
    labels = generator.integers(3, size=200)
    logits = generator.normal(size=(200, 3)) + 1.5 * np.eye(3)[labels]
    before = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    noise = logits + generator.normal(size=(200, 3))
    after = np.exp(3 * noise) / np.exp(3 * noise).sum(axis=1, keepdims=True)

    def lowest(shares: np.ndarray) -> float:
        def warmed(temperature: float) -> float:
            values = shares ** (1 / temperature)
            return log_loss(labels, values / values.sum(axis=1, keepdims=True))

        return min(warmed(temperature) for temperature in np.geomspace(0.2, 8, 400))

    verdict = compare(before, after, labels)
    assert verdict.log_loss_difference == pytest.approx(lowest(after) - lowest(before), abs=1e-4)
    assert verdict.log_loss_difference != pytest.approx(
        log_loss(labels, after) - log_loss(labels, before), abs=0.05
    )


def test_without_val_images_nothing_is_kept():
    none = np.empty((0, 3))
    for said in (none, None):
        verdict = compare(said, said, np.empty(0, dtype=np.int64))
        assert not verdict.kept
        assert verdict.reason == "there are no val images to tell whether it helped"
        assert (verdict.n, verdict.accuracy_before, verdict.noise) == (0, None, None)


@pytest.mark.parametrize(("before", "after", "when"), [(0, 1, "before"), (1, 0, "after")])
def test_outputs_that_are_no_numbers_are_not_kept(before, after, when):
    good = shares(np.array([True, False]))
    verdict = compare(good if before else None, good if after else None, np.array([0, 0]))
    assert not verdict.kept
    assert verdict.reason == f"the outputs on val {when} it were not finite"


def test_probabilities_of_nothing_and_of_all_are_understood():
    was, now = np.eye(2)[[0, 1, 0, 1]], np.eye(2)[[0, 0, 0, 0]]
    verdict = compare(was, now, np.zeros(4, dtype=np.int64))
    assert verdict.kept
    assert math.isfinite(verdict.log_loss_difference)


def test_it_is_plain_json():
    document = decided(12, 3).to_dict()
    assert json.loads(json.dumps(document)) == document
    assert (document["kept"], document["difference"]) == (True, 0.09)
    assert document["noise"] == 0.03873


@pytest.mark.parametrize(
    ("n", "gain", "least", "most"),
    [(50, -0.01, 0.1, 0.35), (50, 0.03, 0.7, 0.95), (300, 0.0, 0.25, 0.5), (300, 0.03, 0.95, 1.0),
     (1000, -0.01, 0.0, 0.1)],
)  # fmt: skip
def test_its_power_is_what_its_documentation_says(n, gain, least, most):
    generator = np.random.default_rng(0)
    kept = [_simulated(generator, n, gain) for _ in range(120)]
    assert least <= np.mean(kept) <= most


def _simulated(generator: np.random.Generator, n: int, gain: float) -> bool:
    """Draw margins of n images before a phase and after ten epochs of it; keep the best."""
    common, own = generator.standard_normal(n), generator.standard_normal(n)
    before = _quantile(0.86) + common
    epochs = [
        _quantile(0.86 + gain)
        + 0.95 * common
        + math.sqrt(1 - 0.95**2)
        * (math.sqrt(0.9) * own + math.sqrt(0.1) * generator.standard_normal(n))
        for _ in range(10)
    ]
    best = max(epochs, key=lambda it: ((it > 0).sum(), -np.logaddexp(0, -2 * it).sum()))
    labels = np.zeros(n, dtype=np.int64)
    return compare(one_sided(1.8 * before), one_sided(5 * best), labels).kept


def _quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))
