from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    balanced_accuracy_score,
    f1_score,
    log_loss,
    precision_score,
)

from headstart import metrics
from headstart.metrics import Evaluation, Metric, evaluate, point_values, wilson

NAMES = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece")


def sample(n=400, n_classes=6, *, skill=2.5, seed=0):
    """Draw labels and probabilities that favour the true class by ``skill`` logits."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), labels] += skill
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


def names(n_classes):
    return [f"class {c}" for c in range(n_classes)]


def certain(predicted, n_classes, confidence=1.0):
    """Return rows that give ``confidence`` to the predicted class and share the rest."""
    rest = (1 - confidence) / (n_classes - 1)
    rows = np.full((len(predicted), n_classes), rest)
    rows[np.arange(len(predicted)), predicted] = confidence
    return rows


def test_values_are_scikit_learns():
    p, y = sample()
    e = evaluate(p, y, names(6))
    predicted = p.argmax(axis=1)
    assert e.metrics["accuracy"].value == pytest.approx(np.mean(predicted == y))
    assert e.metrics["balanced_accuracy"].value == pytest.approx(
        balanced_accuracy_score(y, predicted)
    )
    assert e.metrics["macro_f1"].value == pytest.approx(f1_score(y, predicted, average="macro"))
    assert e.metrics["log_loss"].value == pytest.approx(log_loss(y, p))
    assert e.per_class[2].precision == pytest.approx(
        precision_score(y, predicted, labels=[2], average="macro")
    )
    assert tuple(e.metrics) == NAMES
    assert all(metric.n == 400 for metric in e.metrics.values())
    assert np.sum(e.confusion) == 400
    assert [score.support for score in e.per_class] == np.bincount(y).tolist()


def test_rows_of_the_confusion_are_true_classes():
    e = evaluate(certain([1, 1, 1, 0], 3), [0, 0, 1, 2], names(3))
    assert e.confusion == ((0, 2, 0), (0, 1, 0), (1, 0, 0))


def test_each_resample_is_scored_as_scikit_learn_would():
    p, y = sample(n=90, n_classes=4, skill=1)
    y[y == 2] = 0  # a class that is predicted, but not among the labels
    items = metrics._Items.of(p, y)
    draws = np.vstack([*metrics._draws(items, np.random.default_rng(3), 40)])
    table = metrics._statistics(items, draws)
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
    items = metrics._Items.of(*sample(n=300, n_classes=5))
    for draws in metrics._draws(items, np.random.default_rng(0), 20):
        for draw in draws:
            assert (np.bincount(items.label[draw], minlength=5) == items.support).all()


def test_the_chunks_change_memory_and_nothing_else(monkeypatch):
    p, y = sample(n=50)
    whole = evaluate(p, y, names(6))
    monkeypatch.setattr(metrics, "_DRAWS_AT_ONCE", 120)
    assert evaluate(p, y, names(6)) == whole
    sizes = [draws.size for draws in metrics._draws(metrics._Items.of(p, y), _rng(), 11)]
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
    items = metrics._Items.of(
        np.array([[0.2, 0.8], [1 / 15, 14 / 15], [0.0, 1.0]]), np.zeros(3, int)
    )
    assert items.bin.tolist() == [11, 13, 14]


def test_classes_that_no_label_names_are_left_out_of_the_means():
    p = certain([0, 0, 2, 1], 4, 0.7)
    e = evaluate(p, [0, 0, 1, 1], names(4))
    assert e.metrics["balanced_accuracy"].value == pytest.approx(0.75)
    assert e.metrics["macro_f1"].value == pytest.approx((1 + 2 / 3) / 2)
    named, unnamed = e.per_class[2], e.per_class[3]
    assert (named.precision, named.recall, named.f1, named.support) == (0.0, None, None, 0)
    assert (unnamed.precision, unnamed.recall, unnamed.f1, unnamed.support) == (None, None, None, 0)


def test_a_class_that_is_never_predicted_has_no_precision():
    score = evaluate(certain([0, 0], 2), [0, 1], names(2)).per_class[1]
    assert (score.precision, score.recall, score.f1, score.support) == (None, 0.0, 0.0, 1)


def test_one_label_only():
    e = evaluate(certain([1, 1, 0], 2, 0.8), [1, 1, 1], names(2))
    assert e.metrics["balanced_accuracy"].value == pytest.approx(2 / 3)
    assert e.confusion == ((0, 0), (1, 2))


def test_no_items_no_numbers():
    e = evaluate(np.empty((0, 3)), np.empty(0, int), names(3))
    assert e.metrics == dict.fromkeys(NAMES, Metric(None, None, None, 0))
    assert e.confusion == ((0, 0, 0),) * 3
    assert [score.support for score in e.per_class] == [0, 0, 0]
    assert evaluate(np.empty((0, 2)), [], names(2)).confusion == ((0, 0), (0, 0))


def test_an_impossible_label_costs_a_finite_loss():
    e = evaluate([[0.0, 1.0], [1.0, 0.0]], [0, 0], names(2))
    assert e.metrics["log_loss"].value == pytest.approx(-np.log(np.finfo(float).eps) / 2)


def test_float32_rows_are_probabilities_too():
    p, y = sample()
    exact = evaluate(p, y, names(6)).metrics["log_loss"].value
    assert evaluate(p.astype(np.float32), y, names(6)).metrics["log_loss"].value == pytest.approx(
        exact, rel=1e-6
    )


def test_the_first_of_equal_classes_is_predicted():
    assert evaluate([[0.5, 0.5]], [1], names(2)).confusion == ((0, 0), (1, 0))


@pytest.mark.parametrize(
    ("p", "y", "classes"),
    [
        ([[0.5, 0.5]], [0, 1], 2),
        ([[0.5, 0.5]], [0], 3),
        ([0.5, 0.5], [0, 1], 2),
        ([[1.0]], [0], 1),
        ([[0.5, 0.5]], [2], 2),
        ([[0.5, 0.5]], [-1], 2),
        ([[0.5, 0.5]], [0.0], 2),
        ([[np.nan, 0.5]], [0], 2),
        ([[np.inf, 0.5]], [0], 2),
        ([[-0.5, 1.5]], [0], 2),
        ([[0.5, 0.6]], [0], 2),
    ],
)
def test_what_is_no_prediction_is_refused(p, y, classes):
    with pytest.raises(ValueError, match=r"must|Need"):
        evaluate(np.array(p), np.array(y), names(classes))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_value_lies_in_its_interval_and_goes_through_json(data):
    n_classes = data.draw(st.integers(2, 5))
    n = data.draw(st.integers(0, 12))
    draw = st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n)
    y, predicted = np.array(data.draw(draw), int), np.array(data.draw(draw), int)
    p = certain(predicted, n_classes, data.draw(st.sampled_from([1.0, 0.9, 1 / n_classes])))
    e = evaluate(p, y, names(n_classes), resamples=50)
    for name, metric in e.metrics.items():
        assert metric.n == n
        if n:
            assert 0 <= metric.low <= metric.value <= metric.high
            assert name == "log_loss" or metric.high <= 1
    assert Evaluation.from_dict(json.loads(json.dumps(e.to_dict(), allow_nan=False))) == e


@pytest.mark.parametrize(("n", "skill"), [(400, 2.5), (30, 0.0), (1, 1.0)])
def test_point_values_are_those_of_an_evaluation(n, skill):
    p, y = sample(n=n, skill=skill)
    found = point_values(p, y, 6)
    assert tuple(found) == NAMES
    assert found == {name: m.value for name, m in evaluate(p, y, names(6)).metrics.items()}


@pytest.mark.parametrize(
    ("p", "y", "n_classes"),
    [([[0.5, 0.5]], [0, 1], 2), ([[0.5, 0.5]], [2], 2), ([[0.5, 0.6]], [0], 2), ([[1.0]], [0], 1)],
)
def test_point_values_of_no_prediction_are_refused(p, y, n_classes):
    with pytest.raises(ValueError, match=r"must|Need"):
        point_values(p, y, n_classes)


def test_a_metric_goes_through_json():
    metric = Metric(0.5, 0.25, 0.75, 8)
    assert Metric.from_dict(json.loads(json.dumps(metric.to_dict()))) == metric


def test_importing_metrics_loads_neither_torch_nor_scikit_learn():
    code = "import sys, headstart.metrics; print({'torch', 'sklearn'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
