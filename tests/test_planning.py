"""How a plan is made: what is read, what is refused, what is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headstart.cache import Cache
from headstart.errors import DataError, UnknownName, UsageError
from headstart.options import Options
from headstart.planning import make_plan, replanned
from headstart.strategy import names, presets
from pictures import write_photos


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

    monkeypatch.setattr("headstart.planning.open_dataset", never)
    with pytest.raises(UnknownName, match="strategy"):
        plan(photos, strategy="magic")
    with pytest.raises(UnknownName, match="device"):
        plan(photos, device="toaster")
    with pytest.raises(UsageError, match="batch-size"):
        plan(photos, batch_size=0)


def test_progress_counts_the_images(photos, small, tmp_path):
    steps = []
    make_plan(
        photos,
        Options(**small),
        cache=Cache(tmp_path / "cache"),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps == [(number, 72) for number in range(1, 73)]


def test_a_strategy_from_scratch_starts_from_random_weights_of_its_seed(plan, photos):
    pretrained = plan(photos, strategy="fine-tune")
    made = [plan(photos, strategy="scratch", seed=seed) for seed in (5, 5, 6)]
    digests = [m.weights_digest for m in made]
    assert digests[0] == digests[1] != digests[2]
    assert pretrained.weights_digest not in digests
    assert [m.backbone.weights for m in made] == [f"random, seed {seed}" for seed in (5, 5, 6)]
    assert made[0].backbone.full_name.startswith("timm:test_resnet")
    assert made[0].backbone.input_spec.height == 64


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


@pytest.mark.parametrize(
    ("limit", "strategy"),
    [
        (9, presets.feature_extraction(epochs=25)),
        (10, presets.gradual()),
        (20, presets.gradual()),
        (21, presets.fine_tune(epochs=40)),
    ],
)
def test_a_table_is_given_the_images_that_train(plan, photos, limit, strategy):
    made = plan(photos, strategy="table:10-20", limit=limit)
    assert len(made.split.train) == limit < len(made.checked.items)
    assert made.asked == replace(strategy, name="table:10-20")
    assert made.spec["strategy"]["name"] == "table:10-20"


def test_a_strategy_can_be_a_file(plan, photos, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(names.create("last-blocks:1").to_toml(), encoding="utf-8")
    assert plan(photos, strategy=str(path)).spec == plan(photos, strategy="last-blocks:1").spec


def test_other_options_of_the_same_images_read_no_file_again(plan, photos, tmp_path, monkeypatch):
    made = plan(photos)
    monkeypatch.setattr("headstart.planning.open_dataset", None)
    monkeypatch.setattr("headstart.planning.check", None)
    options = replace(made.options, strategy="fine-tune", size=32)
    again = replanned(made, options, cache=Cache(tmp_path / "cache"))
    assert again.backbone.input_spec.height == 32
    assert again.asked.name == "fine-tune"
    assert (again.split, again.task, again.path) == (made.split, made.task, made.path)


def test_what_auto_could_not_use_is_told_before_the_images_are_read(plan, photos, monkeypatch):
    monkeypatch.setattr("headstart.planning.open_dataset", None)
    with pytest.raises(UnknownName, match="setting of training"):
        plan(photos, strategy="auto", train={"optimiser": "sgd"})
