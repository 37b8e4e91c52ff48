"""Backbones in the order of what their features are worth."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from headstart import ranking
from headstart.cache import Cache
from headstart.candidates import Candidate
from headstart.embedding import create_backbone
from headstart.errors import ModelError
from headstart.options import Options
from headstart.planning import make_plan
from headstart.probe_sample import take_sample
from headstart.probing import probe
from headstart.ranking import Ranked, finalists, rank
from probed import scored


def candidate(name: str, top1: float | None = 0.7) -> Candidate:
    return Candidate(name, 400_000, 64, top1, "mit")


OWN = candidate("timm:test_resnet")
OTHERS = tuple(candidate(f"timm:{name}") for name in ("test_convnext", "test_efficientnet"))


class Ticking:
    """A clock that moves by so many seconds whenever it is looked at."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def planned(small, tmp_path, few_photos, monkeypatch):
    """Plan a fit of the tiny network; other networks have random weights instead of downloads."""
    untrained = {}

    def without_download(options):
        if "broken" in options.backbone:
            raise ModelError("the file is damaged")
        untrained[options.backbone] = options
        return create_backbone(replace(options, size=64), random=0)

    monkeypatch.setattr(ranking, "create_backbone", without_download)

    def make(**options):
        asked = small | {"strategy": "feature-extraction", "batch_size": 4} | options
        cache = Cache(tmp_path / "cache")
        plan = make_plan(few_photos, Options(**asked), cache=cache)
        return plan, take_sample(plan), cache, untrained

    return make


def test_every_network_is_scored_and_has_a_place(planned):
    plan, sample, cache, _ = planned()
    found = rank(plan, sample, (*OTHERS, OWN), cache, seconds=1000)
    assert [each.place for each in found] == [1, 2, 3]
    assert {each.candidate for each in found} == {OWN, *OTHERS}
    for each in found:
        assert each.score.n == len(sample)
        assert each.skipped is None
    own = next(each for each in found if each.candidate is OWN)
    assert own.score.loss.tolist() == probe(plan, sample, plan.backbone, cache).loss.tolist()
    other = next(each for each in found if each.candidate is OTHERS[0])
    assert other.score.loss.tolist() != own.score.loss.tolist()


def test_weights_and_size_that_were_asked_for_are_those_of_the_own_network(planned, small):
    plan, sample, cache, untrained = planned()
    rank(plan, sample, (OWN, *OTHERS), cache, seconds=1000, resize="pad")
    assert set(untrained) == {each.name for each in OTHERS}  # its own is there
    for options in untrained.values():
        assert (options.weights, options.size, options.resize) == (None, None, "pad")
        assert options.precision == small["precision"]


def test_a_resize_rule_is_that_of_all(planned):
    plan, sample, cache, _ = planned()
    rank(plan, sample, (OWN, *OTHERS), cache, seconds=1000, resize="squash")
    keys = [info.key for info in cache.stores() if info.key["what"] == "features"]
    assert len(keys) == 3
    assert {key["input"]["resize"] for key in keys} == {"squash"}


def test_a_network_that_would_take_too_long_is_skipped_and_others_are_not(planned, monkeypatch):
    plan, sample, cache, _ = planned()
    slow = OTHERS[0]
    clock, features_of = Ticking(0), ranking.features_of

    def timed(plan, sample, backbone, cache):
        clock.now += 10 if backbone.full_name.startswith(slow.name) else 0.1
        return features_of(plan, sample, backbone, cache)

    monkeypatch.setattr(ranking, "features_of", timed)
    told = []
    found = rank(
        *(plan, sample, (slow, OTHERS[1], OWN), cache),
        seconds=25,
        clock=clock,
        progress=lambda *step: told.append(step),
    )
    assert [each.candidate for each in found[2:]] == [slow]
    assert found[2].place is None
    assert found[2].skipped == "it needs about 30 s more, and 5 s are left"
    assert found[2].score is None
    assert {each.place for each in found[:2]} == {1, 2}
    assert told[0][0] == OWN.name  # the plan's own is never the one that time is short for
    assert [done for what, done, _ in told if what == slow.name] == [4, 8]


def test_what_was_computed_before_it_was_skipped_is_remembered(planned):
    plan, sample, cache, _ = planned()
    short = rank(plan, sample, (OWN,), cache, seconds=8, clock=Ticking(1))
    assert short[0].skipped == "it needs about 3 s more, and 1 s are left"
    told = []
    full = rank(
        *(plan, sample, (OWN,), cache), seconds=1000, progress=lambda *step: told.append(step)
    )
    assert full[0].place == 1
    assert told[-1] == (OWN.name, len(sample), len(sample))


def test_without_time_nothing_is_computed(planned):
    plan, sample, cache, _ = planned()
    found = rank(plan, sample, (OWN, *OTHERS), cache, seconds=0, clock=Ticking(0.001))
    assert {each.skipped for each in found} == {"no time was left"}
    assert cache.stores() == []


def test_a_network_that_can_not_be_used_is_skipped(planned):
    plan, sample, cache, _ = planned()
    found = rank(plan, sample, (candidate("timm:broken"), OWN), cache, seconds=1000)
    assert [each.place for each in found] == [1, None]
    assert found[1].skipped == "it can't be used: the file is damaged"


def test_the_mean_of_the_two_ranks_decides(planned, monkeypatch):
    plan, sample, cache, _ = planned()
    scores = {  # by log loss: a, b, c; by neighbours: c, then a and b alike
        "timm:a": scored([True] * 4, [0.1] * 4, knn=[True, True, False, False]),
        "timm:b": scored([True] * 4, [0.2] * 4, knn=[True, True, False, False]),
        "timm:c": scored([True] * 4, [0.3] * 4, knn=[True, True, True, False]),
    }
    monkeypatch.setattr(
        ranking, "_try", lambda plan, sample, each, *_: Ranked(each, scores[each.name])
    )
    found = rank(plan, sample, [candidate(name) for name in scores], cache, seconds=9)
    told = [(each.candidate.name, each.probe_rank, each.knn_rank, each.place) for each in found]
    assert told == [("timm:a", 1, 2.5, 1), ("timm:c", 3, 1, 2), ("timm:b", 2, 2.5, 3)]


@pytest.mark.parametrize(
    ("top1", "wanted"),
    [
        ((0.7, 0.8, 0.9), [1, 3]),  # the first and the best on ImageNet
        ((0.9, 0.8, 0.7), [1, 2]),  # which are one
        ((None, None, 0.7), [1, 3]),
        ((None, None, None), [1, 2]),
        ((0.7,), [1]),
        ((), []),
    ],
)
def test_the_best_on_imagenet_is_in_the_final(top1, wanted):
    score = scored([True, False])
    ranked = [
        Ranked(candidate(f"timm:{place}", value), score, place)
        for place, value in enumerate(top1, start=1)
    ]
    skipped = Ranked(candidate("timm:skipped", 0.99), skipped="no time was left")
    assert [each.place for each in finalists([*ranked, skipped])] == wanted


def test_a_place_is_plain_json():
    done = Ranked(OWN, scored([True, False]), 1, 1.0, 1.5)
    told = json.loads(json.dumps(done.to_dict()))
    assert told["name"] == OWN.name
    assert told["score"]["accuracy"] == 0.5
    assert (told["place"], told["probe_rank"], told["knn_rank"]) == (1, 1.0, 1.5)
    assert json.loads(json.dumps(Ranked(OWN, skipped="no time").to_dict()))["score"] is None
