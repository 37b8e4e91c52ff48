"""The phases of a plan in a row: what each gets from those before, what is saved, what is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from headstart.cache import Cache
from headstart.errors import ModelError
from headstart.log import Log
from headstart.options import Options
from headstart.phases import Images, Phases, as_begun, machine, training_path
from headstart.plan import make_plan
from headstart.strategy.phase import Phase, Rate, Solve, Train
from headstart.strategy.strategy import Strategy
from headstart.training.boundary import decode_all
from headstart.training.checkpoint import Checkpoints, State
from headstart.training.device import Forward, InferencePath
from headstart.training.solve import solve
from networks import untrained
from pictures import write_photos

HEAD = Phase((Rate("head", 1e-3), Rate("stage:0..-1", None)), Solve((100.0, 1.0)))
LAST = Phase(
    (Rate("head", 1e-3), Rate("stage:-1", 1e-3), Rate("stage:0..-1", None)),
    Train(epochs=1, batch_size=8),
    "light",
)
LAST_TWO = replace(
    LAST, rates=(Rate("head", 1e-3), Rate("stage:-2..-1", 1e-3), Rate("stage:0..-1", None))
)
HEAD_ONLY = replace(LAST, rates=HEAD.rates)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("data") / "photos", each=14, side=40)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def prepared(data, small, cache):
    """Make a plan of these phases and the images it needs."""

    def prepare(*phases: Phase, **options):
        asked = small | {"size": 32, "strategy": Strategy("mine", phases)} | options
        plan = make_plan(data, Options(**asked), cache=cache)
        items = plan.checked.items
        pixels = decode_all(
            plan.backbone.input_spec,
            [item.path for item in items],
            plan.checked.digests,
            cache,
        ).rows
        return plan, Images.of(plan, plan.split, np.arange(len(items)), pixels)

    return prepare


def run(plan, images, cache, **options):
    return Phases(plan, images, plan.path, cache, Log(), **options).run()


def test_images_know_their_parts(prepared):
    plan, images = prepared(HEAD)
    assert images.names == tuple(item.name for item in plan.checked.items)
    every = np.concatenate([images.parts[part] for part in ("train", "val", "test")])
    assert sorted(every) == list(range(28))
    for part in ("train", "val", "test"):
        found = [images.names[position] for position in images.parts[part]]
        assert found == [plan.checked.items[i].name for i in getattr(plan.split, part)]
    for name, label in zip(images.names, images.labels, strict=True):
        assert plan.task.classes[label] == name.split("/")[0]


def test_of_images_in_another_order_parts_are_positions_among_them(prepared):
    plan, images = prepared(HEAD)
    turned = Images.of(plan, plan.split, images.indices[::-1], None)
    assert turned.names == images.names[::-1]
    for part, positions in turned.parts.items():
        assert [turned.names[p] for p in positions] == [images.names[p] for p in images.parts[part]]


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
    with pytest.raises(ModelError, match="of another strategy"):
        Phases(fewer, images, fewer.path, cache, Log()).run(state)
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


def test_depthwise_convolutions_train_in_fp32_on_a_processor_and_others_as_asked():
    mobile, resnet = untrained("test_efficientnet"), untrained("test_resnet")
    half = InferencePath("cpu", "bf16", "channels_last", 8)
    assert training_path(mobile, 0, half).precision == "fp32"
    assert training_path(mobile, len(mobile.blocks), half).precision == "bf16"
    assert training_path(resnet, 0, half) == half
    gpu = replace(half, device="cuda")
    assert training_path(mobile, 0, gpu) == gpu
    exact = half.in_fp32()
    assert training_path(mobile, 0, exact) == exact


def test_a_machine_is_named_by_what_changes_numbers():
    found = machine(InferencePath("cpu", "fp32", "channels_last", 8))
    assert {"processor", "layout", "torch", "torchvision", "numpy", "pillow"} <= set(found)
    other = machine(InferencePath("cpu", "fp32", "contiguous", 8))
    assert found["layout"] != other["layout"]
