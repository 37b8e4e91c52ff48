from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from headstart.errors import DataError, ModelError, UsageError
from headstart.training.task import SingleLabel, from_dict

TASK = SingleLabel(("owl", "cat", "dog"))


def test_labels_become_the_positions_of_their_classes() -> None:
    encoded = TASK.encode(["dog", "owl", "dog", "cat"])
    assert encoded.tolist() == [2, 0, 2, 1]
    assert encoded.dtype == np.int64
    assert TASK.encode([]).shape == (0,)


def test_unknown_labels_are_told_together_with_the_known_ones() -> None:
    with pytest.raises(DataError, match="Cat, bird") as raised:
        TASK.encode(["owl", "bird", "Cat", "bird"])
    assert "owl, cat, dog" in str(raised.value.hint)
    assert raised.value.field == "label"


def test_a_message_about_very_many_labels_stays_short() -> None:
    task = SingleLabel(tuple(f"class {n}" for n in range(1000)))
    with pytest.raises(DataError) as raised:
        task.encode([f"label {n}" for n in range(1000)])
    assert len(str(raised.value)) < 600


def test_the_head_has_an_output_a_class() -> None:
    head = TASK.head(7)
    assert (head.in_features, head.out_features) == (7, 3)
    assert head(torch.zeros(2, 7)).shape == (2, 3)


def test_the_head_has_the_form_and_the_seed_that_are_asked_for() -> None:
    head = TASK.head(7, "mlp:5,dropout=0.5", seed=1)
    assert [type(layer).__name__ for layer in head] == [
        *("Dropout", "Linear", "ReLU", "Dropout", "Linear")
    ]
    assert head(torch.zeros(2, 7)).shape == (2, 3)
    assert torch.equal(TASK.head(7, seed=1).weight, TASK.head(7, seed=1).weight)
    assert not torch.equal(TASK.head(7, seed=1).weight, TASK.head(7, seed=2).weight)
    with pytest.raises(UsageError, match="mlp:WIDTH"):
        TASK.head(7, "deep")


def test_probabilities_are_the_softmax_and_sum_to_one_exactly_enough() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0], [500.0, -500.0, 0.0], [-1e4, -1e4, -1e4]])
    probabilities = TASK.probabilities(logits)
    odds = np.exp([1.0, 2.0, 3.0])
    assert probabilities.dtype == torch.float64
    np.testing.assert_allclose(probabilities[0], odds / odds.sum(), rtol=1e-12)
    np.testing.assert_allclose(probabilities.sum(dim=1), 1, rtol=1e-15)
    np.testing.assert_allclose(probabilities[2], 1 / 3, rtol=1e-15)


def test_the_evaluation_is_of_these_classes() -> None:
    labels = np.array([0, 1, 2, 1, 0])
    probabilities = np.eye(3)[[0, 1, 1, 1, 2]] * 0.7 + 0.1
    evaluation = TASK.evaluate(probabilities, labels)
    assert [score.name for score in evaluation.per_class] == ["owl", "cat", "dog"]
    assert evaluation.metrics["accuracy"].value == accuracy_score(labels, [0, 1, 1, 1, 2])


def test_a_task_comes_back_from_json_as_it_was() -> None:
    document = json.loads(json.dumps(TASK.to_dict()))
    assert from_dict(document) == TASK
    assert document["name"] == "single-label"


@pytest.mark.parametrize("name", ["multi-label", None])
def test_a_task_of_another_kind_is_a_model_error(name) -> None:
    with pytest.raises(ModelError, match=repr(name)):
        from_dict({"name": name, "classes": ["a", "b"]})
