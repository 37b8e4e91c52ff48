"""Judging on val: the metrics of the plain val images, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from streams import make_engine, make_examples, steady

from headstart.metrics import point_values
from headstart.training.judge import judge, probabilities


def judged(engine, at_once: int = 3):
    return judge(engine.tail, engine.examples, engine.task, engine.path, at_once=at_once)


def test_it_gives_the_metrics_of_the_val_images():
    model, examples = steady(), make_examples(views=2)
    found = judged(make_engine(model, examples))
    model.eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(examples.stream.images[examples.val]))
    expected = point_values(logits.softmax(1).numpy(), examples.labels[examples.val], 3)
    assert found == pytest.approx(expected, abs=1e-5)
    assert {view for view, _ in examples.stream.asked} == {0}
    assert examples.stream.prepared == [0]


def test_it_gives_the_probabilities_of_the_val_images_in_their_order():
    model, examples = steady(), make_examples()
    engine = make_engine(model, examples)
    model.train()
    found = probabilities(engine.tail, examples, engine.task, engine.path, at_once=4)
    model.eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(examples.stream.images[examples.val]))
    assert found == pytest.approx(logits.softmax(1).numpy(), abs=1e-5)
    assert found.shape == (6, 3)
    assert found.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_the_size_of_a_batch_decides_nothing(at_once):
    first = judged(make_engine(steady()))
    assert judged(make_engine(steady()), at_once) == pytest.approx(first, abs=1e-5)


def test_an_output_that_is_no_number_is_told():
    engine = make_engine(steady())
    with torch.no_grad():
        engine.model.head.bias[0] = np.nan
    assert judged(engine) is None


def test_short_memory_takes_fewer_images_at_once(monkeypatch):
    engine, seen = make_engine(steady()), []
    expected = judged(engine)
    whole = type(engine.tail).forward

    def forward(self, values):
        seen.append(len(values))
        if len(values) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return whole(self, values)

    monkeypatch.setattr(type(engine.tail), "forward", forward)
    assert judged(engine, at_once=4) == pytest.approx(expected, abs=1e-5)
    assert seen[:2] == [3, 2]
    assert set(seen[2:]) == {1}


def test_memory_for_not_even_one_image_is_an_error(monkeypatch):
    engine = make_engine(steady())

    def full(self, values):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(type(engine.tail), "forward", full)
    with pytest.raises(RuntimeError, match="out of memory"):
        judged(engine)
