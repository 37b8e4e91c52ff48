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

from headstart.metrics import Evaluation, Metric, evaluate, point_values
from scores import NAMES, certain, names, sample


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
