from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, log_loss

from headstart import intervals as module
from headstart.intervals import Items, resampled, statistics, wilson
from headstart.metrics import evaluate
from scores import NAMES, certain, names, sample


def test_each_resample_is_scored_as_scikit_learn_would():
    p, y = sample(n=90, n_classes=4, skill=1)
    y[y == 2] = 0  # a class that is predicted, but not among the labels
    items = Items.of(p, y)
    draws = np.vstack([*resampled(items, np.random.default_rng(3), 40)])
    table = statistics(items, draws)
    ordered = p[np.argsort(y, kind="stable")]
    for i, draw in enumerate(draws):
        label, predicted = items.label[draw], items.predicted[draw]
        recalls = [np.mean(predicted[label == c] == c) for c in (0, 1, 3)]
        assert table["balanced_accuracy"][i] == pytest.approx(np.mean(recalls))
        f1 = f1_score(label, predicted, labels=[0, 1, 3], average="macro", zero_division=0)
        assert table["macro_f1"][i] == pytest.approx(f1)
        loss = log_loss(label, ordered[draw], labels=range(4))
        assert table["log_loss"][i] == pytest.approx(loss)
        assert table["ece"][i] == pytest.approx(ece_by_loop(ordered[draw], label))


def ece_by_loop(p, y):
    confidence, right = p.max(axis=1), p.argmax(axis=1) == y
    total = 0.0
    for m in range(15):
        inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_every_resample_keeps_the_size_of_every_class():
    items = Items.of(*sample(n=300, n_classes=5))
    for draws in resampled(items, np.random.default_rng(0), 20):
        for draw in draws:
            assert (np.bincount(items.label[draw], minlength=5) == items.support).all()


def test_the_chunks_change_memory_and_nothing_else(monkeypatch):
    p, y = sample(n=50)
    whole = evaluate(p, y, names(6))
    monkeypatch.setattr(module, "_DRAWS_AT_ONCE", 120)
    assert evaluate(p, y, names(6)) == whole
    sizes = [draws.size for draws in resampled(Items.of(p, y), _rng(), 11)]
    assert max(sizes) <= 120
    assert sum(sizes) == 11 * 50


def _rng():
    return np.random.default_rng(0)


def test_the_seed_and_only_the_seed_moves_the_intervals():
    p, y = sample()
    assert evaluate(p, y, names(6)) == evaluate(p, y, names(6))
    other = evaluate(p, y, names(6), seed=1)
    for name, metric in evaluate(p, y, names(6)).metrics.items():
        assert other.metrics[name].value == metric.value
    assert other.metrics["log_loss"] != evaluate(p, y, names(6)).metrics["log_loss"]


def test_more_items_give_narrower_intervals():
    few = evaluate(*sample(n=100), names(6)).metrics
    many = evaluate(*sample(n=10_000), names(6)).metrics
    for name in NAMES:
        assert many[name].high - many[name].low < 0.5 * (few[name].high - few[name].low)


def test_wilson_is_the_published_interval():
    # Newcombe 1998, table I, method 3.
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)):
        assert np.allclose(wilson(hits, n), (low, high), atol=5e-5)
    assert np.allclose(wilson(0, 20), (0, 0.1611), atol=5e-5)
    assert np.allclose(wilson(1, 29), (0.0061, 0.1718), atol=5e-5)


def test_a_perfect_score_is_not_certainty():
    y = np.repeat([0, 1, 2], 20)
    found = evaluate(certain(y, 3, 0.95), y, names(3)).metrics
    assert found["accuracy"].low == pytest.approx(float(wilson(60, 60)[0]))
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert found[name].value == found[name].high == 1
        assert 0.85 < found[name].low < 0.95
    # Three equal classes: the Wilson distance of 20 of 20, shortened by the root of three.
    expected = 1 - (1 - float(wilson(20, 20)[0])) / np.sqrt(3)
    assert found["balanced_accuracy"].low == pytest.approx(expected)
    assert found["macro_f1"].low == pytest.approx(expected)


def test_a_flawless_small_class_keeps_its_doubt_beside_a_large_one():
    y = np.repeat([0, 1], [300, 10])
    predicted = y.copy()
    predicted[:15] = 1
    found = evaluate(certain(predicted, 2, 0.9), y, names(2)).metrics["balanced_accuracy"]
    assert found.value - found.low > (1 - float(wilson(10, 10)[0])) / 2


def test_nothing_right_is_not_certainty_either():
    y = np.repeat([0, 1], 10)
    found = evaluate(certain(1 - y, 2, 0.9), y, names(2)).metrics
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert found[name].value == found[name].low == 0
        assert 0.1 < found[name].high < 0.4


def test_ece_of_a_calibrated_classifier_may_be_zero():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.5, 1, 2000)
    p = np.column_stack([1 - confidence, confidence])
    y = (rng.random(2000) < confidence).astype(int)
    found = evaluate(p, y, names(2)).metrics["ece"]
    assert found.value > 0
    assert found.low == 0


def test_ece_of_an_overconfident_classifier_is_not_zero():
    y = np.arange(400) % 2
    predicted = np.where(np.arange(400) % 4 == 0, 1 - y, y)  # 75 % right at 95 % confidence
    found = evaluate(certain(predicted, 2, 0.95), y, names(2)).metrics["ece"]
    assert found.value == pytest.approx(0.2)
    assert 0.1 < found.low < 0.2 < found.high < 0.3


def test_a_bin_is_closed_on_the_right():
    items = Items.of(np.array([[0.2, 0.8], [1 / 15, 14 / 15], [0.0, 1.0]]), np.zeros(3, int))
    assert items.bin.tolist() == [11, 13, 14]
