"""The guard of a fit: each mistake is planted, and either refused or told in report.json."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import headstart
from headstart.cache import Cache
from headstart.errors import DataError, ModelError, UsageError
from headstart.feeding import stream_of
from headstart.files import write_json
from headstart.log import Log
from headstart.phase_guard import guard, guard_training, normalisation_of_own_weights
from headstart.phases import Phases
from headstart.strategy.phase import Phase, Rate, Train
from headstart.strategy.strategy import Strategy
from headstart.training.engine import Engine
from headstart.training.examples import Examples
from headstart.training.model import Model
from planned import HEAD, LAST

ALL = replace(LAST, rates=(Rate("head", 1e-3), Rate("stage:0..-1", 1e-4)))
HIGH = replace(LAST, rates=(Rate("head", 1e-3), Rate("stage:0..-1", 0.1)))


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def set_up(prepared, cache):
    """Make a plan of one phase, its images and an engine that is ready to run it."""

    def make(phase: Phase = ALL, **options):
        plan, images = prepared(phase, **options)
        head = plan.task.head(plan.backbone.feature_dim)
        stream = stream_of(plan, images, plan.strategy.phases[0], 0, cache, plan.path)
        examples = Examples(
            stream, images.labels, images.names, images.parts["train"], images.parts["val"], 1
        )
        model = Model(plan.backbone, head)
        engine = Engine(model, plan.task, plan.strategy.phases[0], examples, plan.path)
        return plan, images, engine

    return make


def kinds(found) -> list[tuple[str, str]]:
    return [(finding.kind, finding.severity) for finding in found]


# A phase of any kind


def test_a_clean_phase_gives_no_finding(set_up):
    plan, images, engine = set_up()
    mode = [module.training for module in engine.model.modules()]
    assert guard(plan, images, engine.model, 0) == ()
    assert guard_training(plan, engine) == ()
    assert [module.training for module in engine.model.modules()] == mode


def test_weights_that_are_not_finite_are_refused(set_up):
    plan, images, engine = set_up()
    with torch.no_grad():
        next(engine.model.head.parameters())[0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"Phase 2 would start .* not finite: head\.weight"):
        guard(plan, images, engine.model, 1)


def test_labels_beyond_the_head_are_refused(set_up):
    plan, images, engine = set_up()
    images.labels[images.parts["val"][0]] = 2
    with pytest.raises(DataError, match="labels of train and val go from 0 to 2"):
        guard(plan, images, engine.model, 0)
    images.labels[images.parts["val"][0]] = 0
    images.labels[images.parts["test"][0]] = 2  # is learnt from by nobody
    assert guard(plan, images, engine.model, 0) == ()


# A phase that trains


def test_an_optimizer_of_other_parameters_is_refused(set_up):
    plan, _, engine = set_up()
    other = nn.Linear(3, 2)
    engine.optimizer = torch.optim.AdamW(other.parameters())
    with pytest.raises(ModelError, match=r"Phase 1 can't train: .* made for other parameters"):
        guard_training(plan, engine)


def test_frozen_parameters_in_the_optimizer_and_drifting_norms_are_told(set_up):
    plan, _, engine = set_up(replace(ALL, fit=Train(epochs=1, batch_norm="train")))
    engine.model.blocks[0].requires_grad_(requires_grad=False)
    found = guard_training(plan, engine)
    assert kinds(found) == [("frozen-in-optimizer", "warning"), ("batch-norm-drift", "warning")]


def test_a_high_rate_is_told_for_pre_trained_weights_and_not_for_random_ones(set_up):
    plan, _, engine = set_up(HIGH)
    [found] = guard_training(plan, engine)
    assert (found.kind, found.severity) == ("rate", "warning")
    assert "AdamW has a rate of 0.1" in found.message
    random = replace(plan, strategy=replace(plan.strategy, weights="random"))
    assert guard_training(random, engine) == ()


def test_a_range_test_decides_on_the_rate_where_there_is_one(set_up):
    plan, _, engine = set_up()
    [found] = guard_training(plan, engine, highest_good_rate=1e-5)
    assert "range test" in found.message


def test_class_weights_that_are_not_finite_are_refused(set_up):
    plan, _, engine = set_up()
    with pytest.raises(DataError, match="weight of each class must be finite"):
        guard_training(plan, engine, torch.tensor([1.0, float("inf")]))


# Transforms of the user's


def scaled(image):
    return (image / 255).to(torch.uint8)


def normalised(image):
    return ((image / 255 - 0.5) / 0.25).to(torch.int16).to(torch.uint8)


def grey(image):
    return torch.full_like(image, 128)


def mirrored(image):
    return image.flip(-1)


def halved(image):
    return image / 2


def test_a_transform_that_keeps_pixels_gives_no_finding(set_up):
    plan, _, engine = set_up(augment=mirrored)
    assert guard_training(plan, engine) == ()


def test_transforms_that_destroy_the_images_are_refused_before_a_step_is_taken(set_up):
    plan, _, engine = set_up(augment=scaled)
    with pytest.raises(UsageError, match="turns pixels of 0 to 255 into 0 and 1") as error:
        guard_training(plan, engine)
    assert error.value.field == "augment"
    plan, _, engine = set_up(augment=halved)
    with pytest.raises(UsageError, match="must turn a uint8 tensor"):
        guard_training(plan, engine)


def test_a_transform_that_leaves_few_values_is_told(set_up):
    plan, _, engine = set_up(augment=normalised)
    [found] = guard_training(plan, engine)
    assert (found.kind, found.severity) == ("transform", "warning")
    assert "different values of" in found.message
    assert len(found.files) == 4


def test_a_transform_that_leaves_one_colour_is_told(set_up):
    plan, _, engine = set_up(augment=grey)
    [found] = guard_training(plan, engine)
    assert "one colour of 4 of the first 4 images" in found.message


# Own weights


def test_mean_and_std_of_own_weights_are_compared_with_what_lies_beside_them(
    plan, few_photos, small, tmp_path
):
    folder = tmp_path / "weights"
    folder.mkdir()
    weights = folder / "model.safetensors"
    weights.write_bytes(small["weights"].read_bytes())
    given = {"weights": weights, "size": 32, "mean": (0.5,), "std": (0.5,)}
    assert list(normalisation_of_own_weights(plan(few_photos, **given))) == []
    config = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32]}
    write_json(folder / "config.json", {"architecture": "test_resnet", "pretrained_cfg": config})
    assert list(normalisation_of_own_weights(plan(few_photos, **given))) == []
    other = given | {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    [found] = normalisation_of_own_weights(plan(few_photos, **other))
    assert "config.json beside the weights says mean [0.5, 0.5, 0.5]" in found.message


@pytest.mark.parametrize(
    ("mean", "std", "told"),
    [
        ((123.7, 116.3, 103.5), (0.229, 0.224, 0.225), True),
        ((0.485, 0.456, 0.406), (58.4, 57.1, 57.4), True),
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), False),
        ((103.9, 116.8, 123.7), (1, 1, 1), False),
        ((0, 0, 0), (255, 255, 255), False),
    ],
)
def test_units_that_are_mixed_up_are_told(plan, few_photos, mean, std, told):
    found = list(normalisation_of_own_weights(plan(few_photos, size=32, mean=mean, std=std)))
    assert kinds(found) == [("normalisation", "warning")] * told


def test_the_folder_of_an_earlier_run_says_it_too(tiny_run, plan, few_photos):
    given = {"backbone": "", "weights": tiny_run, "size": 32}
    assert list(normalisation_of_own_weights(plan(few_photos, **given))) == []
    other = given | {"mean": (0.3,), "std": (0.1,)}
    [found] = normalisation_of_own_weights(plan(few_photos, **other))
    assert "headstart.json beside the weights" in found.message


# In a fit


def test_what_is_found_is_in_the_record_and_the_log(prepared, cache):
    events = []
    plan, images = prepared(HEAD, HIGH, mean=(123.7,), std=(0.2,))
    trained = Phases(plan, images, plan.path, cache, Log(events.append)).run()
    told = [[one["kind"] for one in record.get("findings", ())] for record in trained.records]
    assert told == [["normalisation"], ["rate"]]
    said = [(event["phase"], event["kind"]) for event in events if event["event"] == "finding"]
    assert said == [(1, "normalisation"), (2, "rate")]


def test_a_fit_with_a_high_rate_says_so_in_its_report(few_photos, small, tmp_path):
    strategy = Strategy("mine", (replace(HIGH, fit=Train(epochs=1, batch_size=8)),))
    options = small | {"size": 32, "strategy": strategy}
    fitted = headstart.fit(few_photos, tmp_path / "run", **options)
    [found] = [one for one in fitted.report.findings if one["kind"] == "rate"]
    assert found["severity"] == "warning"
    assert found["message"].startswith("Phase 1: AdamW has a rate of 0.1")
    assert found["hint"]
