"""What is said of an image, as an object and as JSON."""

from __future__ import annotations

import json

from headstart.data.read import Failure
from headstart.prediction import Prediction, Predictions

CAT = Prediction("a.jpg", "cat", 0.75, {"cat": 0.75, "dog": 0.25})


def test_a_prediction_is_plain_json():
    document = json.loads(json.dumps(CAT.to_dict()))
    assert document == {
        "path": "a.jpg",
        "label": "cat",
        "probability": 0.75,
        "probabilities": {"cat": 0.75, "dog": 0.25},
    }
    assert list(document["probabilities"]) == ["cat", "dog"]


def test_predictions_are_a_list_that_knows_what_it_lacks():
    failure = Failure(1, "b.jpg", "cut short")
    found = Predictions([CAT], [failure])
    assert found == [CAT]
    assert found.failed == (failure,)
    assert Predictions([]).failed == ()
