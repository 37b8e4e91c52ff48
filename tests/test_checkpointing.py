"""A checkpoint of a whole run: what is in it, and what it makes of a fresh network."""

from __future__ import annotations

import json

import pytest
import torch

from headstart.cache import Cache
from headstart.checkpointing import (
    as_begun,
    describe,
    earlier_tensors,
    phase_of,
    tensors_of_phase,
)
from headstart.errors import ModelError
from headstart.log import Log
from headstart.phases import Phases
from headstart.training.checkpoint import Checkpoints, State
from headstart.training.model import Model
from planned import HEAD, HEAD_ONLY, LAST, LAST_TWO


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


def run(plan, images, cache, **options):
    return Phases(plan, images, plan.path, cache, Log(), **options).run()


def test_a_checkpoint_holds_what_earlier_phases_trained(prepared, cache, tmp_path):
    plan, images = prepared(LAST_TWO, HEAD_ONLY)
    saved: list[State] = []

    class Kept(Checkpoints):
        def save(self, state):
            tensors = {name: value.detach().clone() for name, value in state.tensors.items()}
            saved.append(State(state.position, tensors))
            return super().save(state)

    checkpoints = Kept(tmp_path / "checkpoints")
    trained = run(plan, images, cache, checkpoints=checkpoints)
    first, second = saved
    assert (first.position["phase"], second.position["phase"]) == (0, 1)
    assert not any(name.startswith("earlier.") for name in first.tensors)
    blocks = {name.split(".")[1] for name in second.tensors if name.startswith("earlier.")}
    assert blocks == {str(n) for n in range(plan.sizes[0].prefix, plan.sizes[1].prefix)}
    for name, value in second.tensors.items():
        if name.startswith("earlier."):
            _, block, rest = name.split(".", 2)
            own = plan.backbone.blocks[int(block)].module.state_dict()[rest]
            assert torch.equal(own, value)
    # From it, a new process gets the same network without the first phase.
    fresh, again = prepared(LAST_TWO, HEAD_ONLY)
    state, _ = Checkpoints(tmp_path / "checkpoints").load()
    resumed = Phases(fresh, again, fresh.path, cache, Log()).run(state)
    assert torch.equal(resumed.head.weight, trained.head.weight)
    for own, read in zip(plan.backbone.blocks, fresh.backbone.blocks, strict=True):
        for name, value in own.module.state_dict().items():
            assert torch.equal(read.module.state_dict()[name], value), (own.name, name)


def test_a_checkpoint_of_another_strategy_is_refused(prepared, cache, tmp_path):
    plan, images = prepared(LAST_TWO, HEAD_ONLY)
    run(plan, images, cache, checkpoints=Checkpoints(tmp_path / "c"))
    state, _ = Checkpoints(tmp_path / "c").load()
    fewer, images = prepared(LAST_TWO)
    with pytest.raises(ModelError, match="in phase 2, and mine has 1") as told:
        Phases(fewer, images, fewer.path, cache, Log()).run(state)
    assert "--out" in told.value.hint
    wrong = State(state.position, state.tensors | {"earlier.0.nothing": torch.zeros(1)})
    plan, images = prepared(LAST_TWO, HEAD_ONLY)
    with pytest.raises(ModelError, match="does not fit the network"):
        Phases(plan, images, plan.path, cache, Log()).run(wrong)


def test_a_resumed_plan_has_the_views_and_the_boundary_it_began_with(
    prepared, cache, tmp_path, monkeypatch
):
    plan, images = prepared(LAST)
    run(plan, images, cache, checkpoints=Checkpoints(tmp_path / "c"))
    state, _ = Checkpoints(tmp_path / "c").load()
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "0")
    other, _ = prepared(LAST)
    assert other.sizes != plan.sizes
    begun = as_begun(other, state)
    assert begun.sizes == plan.sizes
    assert begun.strategy == plan.strategy


def test_a_document_is_plain_json_with_the_seconds_of_the_run(prepared):
    plan, _ = prepared(HEAD, LAST)
    document = describe(
        plan,
        1,
        position={"epoch": 3},
        records=[{"phase": 1}],
        path=plan.path,
        timings={"total_s": 2.5, "train_s": 1.5},
    )
    assert json.loads(json.dumps(document)) == document
    assert document["timings"] == {"total_s": 2.5, "train_s": 1.5}
    assert document["views"] == [None, plan.strategy.phases[1].fit.views]
    assert phase_of(plan, State(document, {})) == 1


def test_only_what_was_trained_before_is_saved_beside_a_phase(prepared):
    plan, _ = prepared(HEAD, LAST, LAST_TWO)
    model = Model(plan.backbone, torch.nn.Linear(plan.backbone.feature_dim, 2))
    blocks = len(plan.backbone.blocks)
    # Phase 2 begins where phase 1 did: a later phase, which trains more, has not begun.
    assert earlier_tensors(plan, model, 1, plan.sizes[1].prefix) == {}
    found = earlier_tensors(plan, model, 2, blocks)
    first = min(int(name.split(".")[1]) for name in found)
    assert first == plan.sizes[2].prefix
    mine = {"model.head.weight": torch.zeros(1)}
    assert tensors_of_phase(State({}, found | mine)) == mine
