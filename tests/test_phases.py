"""The phases of a plan in a row: what each gets from those before, what is saved, what is kept."""

from __future__ import annotations

import numpy as np
import pytest

from headstart.cache import Cache
from headstart.log import Log
from headstart.phases import Phases
from headstart.training.device import Forward
from headstart.training.solve import solve
from planned import HEAD, LAST


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


def run(plan, images, cache, **options):
    return Phases(plan, images, plan.path, cache, Log(), **options).run()


def test_a_head_that_is_solved_last_has_seen_val_and_one_before_training_has_not(
    prepared, cache, monkeypatch
):
    found = []

    def spied(*arguments, **options):
        found.append(solve(*arguments, **options))
        return found[-1]

    monkeypatch.setattr("headstart.phases.solve", spied)
    plan, images = prepared(HEAD)
    trained = run(plan, images, cache)
    assert np.array_equal(trained.head.weight.detach().numpy(), found[0].weight)
    assert not np.array_equal(found[0].weight, found[0].val_weight)
    assert trained.solved is found[0]
    assert trained.stream is None

    plan, images = prepared(HEAD, LAST)
    starts = []

    def never(self):
        starts.append(self.model.head.weight.detach().clone())
        return {"phase": 2, "kind": "train", "seconds": 0.0}

    monkeypatch.setattr("headstart.phases.Engine.run", never)
    trained = run(plan, images, cache)
    assert np.array_equal(starts[0].numpy(), found[1].val_weight)
    assert trained.solved is None
    assert trained.stream is not None


def test_a_head_solved_after_training_is_solved_on_the_trained_networks_features(prepared, cache):
    plan, images = prepared(LAST, HEAD)
    trained = run(plan, images, cache)
    assert [record["kind"] for record in trained.records] == ["train", "solve"]
    features = trained.features.rows.all()
    assert np.allclose(features, computed(plan, images), atol=1e-4)
    other, again = prepared(HEAD)
    before = run(other, again, cache).features.rows.all()
    assert not np.allclose(features, before, atol=1e-4)


def computed(plan, images) -> np.ndarray:
    """Compute the features of all images by the network as it is now."""
    forward = Forward(plan.backbone, plan.path)
    rows = images.pixels.all()
    size = plan.path.batch_size
    return np.concatenate([forward(rows[at : at + size]) for at in range(0, len(rows), size)])
