"""Classes that a probe confuses."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.intervals import wilson
from headstart.overlap import balanced_accuracy, finding, overlaps

CLASSES = ["cat", "dog", "owl", "fox"]


def confused(matrix: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Labels and sure predictions whose confusion is this matrix, given classes down."""
    counts = np.array(matrix)
    labels, predicted = (
        np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape)
    )
    return labels, np.eye(len(counts))[predicted] * 0.8 + 0.2 / len(counts)


def test_the_pair_that_is_confused_is_found_with_its_numbers():
    labels, probabilities = confused([[60, 38, 1, 1], [30, 68, 1, 1], [1, 0, 99, 0], [0, 1, 0, 99]])
    (pair,) = overlaps(labels, probabilities, CLASSES)
    assert (pair.a, pair.b, pair.n) == ("cat", "dog", 200)
    assert pair.share == pytest.approx(0.34)
    assert (pair.low, pair.high) == tuple(map(float, wilson(68, 200)))
    assert pair.even == pytest.approx((40 + 32) / 3 / 200)
    assert pair.apart == pytest.approx((61.5 / 100 + 69 / 100) / 2, abs=0.02)
    assert not pair.same
    assert len(pair.positions) == 68
    assert all(labels[one] != probabilities[one].argmax() for one in pair.positions)
    told = finding(pair, [f"{number}.jpg" for number in range(400)])
    assert (told.kind, told.severity) == ("overlap", "note")
    assert "cat and dog overlap: 34 % (28 to 41) of their 200 images" in told.message
    assert "12.0 % if errors fell evenly" in told.message
    assert told.files == tuple(f"{one}.jpg" for one in pair.positions)


def test_errors_that_fall_evenly_are_no_overlap():
    even = [[70, 10, 10, 10], [10, 70, 10, 10], [10, 10, 70, 10], [10, 10, 10, 70]]
    assert overlaps(*confused(even), CLASSES) == ()


def test_two_names_for_one_class_can_not_be_told_apart():
    labels, probabilities = confused(
        [[52, 48, 0, 0], [49, 51, 0, 0], [0, 0, 100, 0], [0, 0, 0, 100]]
    )
    (pair,) = overlaps(labels, probabilities, CLASSES)
    assert pair.same
    assert pair.apart_low <= 0.5 <= pair.apart_high
    told = finding(pair, [str(number) for number in range(400)])
    assert told.severity == "warning"
    assert "they can't be told apart" in told.message
    assert "one class" in (told.hint or "")


def test_a_rare_class_that_is_swallowed_is_found():
    labels, probabilities = confused([[400, 0, 0], [0, 400, 0], [40, 0, 0]])
    (pair,) = overlaps(labels, probabilities, CLASSES[:3])
    assert {pair.a, pair.b} == {"cat", "owl"}
    assert pair.same


def test_a_rare_class_beside_a_common_one_is_not_at_a_disadvantage():
    labels = np.repeat([0, 1], [400, 40])
    rare = np.where(labels == 1, 0.3, 0.02)  # far more than its share, yet never the first
    assert overlaps(labels, np.stack([1 - rare, rare], axis=1), CLASSES[:2]) == ()
    rare = np.where(np.arange(440) % 2, 0.3, 0.02)  # says nothing of the class
    (pair,) = overlaps(labels, np.stack([1 - rare, rare], axis=1), CLASSES[:2])
    assert pair.same
    assert pair.apart == pytest.approx(0.5)


def test_two_classes_alone_need_no_evenness():
    assert overlaps(*confused([[96, 4], [4, 96]]), CLASSES[:2]) == ()
    (pair,) = overlaps(*confused([[80, 20], [20, 80]]), CLASSES[:2])
    assert "evenly" not in finding(pair, [""] * 200).message


def test_a_handful_of_images_says_nothing():
    assert overlaps(*confused([[2, 3, 0], [3, 2, 0], [0, 0, 50]]), CLASSES[:3]) == ()


def test_what_was_not_judged_does_not_count():
    labels, probabilities = confused([[80, 20], [20, 80]])
    wrong = labels != probabilities.argmax(axis=1)
    assert overlaps(labels, probabilities, CLASSES[:2], ~wrong) == ()
    kept = np.arange(200) >= 5
    (pair,) = overlaps(labels, probabilities, CLASSES[:2], kept)
    assert pair.n == 195
    assert all(labels[one] != probabilities[one].argmax() for one in pair.positions)


def test_at_most_ten_pairs_are_told_the_worst_first():
    matrix = np.eye(24, dtype=int) * 50
    for pair in range(12):
        matrix[2 * pair, 2 * pair + 1] = 20 + pair
    found = overlaps(*confused(matrix.tolist()), [f"{number:02}" for number in range(24)])
    assert len(found) == 10
    assert found[0].a == "22"
    assert [one.share for one in found] == sorted((one.share for one in found), reverse=True)


def test_a_mean_of_recalls_has_an_interval_that_holds_it():
    value, low, high = balanced_accuracy([10, 40], [10, 80])
    assert value == pytest.approx(0.75)
    assert low < value < high
    one = balanced_accuracy([40], [80])
    assert one[1:] == pytest.approx([float(end) for end in wilson(40, 80)])
    assert balanced_accuracy([0, 0], [5, 5])[1] == 0
    assert balanced_accuracy([5, 5], [5, 5])[2] == 1
