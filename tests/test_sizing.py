"""What a strategy comes to on a network: parameters, frozen blocks, views."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, replace

import pytest
import torch

from headstart.adjust import chosen_strategy
from headstart.errors import UsageError
from headstart.options import Options
from headstart.plan import Plan
from headstart.sizing import MOST_VIEWS, epochs_before, size_up
from headstart.strategy.phase import Phase, Rate, Train
from headstart.strategy.strategy import Strategy
from headstart.training.boundary import boundary_shape
from headstart.training.model import Model


def test_only_the_head_is_trained(plan, photos):
    made = plan(photos)
    (size,) = made.sizes
    assert size.trainable == (made.backbone.feature_dim + 1) * 3
    network = sum(parameter.numel() for parameter in made.backbone.network.parameters())
    assert size.total == network + size.trainable


def fits(made: Plan) -> list[Train]:
    return [phase.fit for phase in made.strategy.phases if isinstance(phase.fit, Train)]


def test_each_phase_has_what_it_trains_and_what_stays_frozen_before_it(plan, photos):
    made = plan(photos, strategy="gradual")
    network, blocks = made.backbone.network, len(made.backbone.blocks)
    head = (made.backbone.feature_dim + 1) * 3
    last = sum(parameter.numel() for parameter in network.layer4.parameters()) + head
    total = sum(parameter.numel() for parameter in network.parameters()) + head
    assert [asdict(size) for size in made.sizes] == [
        {"trainable": head, "total": total, "prefix": blocks, "remembered": True},
        {"trainable": last, "total": total, "prefix": blocks - 2, "remembered": True},
        {"trainable": total, "total": total, "prefix": 0, "remembered": False},
    ]
    assert made.remarks == ()


def test_a_deep_head_counts_with_its_hidden_layer(plan, photos):
    made = plan(photos, head="mlp:16")
    assert made.sizes[0].trainable == made.backbone.feature_dim * 16 + 16 + 16 * 3 + 3
    assert made.spec["head"] == "mlp:16"


def test_all_problems_of_all_phases_are_told(plan, photos):
    rates = (Rate("layer9", 0.1), Rate("head", 0.1), Rate("stage:0..-1", None))
    mine = Strategy("mine", (Phase(rates, Train(epochs=1)), Phase(rates[1:2], Train(epochs=0))))
    with pytest.raises(UsageError, match=r"phase 1: the pattern 'layer9'.*phase 2: epochs must be"):
        plan(photos, strategy=mine)


def room_for(made: Plan, prefix: int, views: int) -> str:
    """Return the size of a cache of which half holds so many views, the plain image among them."""
    values = math.prod(boundary_shape(made.backbone, prefix, made.path))
    return str(2 * len(made.split.train) * values * 4 * views)


@pytest.mark.parametrize(
    ("options", "room", "views"),
    [
        ({}, 100, MOST_VIEWS),
        ({"epochs": 30}, 100, MOST_VIEWS),
        ({"epochs": 4}, 100, 4),
        ({}, 4, 3),
        ({}, 2, 1),
        ({"epochs": 1}, 100, 1),
        ({"views": 2}, 100, 2),
        ({"views": 20}, 100, 20),
        ({"views": 0}, 100, 0),
        ({"augment": "none"}, 100, 0),
    ],
)
def test_views_are_as_asked_or_as_many_as_fit_and_are_of_use(
    plan, photos, monkeypatch, options, room, views
):
    first = plan(photos, strategy="last-blocks:2")
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", room_for(first, 3, room))
    made = plan(photos, strategy="last-blocks:2", **options)
    assert made.sizes[1].remembered
    assert [train.views for train in fits(made)] == [views]
    # The spec holds what was asked for: a cache of another size is no other run.
    asked = options.get("views")
    assert made.asked.phases[1].fit.views == asked
    assert made.spec["strategy"]["phases"][1]["train"]["views"] == asked


def test_a_plain_image_needs_less_room_than_a_view_of_it(plan, photos, monkeypatch):
    first = plan(photos, strategy="last-blocks:2")
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", room_for(first, 3, 1))
    assert not plan(photos, strategy="last-blocks:2").sizes[1].remembered
    assert plan(photos, strategy="last-blocks:2", augment="none").sizes[1].remembered


def test_half_precision_takes_half_the_room(plan, photos, monkeypatch):
    first = plan(photos, strategy="last-blocks:2")
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", room_for(first, 3, 2))
    assert [t.views for t in fits(plan(photos, strategy="last-blocks:2"))] == [1]
    assert [t.views for t in fits(plan(photos, strategy="last-blocks:2", precision="bf16"))] == [3]


def test_without_a_frozen_prefix_every_epoch_has_a_view_of_its_own(plan, photos):
    (train,) = fits(plan(photos, strategy="fine-tune", epochs=30))
    assert train.views == 30
    (train,) = fits(plan(photos, strategy="fine-tune", epochs=30, views=4))
    assert train.views == 4


def test_a_later_phase_goes_on_with_views_that_no_earlier_one_saw(plan, photos):
    made = plan(photos, strategy="gradual:epochs=5/2/3", augment="light")
    assert [train.views for train in fits(made)] == [5, 7, 10]
    plain = plan(photos, strategy="gradual:epochs=5/2/3")
    assert [train.views for train in fits(plain)] == [0, 2, 5]


def test_more_views_than_there_is_room_for_are_not_remembered(plan, photos, monkeypatch):
    first = plan(photos, strategy="last-blocks:2")
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", room_for(first, 3, 4))
    assert plan(photos, strategy="last-blocks:2", views=3).sizes[1].remembered
    made = plan(photos, strategy="last-blocks:2", views=4)
    assert not made.sizes[1].remembered
    assert [train.views for train in fits(made)] == [4]


def transform(image):
    return image


@pytest.mark.parametrize(
    ("options", "size", "reason"),
    [
        ({"train": {"mixup": 0.2}}, None, "mixup and cutmix mix the images before them"),
        ({"train": {"cutmix": 1.0}}, None, "mixup and cutmix mix the images before them"),
        ({"augment": transform}, None, "a transform given from Python has no name"),
        ({}, "0", r"the cache has no room .* \(HEADSTART_CACHE_SIZE\)"),
    ],
)
def test_what_cannot_be_remembered_is_told(plan, photos, monkeypatch, options, size, reason):
    if size is not None:
        monkeypatch.setenv("HEADSTART_CACHE_SIZE", size)
    made = plan(photos, strategy="last-blocks:2", epochs=4, **options)
    (remark,) = made.remarks
    assert remark.startswith("Phase 2 computes its frozen blocks in every step: ")
    assert re.search(reason, remark)
    assert remark in made.notes
    assert f"note      {remark}" in made.lines()
    assert (made.sizes[1].prefix, made.sizes[1].remembered) == (3, False)
    assert [train.views for train in fits(made)] == [4]  # a fresh one for each epoch
    assert "remembered" not in made.lines()[6]


def test_weights_that_a_strategy_does_not_start_from_are_told(plan, photos):
    made = plan(photos, strategy="scratch")
    assert any("starts from random weights" in note and "tiny" in note for note in made.notes)
    assert not any("random weights" in note for note in plan(photos).notes)


def test_correcting_an_imbalance_twice_is_told(plan, photos):
    balanced = {"strategy": "fine-tune", "train": {"sampling": "balanced"}}
    assert not plan(photos, **balanced).remarks
    (remark,) = plan(photos, class_weights="balanced", **balanced).remarks
    assert "correct the imbalance twice" in remark


@pytest.mark.parametrize(
    "options",
    [
        {"strategy": "feature-extraction", "average": "square"},
        {"strategy": "fine-tune", "symmetry": "square"},
    ],
)
def test_the_symmetries_of_the_square_need_a_square(prepared, options):
    asked = Options(**options)
    strategy = chosen_strategy(asked, 5)
    made, _ = prepared(*strategy.phases)
    wide = replace(made.backbone.input_spec, width=64, height=32)
    backbone = replace(made.backbone, input_spec=wide)
    model = Model(backbone, torch.nn.Linear(backbone.feature_dim, 2))
    given = {"n_train": 20, "budget": 0}
    with pytest.raises(UsageError, match="this network's is 32 x 64") as raised:
        size_up(model, strategy, asked, made.path, **given)
    assert "--size" in raised.value.hint


def test_only_phases_that_augment_use_up_views():
    plain = Phase((Rate("head", 1e-3),), Train(epochs=3))
    strategy = Strategy("mine", (plain, replace(plain, augment="light"), plain))
    assert [epochs_before(strategy, number) for number in range(4)] == [0, 0, 3, 3]
