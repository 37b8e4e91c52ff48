"""Where a phase stands."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest

from headstart.training.position import Position


def record(accuracy: float, log_loss: float) -> dict:
    return {"epoch": 1, "val": {"accuracy": accuracy, "log_loss": log_loss}}


def test_it_is_plain_json_and_comes_back():
    position = Position(2, 3, 0.1, 1.5, 0.25, {"head": 1e-3}, [record(0.5, 1.0)], 4, {"why": "x"})
    assert Position(**json.loads(json.dumps(asdict(position)))) == position


def test_each_position_has_a_history_of_its_own():
    first = Position()
    first.history.append(record(1.0, 0.0))
    assert Position().history == []


def test_more_is_better_and_log_loss_decides_between_equals():
    position = Position(history=[record(0.5, 0.9), record(0.8, 0.7), record(0.8, 0.6)])
    scores = position.scores("accuracy")
    assert scores == [(0.5, -0.9), (0.8, -0.7), (0.8, -0.6)]
    assert scores.index(max(scores)) == 2
    assert max(position.scores("log_loss")) == (-0.6, -0.6)


def test_an_epoch_without_a_number_is_worse_than_any():
    position = Position(history=[{"epoch": 1, "val": None}, record(0.0, 1e9)])
    scores = position.scores("accuracy")
    assert scores[0] == (-math.inf, -math.inf)
    assert max(scores) == scores[1]


def test_without_a_monitor_there_are_no_scores():
    assert Position(history=[record(0.5, 0.9)]).scores("none") == []


@pytest.mark.parametrize(
    ("accuracies", "waited"), [([0.5], 0), ([0.5, 0.4], 1), ([0.9, 0.5, 0.7], 2)]
)
def test_it_knows_how_long_ago_the_best_epoch_was(accuracies, waited):
    position = Position(history=[record(value, 1 - value) for value in accuracies])
    assert position.waited("accuracy") == waited


def test_it_says_which_weights_are_kept():
    history = [record(0.5, 0.9) | {"epoch": 0}, record(0.8, 0.7), record(0.7, 0.6) | {"epoch": 2}]
    assert Position(history=history).kept("accuracy", True) == (1, "epoch 1, best accuracy")
    assert Position(history=history).kept("log_loss", True) == (2, "epoch 2, best log_loss")
    assert Position(history=history).kept("none", True) == (None, "last epoch")
    assert Position(history=history).kept("accuracy", False) == (None, "last epoch")


def test_after_a_phase_broke_the_last_whole_epoch_is_kept():
    broken = {"epoch": 2, "val": None}
    stopped = {"why": "not-finite"}
    position = Position(history=[record(0.5, 0.9), broken], stopped=stopped)
    assert position.kept("none", True) == (None, "epoch 1, the last that was finite")
    assert Position(history=[broken], stopped=stopped).kept("none", True) == (None, "the start")
