"""The phases of a plan in a row: what each gets from those before, what is saved, what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.cache import Cache
from headstart.log import Log
from headstart.phases import Phases
from headstart.strategy.phase import Rate
from headstart.training.deadline import Deadline
from headstart.training.device import Forward
from headstart.training.solve import solve
from planned import HEAD, LAST, LAST_TWO


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def in_any_case(monkeypatch):
    """Phases are tried although the head has all val images right."""
    monkeypatch.setattr("headstart.phases.LEAST_PUT_RIGHT", 0)


def run(plan, images, cache, **options):
    return Phases(plan, images, plan.path, cache, Log(), **options).run()


def test_a_head_that_is_solved_last_has_seen_val_and_one_before_training_has_not(
    prepared, cache, monkeypatch
):
    found = []

    def spied(*arguments, **options):
        found.append(solve(*arguments, **options))
        return found[-1]

    monkeypatch.setattr("headstart.solving.solve", spied)
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


# What is not kept, and what there is no time for

BETTER = replace(LAST, keep="better")
IDLE = replace(  # moves nothing, so that no epoch is better than the start
    BETTER, rates=(Rate("head", 1e-30), Rate("stage:-1", 1e-30), Rate("stage:0..-1", None))
)


def told(plan, images, cache, **options):
    """Run, and return what was left and the events."""
    events: list = []
    log = Log(events.append)
    return Phases(plan, images, plan.path, cache, log, **options).run(), events


@pytest.mark.usefixtures("in_any_case")
def test_where_nothing_is_kept_the_outcome_is_that_of_the_solved_head_alone(prepared, cache):
    plan, images = prepared(HEAD)
    alone = run(plan, images, cache)
    plan, images = prepared(HEAD, IDLE, IDLE)
    before = {name: value.clone() for name, value in plan.backbone.network.state_dict().items()}
    trained = run(plan, images, cache)
    assert [record.get("keep", {}).get("kept") for record in trained.records] == [
        None, False, False,
    ]  # fmt: skip
    after = plan.backbone.network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert torch.equal(trained.head.weight, alone.head.weight)
    assert torch.equal(trained.head.bias, alone.head.bias)
    assert np.array_equal(trained.solved.val_weight, alone.solved.val_weight)
    assert np.array_equal(trained.features.rows.all(), alone.features.rows.all())
    assert trained.stream is None
    assert trained.solved.fitted_on == len(images.parts["train"]) + len(images.parts["val"])


@pytest.mark.usefixtures("in_any_case")
def test_what_comes_after_a_phase_that_is_not_kept_starts_from_the_weights_before_it(
    prepared, cache, monkeypatch
):
    plan, images = prepared(HEAD, IDLE, LAST)
    starts = []
    from headstart.training.engine import Engine

    whole = Engine.run

    def spied(self):
        starts.append(self.model.head.weight.detach().clone())
        return whole(self)

    monkeypatch.setattr("headstart.phases.Engine.run", spied)
    trained = run(plan, images, cache)
    assert torch.equal(starts[0], starts[1])
    assert trained.solved is None
    assert trained.stream is not None
    assert [record["phase"] for record in trained.records] == [1, 2, 3]


@pytest.mark.usefixtures("in_any_case")
def test_a_phase_that_is_kept_leaves_no_solved_head(prepared, cache, monkeypatch):
    from headstart.training.keeping import compare

    monkeypatch.setattr(
        "headstart.training.engine.compare", lambda *said: replace(compare(*said), kept=True)
    )
    plan, images = prepared(HEAD, BETTER, IDLE)
    trained = run(plan, images, cache)
    assert trained.solved is None
    assert trained.stream is not None


def clock(*, left: float) -> Deadline:
    return Deadline(left, lambda: 0.0)


def test_a_phase_that_has_no_time_for_an_epoch_is_left_out(prepared, cache):
    plan, images = prepared(HEAD, LAST)
    alone = run(plan, images, cache)
    assert alone.solved is None
    for left, predicted, reason in (
        (30.0, (1.0, 500.0), "no time for an epoch of it: an epoch would take about 500 s, and "
         "30 s were left"),
        (-5.0, (None, 500.0), "no time for an epoch of it: an epoch would take about 500 s, and "
         "0 s were left"),
        (0.0, None, "the time is over"),
    ):  # fmt: skip
        plan, images = prepared(HEAD, LAST)
        trained, events = told(plan, images, cache, deadline=clock(left=left), predicted=predicted)
        assert trained.records[1]["skipped"] == reason
        assert trained.records[1]["trainable"] > 0
        assert trained.solved is not None  # and what is left is the head, solved on val too
        assert np.array_equal(trained.head.weight.detach().numpy(), trained.solved.weight)
        assert [event["phase"] for event in events if event["event"] == "phase"] == [1, 2]


def test_the_seconds_that_were_predicted_are_told_before_each_phase(prepared, cache):
    plan, images = prepared(HEAD, LAST)
    _, events = told(plan, images, cache, predicted=(1.25, 60.0), deadline=clock(left=1e6))
    names = [(e["event"], e["phase"]) for e in events if e["event"] in ("predicted", "phase-start")]
    assert names == [("predicted", 1), ("phase-start", 1), ("predicted", 2), ("phase-start", 2)]
    assert [e["took"] for e in events if e["event"] == "predicted"] == [1.25, 60.0]


def test_the_first_phase_is_begun_in_any_case_and_those_after_it_are_not(prepared, cache):
    plan, images = prepared(LAST, LAST_TWO)
    trained, _ = told(plan, images, cache, deadline=clock(left=-1.0))
    first, second = trained.records
    assert (first["stopped"]["why"], first["stopped"]["step"]) == ("budget", 1)
    assert second["skipped"] == "the time is over"
    assert trained.stream is not None
    assert trained.solved is None


def test_where_val_has_nothing_left_to_put_right_nothing_is_trained(prepared, cache):
    plan, images = prepared(HEAD, BETTER)
    trained, events = told(plan, images, cache)
    head, skipped = trained.records
    assert head["val"]["accuracy"] == 1.0
    n = len(images.parts["val"])
    assert skipped["skipped"] == f"of {n} val images none is wrong, so that none could be put right"
    assert trained.solved is not None
    assert "epoch" not in [event["event"] for event in events]


@pytest.mark.parametrize(
    ("wrong", "reason"), [(1, "1 is wrong, and one more"), (2, None), (0, "none is wrong")]
)
def test_one_image_more_could_be_luck(prepared, cache, wrong, reason):
    plan, images = prepared(HEAD, BETTER)
    phases = Phases(plan, images, plan.path, cache, Log())
    n = len(images.parts["val"])
    phases.records = [{"kind": "solve", "val": {"accuracy": round((n - wrong) / n, 6)}}]
    said = phases._why_not(1, plan.strategy.phases[1])
    assert said is None if reason is None else reason in said


def test_without_val_images_a_phase_that_must_be_better_is_left_out(prepared, cache):
    plan, images = prepared(LAST, BETTER)
    none = np.empty(0, dtype=np.int64)
    images = replace(images, parts=images.parts | {"val": none})
    trained = run(plan, images, cache)
    assert trained.records[1]["skipped"] == "there are no val images to tell whether it helps"
