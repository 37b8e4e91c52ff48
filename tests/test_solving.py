"""A head solved on the features of a run's images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from headstart.cache import Cache
from headstart.solving import put_in, solution, val_accuracy
from headstart.training.features import extract
from planned import HEAD


@pytest.fixture
def featured(prepared, tmp_path):
    plan, images = prepared(HEAD)
    cache = Cache(tmp_path / "features")
    features = extract(plan.backbone, (), images.digests, cache, plan.path, pixels=images.pixels)
    return plan, images, features


def test_it_is_solved_on_the_rows_of_train_and_chosen_by_val(featured):
    plan, images, features = featured
    # The rows in another order than the images, so that positions count.
    turned = replace(features, positions=features.positions[::-1])
    solved = solution(plan, images, features, HEAD.fit)
    other = solution(plan, images, turned, HEAD.fit)
    assert not np.allclose(solved.val_weight, other.val_weight)
    rows, labels = features.rows.take(images.parts["train"]), images.labels[images.parts["train"]]
    mean, spread = rows.mean(axis=0), rows.std(axis=0)
    scaled = (rows - mean) / np.where(spread > 0, spread, 1)
    fit = LogisticRegression(C=1 / solved.penalty, max_iter=5000, tol=1e-8).fit(scaled, labels)
    said = (rows @ solved.val_weight.T + solved.val_bias).argmax(axis=1)
    assert (said == fit.predict(scaled)).all()


def test_its_accuracy_on_val_is_that_of_the_head_that_has_not_seen_val(featured):
    _, images, features = featured
    solved = solution(*featured, HEAD.fit)
    at = images.parts["val"]
    right = (features.rows.take(at) @ solved.val_weight.T + solved.val_bias).argmax(axis=1)
    expected = round(float((right == images.labels[at]).mean()), 6)
    assert val_accuracy(images, features, solved) == {"accuracy": expected}
    none = replace(images, parts=images.parts | {"val": np.empty(0, dtype=np.int64)})
    assert val_accuracy(none, features, solved) is None


def test_it_is_put_into_the_last_layer():
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))
    weight, bias = np.ones((3, 4), np.float32), np.arange(3, dtype=np.float32)
    put_in(head, weight, bias)
    assert torch.equal(head[1].weight, torch.ones(3, 4))
    assert head[1].bias.tolist() == [0, 1, 2]
    assert head[1].weight.requires_grad
