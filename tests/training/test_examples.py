"""Orders and batches."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.training.examples import batches_of, epoch_order

LABELS = np.array([0] * 90 + [1] * 9 + [2])
TRAIN = np.arange(0, 100)


def test_a_shuffled_order_has_every_position_once():
    some = np.array([5, 2, 99, 40])
    order = epoch_order(some, LABELS, balanced=False, seed=3)
    assert sorted(order) == sorted(some)
    whole = epoch_order(TRAIN, LABELS, balanced=False, seed=3)
    assert whole.tolist() != TRAIN.tolist()
    assert (whole == epoch_order(TRAIN, LABELS, balanced=False, seed=3)).all()
    assert (whole != epoch_order(TRAIN, LABELS, balanced=False, seed=4)).any()


def test_a_balanced_order_draws_classes_alike_and_only_what_is_trained_on():
    train = np.delete(TRAIN, [0, 95])
    drawn = np.concatenate(
        [epoch_order(train, LABELS, balanced=True, seed=seed) for seed in range(50)]
    )
    assert len(drawn) == 50 * len(train)
    assert set(drawn.tolist()) == set(train.tolist())
    shares = np.bincount(LABELS[drawn]) / len(drawn)
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 16, 17, 100])
@pytest.mark.parametrize("size", [1, 2, 8, 100])
def test_batches_are_the_fewest_and_differ_by_one_at_most(n, size):
    batches = batches_of(np.arange(n), size)
    sizes = [len(batch) for batch in batches]
    assert len(batches) == -(-n // size)
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    assert np.concatenate(batches).tolist() == list(range(n))


def test_of_nothing_there_is_one_empty_batch():
    assert [len(batch) for batch in batches_of(np.arange(0), 8)] == [0]
