"""The facts that probes measure on a sample."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headstart import probing
from headstart.cache import Cache
from headstart.data.loader import load
from headstart.errors import ModelError
from headstart.options import Options
from headstart.planning import make_plan
from headstart.probe_difference import compare
from headstart.probe_sample import take_sample
from headstart.probe_score import score
from headstart.training.device import Forward
from pictures import picture, write_photos

BOARDS = Path(__file__).resolve().parents[2] / "shared" / "datasets" / "deeppcb_cls"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return Cache(tmp_path_factory.mktemp("probing"))


@pytest.fixture
def planned(small, cache):
    """Plan a fit of the tiny network, and take a sample of its images."""

    def make(data, **options):
        asked = Options(**small | {"strategy": "feature-extraction"} | options)
        plan = make_plan(data, asked, cache=cache)
        return plan, take_sample(plan)

    return make


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A folder of 2 classes with 16 pictures each, twice as wide as high."""
    root = tmp_path_factory.mktemp("wide") / "photos"
    for label, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(16):
            drawn = picture(label, number, 80).crop((0, 0, 80, 40))
            drawn.save(root / name / f"{number}.png")
    return root


def features_by_hand(plan, sample, spec):
    batch, *rest = load(list(sample.paths), spec, len(sample))
    assert not rest
    path = replace(plan.path, batch_size=len(sample))
    return Forward(replace(plan.backbone, input_spec=spec), path)(batch.pixels)


def same(first, second):
    return np.allclose(first.loss, second.loss, atol=1e-3)


def test_a_probe_scores_the_networks_features(planned, photos, cache):
    plan, sample = planned(photos)
    found = probing.probe(plan, sample, plan.backbone, cache)
    features = features_by_hand(plan, sample, plan.backbone.input_spec)
    assert same(found, score(features, sample.labels, sample.groups))
    assert found.n == len(sample)
    assert found.accuracy > 0.9


def test_an_image_that_can_not_be_decoded_is_left_out(planned, tmp_path, cache):
    root = write_photos(tmp_path / "photos", each=30, side=32)
    whole = (root / "cat" / "0.jpg").read_bytes()
    for number in range(30):  # of each class some are in train, whatever the split
        if number % 3 == 0:
            (root / "cat" / f"{number}.jpg").write_bytes(whole[: len(whole) // 2] + bytes([number]))
    plan, sample = planned(root, max_bad=0.5)
    broken = [row for row, name in enumerate(sample.names) if _is_broken(name)]
    assert broken
    found = probing.probe(plan, sample, plan.backbone, cache)
    assert found.images.tolist() == [row for row in range(len(sample)) if row not in broken]
    kept = sample.take(found.images)
    assert same(found, probing.probe(plan, kept, plan.backbone, cache))


def _is_broken(name: str) -> bool:
    folder, number = name.removesuffix(".jpg").split("/")
    return folder == "cat" and int(number) % 3 == 0


def test_each_resize_rule_is_scored_the_own_first(planned, wide, cache):
    plan, sample = planned(wide, resize="pad")
    found = probing.resize_rules(plan, sample, cache)
    assert list(found.scores) == ["pad", "crop", "squash"]
    assert found.skipped == {}
    for rule, got in found.scores.items():
        spec = plan.backbone.input_spec.with_resize(rule)
        by_hand = score(features_by_hand(plan, sample, spec), sample.labels, sample.groups)
        assert same(got, by_hand)


def test_rules_that_give_the_same_pixels_are_scored_once(planned, photos, cache):
    plan, sample = planned(photos)  # square pictures
    found = probing.resize_rules(plan, sample, cache)
    assert list(found.scores) == ["crop", "squash"]
    assert found.skipped == {
        "pad": "gives the same pixels as squash: all images have the input's shape"
    }
    spec = plan.backbone.input_spec
    squash, pad = (
        next(load(list(sample.paths), spec.with_resize(rule), 100)).pixels
        for rule in ("squash", "pad")
    )
    assert (squash == pad).all()


def test_a_crop_that_cuts_nothing_is_the_same_too(planned, photos, cache):
    plan, sample = planned(photos, resize="squash")
    whole = replace(plan.backbone.input_spec, crop_fraction=1.0)
    plan = replace(plan, backbone=replace(plan.backbone, input_spec=whole))
    found = probing.resize_rules(plan, sample, cache)
    assert list(found.scores) == ["squash"]
    assert set(found.skipped) == {"crop", "pad"}
    squash, crop = (
        next(load(list(sample.paths), whole.with_resize(rule), 100)).pixels
        for rule in ("squash", "crop")
    )
    assert (squash == crop).all()


def test_the_shape_is_that_of_the_upright_picture(planned, tmp_path, cache):
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "x" / name).mkdir(parents=True)
        for number in range(12):
            exif = Image.Exif()
            exif[0x0112] = 6  # a quarter turn
            drawn = picture(label, number, 60).crop((0, 0, 60, 30))
            drawn.save(tmp_path / "x" / name / f"{number}.jpg", exif=exif)
    plan, sample = planned(tmp_path / "x", resize="squash")
    upright = replace(plan.backbone.input_spec, height=64, width=32)
    plan = replace(plan, backbone=replace(plan.backbone, input_spec=upright))
    assert list(probing.resize_rules(plan, sample, cache).skipped) == ["pad"]
    lying = replace(upright, height=32, width=64)
    plan = replace(plan, backbone=replace(plan.backbone, input_spec=lying))
    assert probing.resize_rules(plan, sample, cache).skipped == {}


def test_a_larger_input_is_scored_where_the_images_have_the_pixels(planned, tmp_path, cache):
    plan, sample = planned(write_photos(tmp_path / "x", each=12, side=100), resize="squash")
    found = probing.sizes(plan, sample, cache)
    assert list(found.scores) == ["64", "96"]
    assert found.skipped == {}
    spec = replace(plan.backbone.input_spec, height=96, width=96)
    by_hand = score(features_by_hand(plan, sample, spec), sample.labels, sample.groups)
    assert same(found.scores["96"], by_hand)
    assert not same(found.scores["64"], by_hand)


def test_a_larger_input_than_the_images_is_not_scored(planned, photos, cache):
    plan, sample = planned(photos)
    found = probing.sizes(plan, sample, cache)
    assert list(found.scores) == ["64"]
    assert found.skipped == {
        "96": "half of the images have 48 pixels or fewer along their shorter side"
    }


def test_a_network_that_takes_no_other_size_says_so(planned, tmp_path, cache, monkeypatch):
    def refuse(options):
        raise ModelError(f"it takes 64 pixels, not {options.size}")

    plan, sample = planned(write_photos(tmp_path / "x", each=12, side=100))
    monkeypatch.setattr(probing, "create_backbone", refuse)
    found = probing.sizes(plan, sample, cache)
    assert list(found.scores) == ["64"]
    assert found.skipped == {"96": "the network does not take it: it takes 64 pixels, not 96"}


@pytest.mark.parametrize(
    ("side", "factor", "larger"),
    [(224, 1.3, 288), (240, 1.3, 320), (64, 1.3, 96), (32, 1.3, 64), (224, 1.0, 256)],
)
def test_a_larger_size_is_a_multiple_of_32(planned, photos, side, factor, larger):
    spec = planned(photos)[0].backbone.input_spec
    assert probing.larger_size(replace(spec, height=side, width=side), factor) == larger


def test_random_weights_are_the_same_network_without_its_own(planned, photos, cache):
    plan, sample = planned(photos, resize="squash", seed=1)  # not that of the tiny network's own
    own = probing.probe(plan, sample, plan.backbone, cache)
    found = probing.random_weights(plan, sample, cache)
    again = probing.random_weights(plan, sample, Cache(cache.folder / "other"))
    assert found.loss.tolist() == again.loss.tolist()
    assert found.loss.tolist() != own.loss.tolist()
    assert found.n == own.n
    keys = [info.key for info in cache.stores() if info.key["what"] == "features"]
    used = {json.dumps(key["input"], sort_keys=True) for key in keys}
    assert json.dumps(plan.backbone.input_spec.to_dict(), sort_keys=True) in used


def test_progress_is_told_of_what_is_measured(planned, wide, tmp_path):
    plan, sample = planned(wide)
    told = []
    fresh = Cache(tmp_path)
    probing.resize_rules(plan, sample, fresh, progress=lambda *step: told.append(step))
    probing.random_weights(plan, sample, fresh, progress=lambda *step: told.append(step))
    n = len(sample)
    assert told[-1] == ("random weights", n, n)
    assert {what for what, _, _ in told} == {
        *("resize crop", "resize squash", "resize pad", "random weights"),
    }


def test_the_facts_are_plain_json(planned, photos, cache):
    plan, sample = planned(photos)
    found = probing.resize_rules(plan, sample, cache)
    told = json.loads(json.dumps(found.to_dict()))
    assert told["scores"]["crop"]["n"] == len(sample)
    assert set(told["skipped"]) == {"pad"}


@pytest.mark.slow
@pytest.mark.skipif(not BOARDS.exists(), reason=f"there is no {BOARDS.name} beside the code")
def test_on_real_boards_pre_training_and_the_centre_help(tmp_path):
    plan = make_plan(BOARDS, Options(strategy="feature-extraction"), cache=Cache(tmp_path))
    sample, fresh = take_sample(plan, 300), Cache(tmp_path)
    rules = probing.resize_rules(plan, sample, fresh)
    assert list(rules.scores) == ["crop", "squash"]  # the defect is in the middle of a square
    assert rules.scores["crop"].log_loss < rules.scores["squash"].log_loss
    random = probing.random_weights(plan, sample, fresh)
    assert compare(rules.scores["crop"], random).better
    assert 0.65 < rules.scores["crop"].accuracy < 0.9
