"""The plan: everything decided, nothing computed."""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from headstart.cache import Cache
from headstart.errors import DataError, UnknownName, UsageError
from headstart.options import Options
from headstart.plan import MOST_VIEWS, Plan, make_plan
from headstart.strategy import presets
from headstart.strategy.phase import Phase, Rate, Train
from headstart.strategy.strategy import Strategy
from headstart.training.boundary import boundary_shape
from pictures import picture, write_photos


@pytest.fixture
def plan(small, tmp_path, monkeypatch):
    """Make the plan of a folder and options; computing anything is an error."""

    def never(*_, **__):
        raise AssertionError("computed")

    for name in ("load", "Forward"):
        monkeypatch.setattr(f"headstart.training.features.{name}", never)

    def made(data, **options) -> Plan:
        return make_plan(data, Options(**small | options), cache=Cache(tmp_path / "cache"))

    return made


def test_the_same_images_give_the_same_spec_wherever_they_lie(plan, photos, tmp_path):
    moved = shutil.copytree(photos, tmp_path / "photos")
    assert plan(photos).spec == plan(moved).spec == plan(str(photos)).spec


def test_a_spec_survives_json(plan, photos):
    spec = plan(photos, limit=12, split=(0.5, 0.25, 0.25)).spec
    assert json.loads(json.dumps(spec)) == spec


def test_a_changed_image_or_label_or_name_is_another_run(plan, photos, tmp_path):
    data = Path(shutil.copytree(photos, tmp_path / "photos"))
    specs = [plan(data).spec]
    picture(0, 500).save(data / "cat" / "0.jpg", quality=92)
    specs.append(plan(data).spec)
    (data / "cat" / "0.jpg").rename(data / "cat" / "zero.jpg")
    specs.append(plan(data).spec)
    (data / "cat" / "1.jpg").rename(data / "dog" / "1b.jpg")
    specs.append(plan(data).spec)
    digests = [spec["data"]["digest"] for spec in specs]
    assert len(set(digests)) == 4
    assert len({spec["split"]["digest"] for spec in specs}) == 4


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ({"seed": 1}, {"split", "seed"}),
        ({"class_weights": "balanced"}, {"class_weights"}),
        ({"size": 96}, {"backbone"}),
        ({"resize": "squash"}, {"backbone"}),
        ({"mean": (0.1, 0.1, 0.1), "std": (1.0, 1.0, 1.0)}, {"backbone"}),
        ({"limit": 10}, {"split", "refit"}),
        ({"refit": False}, {"refit"}),
        ({"precision": "bf16"}, {"path"}),
        ({"batch_size": 8}, {"path"}),
        ({"head": "linear,dropout=0.5"}, {"head", "strategy", "refit"}),
        ({"average": "flip"}, {"average"}),
        ({"strategy": "last-blocks:2"}, {"strategy", "refit"}),
        ({"epochs": 3}, {"strategy", "refit"}),
        ({"split_seed": 1}, {"split"}),
        ({"seed": 1, "split_seed": 0}, {"seed"}),
        ({"max_bad": 0.5, "minimum": {"accuracy": 0.5}, "allow_noncommercial": True}, set()),
    ],
)
def test_the_spec_holds_all_that_changes_the_result(plan, photos, options, changed):
    plain, other = plan(photos).spec, plan(photos, **options).spec
    # Whether a head is solved again is told only where one is solved last.
    assert {key for key in plain | other if plain.get(key) != other.get(key)} == changed


def test_only_the_head_is_trained(plan, photos):
    made = plan(photos)
    (size,) = made.sizes
    assert size.trainable == (made.backbone.feature_dim + 1) * 3
    network = sum(parameter.numel() for parameter in made.backbone.network.parameters())
    assert size.total == network + size.trainable


def test_the_lines_say_what_will_be_done(plan, photos):
    text = "\n".join(plan(photos, limit=10).lines())
    for part in (
        "photos: 72 images in 3 classes (cat 24, dog 24, owl 24)",
        "train 10, val 11, test 11",
        "stratified, seed 0; train thinned to 10",
        "timm:test_resnet, 0.4 million parameters",
        "licence not stated",
        "64 x 64, crop, bilinear",
        "cross-validation on train chooses of 8 penalties from 30000 to 10",
        "assumed the zoo's own",
    ):
        assert part in text


def test_the_lines_say_that_val_chooses_where_it_does(plan, tmp_path):
    data = write_photos(tmp_path / "data", each=60, side=16)
    text = "\n".join(plan(data, split=(0.4, 0.5, 0.1)).lines())
    assert "; val chooses of 8 penalties" in text


def test_many_classes_are_shown_in_part(plan, tmp_path):
    data = write_photos(tmp_path / "data", classes=[f"kind{n}" for n in range(9)], each=3, side=16)
    assert "kind5 3 and 3 more)" in plan(data).lines()[0]


def test_findings_and_notes_are_in_the_lines_and_in_the_document(plan, tmp_path):
    data = write_photos(tmp_path / "data", each=12, side=16)
    (data / "empty").mkdir()
    shutil.copy(data / "cat" / "0.jpg", data / "cat" / "copy.jpg")
    made = plan(data)
    document = made.to_dict()
    assert "duplicate" in {finding["kind"] for finding in document["findings"]}
    assert any("empty" in note for note in document["notes"])
    text = "\n".join(made.lines())
    for message in (*(f["message"] for f in document["findings"]), *document["notes"]):
        assert message in text
    assert document["phases"] == [asdict(size) for size in made.sizes]
    json.dumps(document, allow_nan=False)


def test_many_findings_of_a_kind_are_told_in_part(plan, tmp_path):
    data = write_photos(tmp_path / "data", each=12, side=16)
    for number in range(5):
        shutil.copy(data / "cat" / f"{number}.jpg", data / "cat" / f"{number}-copy.jpg")
    lines = plan(data).lines()[-4:]
    assert lines[0] == "note      2 files hold the same image. (cat/0-copy.jpg, cat/0.jpg)"
    assert lines[-1] == "note      … and 2 more findings of the kind duplicate"


def test_nothing_to_test_on_is_refused(plan, tmp_path):
    data = write_photos(tmp_path / "data", each=1, side=16)
    with pytest.raises(DataError, match="too few images"):
        plan(data)


def test_a_class_without_a_readable_training_image_is_refused(plan, tmp_path):
    data = write_photos(tmp_path / "data", classes=("cat", "dog", "owl"), each=10, side=16)
    for file in (data / "owl").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="no readable training image: owl") as raised:
        plan(data, max_bad=0.5)
    assert raised.value.hint


def test_what_is_wrong_in_the_options_is_told_before_the_images_are_read(plan, photos, monkeypatch):
    def never(*_, **__):
        raise AssertionError("listed")

    monkeypatch.setattr("headstart.plan.open_dataset", never)
    with pytest.raises(UnknownName, match="strategy"):
        plan(photos, strategy="magic")
    with pytest.raises(UnknownName, match="device"):
        plan(photos, device="toaster")
    with pytest.raises(UsageError, match="batch-size"):
        plan(photos, batch_size=0)


def test_a_plan_is_data(plan, photos):
    made = plan(photos)
    assert replace(made, data="elsewhere").spec == made.spec
    assert made.labels(made.split.test) == [
        made.checked.items[index].label for index in made.split.test
    ]
    assert made.counts() == {"n_train": 50, "n_val": 11, "n_test": 11}


def test_progress_counts_the_images(photos, small, tmp_path):
    steps = []
    make_plan(
        photos,
        Options(**small),
        cache=Cache(tmp_path / "cache"),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(number, 72) for number in range(1, 73)]


# Phases


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


@pytest.mark.parametrize(
    ("options", "trains", "solves"),
    [
        ({}, False, True),
        ({"epochs": 2}, True, False),
        ({"strategy": "last-blocks:1"}, True, True),
        ({"strategy": "fine-tune"}, True, False),
    ],
)
def test_a_plan_knows_whether_it_trains_or_solves(plan, photos, options, trains, solves):
    made = plan(photos, **options)
    assert (made.trains, made.solves) == (trains, solves)


def test_a_deep_head_counts_with_its_hidden_layer(plan, photos):
    made = plan(photos, head="mlp:16")
    assert made.sizes[0].trainable == made.backbone.feature_dim * 16 + 16 + 16 * 3 + 3
    assert made.spec["head"] == "mlp:16"


def test_all_problems_of_all_phases_are_told(plan, photos):
    rates = (Rate("layer9", 0.1), Rate("head", 0.1), Rate("stage:0..-1", None))
    mine = Strategy("mine", (Phase(rates, Train(epochs=1)), Phase(rates[1:2], Train(epochs=0))))
    with pytest.raises(UsageError, match=r"phase 1: the pattern 'layer9'.*phase 2: epochs must be"):
        plan(photos, strategy=mine)


def test_the_lines_say_what_each_phase_does(plan, photos):
    made = plan(photos, strategy="last-blocks:2", epochs=4)
    solved, trained = [line for line in made.lines() if line.startswith("  phase")]
    shown = [f"{size.trainable:,} of {size.total:,} parameters" for size in made.sizes]
    assert solved.startswith(f"  phase 1 solve the head: {shown[0]}; ")
    assert trained == (
        f"  phase 2 train {shown[1]} behind 3 remembered blocks: 4 epochs of 50 images, adamw "
        "0.001, one-cycle, augment light"
    )
    text = "\n".join(plan(photos, strategy="fine-tune").lines())
    assert "adamw 0.0001..0.001, one-cycle" in text
    assert "remembered" not in text


# Views


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


# What a strategy brings along


def test_a_strategy_from_scratch_starts_from_random_weights_of_its_seed(plan, photos):
    pretrained = plan(photos, strategy="fine-tune")
    made = [plan(photos, strategy="scratch", seed=seed) for seed in (5, 5, 6)]
    digests = [m.weights_digest for m in made]
    assert digests[0] == digests[1] != digests[2]
    assert pretrained.weights_digest not in digests
    assert [m.backbone.weights for m in made] == [f"random, seed {seed}" for seed in (5, 5, 6)]
    assert made[0].backbone.full_name.startswith("timm:test_resnet")
    assert made[0].backbone.input_spec.height == 64


def test_weights_that_a_strategy_does_not_start_from_are_told(plan, photos):
    made = plan(photos, strategy="scratch")
    assert any("starts from random weights" in note and "tiny" in note for note in made.notes)
    assert not any("random weights" in note for note in plan(photos).notes)


def test_the_backbone_of_the_strategy_is_used_and_told(plan, photos):
    made = plan(photos, strategy="scratch:small-cnn")
    assert any("timm:test_resnet is not used" in note for note in made.notes)
    assert made.backbone.full_name == "bundled:small_cnn"
    assert made.spec["backbone"]["name"] == "bundled:small_cnn"
    assert made.sizes[0].trainable == made.sizes[0].total


def test_strategies_that_rate_each_stage_are_given_the_networks(plan, photos):
    assert len(plan(photos, strategy="gradual:blockwise").sizes) == 6
    listed = plan(photos, strategy="discriminative:1e-6/1e-5/1e-5/1e-4/1e-4/1e-3").strategy
    assert [rate.rate for rate in listed.phases[1].rates] == [1e-3, 1e-6, 1e-5, 1e-5, 1e-4, 1e-4]
    with pytest.raises(UsageError, match="network's 5 stages"):
        plan(photos, strategy="discriminative:1e-5/1e-4/1e-3")


def test_a_strategy_can_be_a_file(plan, photos, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(presets.create("last-blocks:1").to_toml(), encoding="utf-8")
    assert plan(photos, strategy=str(path)).spec == plan(photos, strategy="last-blocks:1").spec


def test_the_plan_of_any_strategy_survives_json(plan, photos):
    made = plan(photos, strategy="gradual", head="mlp:8,dropout=0.5", average="flip")
    document = made.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert Strategy.from_dict(document["plan"]["strategy"]) == made.asked
    assert document["plan"]["head"] == "mlp:8,dropout=0.5/0.5"
    assert document["plan"]["average"] == "flip"


def test_a_head_is_solved_again_on_val_where_the_training_images_are_not_limited(plan, photos):
    assert plan(photos).spec["refit"]
    for options in ({"refit": False}, {"limit": 20}, {"limit_per_class": 5}):
        assert not plan(photos, **options).spec["refit"]
    assert "refit" not in plan(photos, strategy="last-blocks:1").spec
