"""What a range test steps along: enough batches, the right ones, and the loss of guessing."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from streams import TASK, make_examples

from headstart.strategy.phase import Train
from headstart.training.range_batches import first_batches, guessing_loss, planned_steps


def test_fewer_images_mean_fewer_steps():
    def steps(n: int) -> int:
        return planned_steps(make_examples(n + 6), Train(epochs=1, batch_size=8))

    assert steps(16) == 60  # the fewest: more rounds would show what is learnt by heart
    assert steps(100) == 65
    assert steps(4000) == 100


def test_each_round_holds_every_image_once_and_comes_with_a_view_of_its_own():
    examples = replace(make_examples(views=2), first_view=4)
    batches = first_batches(examples, Train(epochs=1, batch_size=6), 9, 0, 2)
    assert len(batches) == 9
    rounds = [batches[at : at + 3] for at in (0, 3, 6)]
    assert [batch.view for batch in batches] == [2] * 3 + [0] * 3 + [1] * 3
    for some in rounds:
        taken = np.concatenate([batch.positions for batch in some])
        assert sorted(taken.tolist()) == examples.train.tolist()
    assert len({batch.seed for batch in batches}) == 9


def test_guessing_costs_the_entropy_of_the_smoothed_shares():
    plain = Train(epochs=1, label_smoothing=0.0)
    examples = make_examples(n=24, val=6)  # six images of each of three classes
    assert guessing_loss(examples, TASK, plain, None) == pytest.approx(math.log(3))
    skewed = make_examples(skewed=True)  # 14, 1 and 1
    shares = np.array([14, 1, 1]) / 16
    assert guessing_loss(skewed, TASK, plain, None) == pytest.approx(-(shares @ np.log(shares)))
    smoothed = 0.9 * shares + 0.1 / 3
    found = guessing_loss(skewed, TASK, Train(epochs=1), None)
    assert found == pytest.approx(-(smoothed @ np.log(smoothed)))


def test_what_evens_the_classes_out_makes_guessing_dearer():
    skewed = make_examples(skewed=True)
    plain = Train(epochs=1, label_smoothing=0.0)
    even = pytest.approx(math.log(3))
    weights = torch.tensor([1 / 14, 1.0, 1.0])
    assert guessing_loss(skewed, TASK, plain, weights) == even
    assert guessing_loss(skewed, TASK, replace(plain, sampling="balanced"), None) == even
    heavy = np.where(skewed.labels == 0, 1 / 14, 1.0).astype(np.float32)
    assert guessing_loss(replace(skewed, weights=heavy), TASK, plain, None) == even


def test_a_class_without_training_images_costs_nothing():
    examples = replace(make_examples(n=22), train=np.array([0, 1, 3, 4]))
    plain = Train(epochs=1, label_smoothing=0.0)
    assert guessing_loss(examples, TASK, plain, None) == pytest.approx(math.log(2))
