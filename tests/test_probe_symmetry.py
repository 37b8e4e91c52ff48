"""Which mirror images mean the same."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from headstart import probe_symmetry
from headstart.cache import Cache
from headstart.data.loader import load
from headstart.data.symmetry import symmetry
from headstart.options import Options
from headstart.planning import make_plan
from headstart.probe_sample import take_sample
from headstart.probe_score import Dealt
from headstart.probe_symmetry import VIEWS, symmetries
from headstart.probe_views import Probes
from headstart.training.device import Forward
from probed import glyph, scored, write_glyphs


@pytest.fixture
def looked(small, tmp_path):
    """Write signs of these names, and tell which of their symmetries keep them."""

    def look(*names, each=40, spec=None, data=None):
        root = write_glyphs(tmp_path / "signs", names, each) if data is None else data
        cache = Cache(tmp_path / "cache")
        options = Options(**small | {"strategy": "feature-extraction"})
        plan = make_plan(root, options, cache=cache)
        backbone = plan.backbone
        if spec is not None:
            backbone = replace(backbone, input_spec=replace(backbone.input_spec, **spec))
        sample = take_sample(plan)
        return plan, sample, symmetries(plan, sample, backbone, cache)

    return look


def test_a_six_is_no_nine(looked):
    _, _, found = looked("six", "nine")
    assert found.plain.accuracy > 0.9
    assert {found.name, found.harmless} & {"square"} == set()


def test_left_is_not_right(looked):
    _, _, found = looked("left", "right", "ring", "disc", "cross")
    assert found.name == "none"
    assert list(found.views) == ["flip"]  # nothing else is looked at then
    flip = found.views["flip"]
    assert not flip.recognised
    assert not flip.harmless
    assert found.harmless == "none"
    assert flip.learnt.accuracy < found.plain.accuracy


def test_what_is_the_same_from_all_sides_is_square(looked):
    _, _, found = looked("ring", "cross", "disc")
    assert found.name == "square"
    assert list(found.views) == list(VIEWS)
    assert all(view.recognised and view.harmless for view in found.views.values())
    assert f"of {found.plain.n} training images a probe has " in found.reason
    assert found.reason.count("points") == 2 * len(VIEWS)  # each change with its noise


def test_what_is_another_thing_upside_down_is_flip(looked):
    _, _, found = looked("up", "down", "ring")
    assert (found.name, found.harmless) == ("flip", "flip")
    assert list(found.views) == ["flip", "upside-down"]


def test_what_merely_looks_unlike_all_others_is_harmless(looked):
    _, _, found = looked("up", "bars", each=60)
    assert (found.name, found.harmless) == ("flip", "square")
    quarter = found.views["quarter turn"]
    assert not quarter.recognised
    assert quarter.seen.accuracy < 0.95 < quarter.learnt.accuracy


def test_an_input_that_is_not_square_is_only_mirrored(looked):
    _, _, found = looked("ring", "cross", "disc", spec={"height": 64, "width": 48})
    assert found.name == "flip"
    assert list(found.views) == ["flip"]


def test_a_view_is_that_of_the_pixels_by_the_plain_probe(looked):
    plan, sample, found = looked("ring", "cross", "disc")
    batch = next(load(list(sample.paths), plan.backbone.input_spec, len(sample)))
    forward = Forward(plan.backbone, replace(plan.path, batch_size=len(sample)))
    plain, turned = (forward(symmetry(batch.pixels, number)) for number in (0, 2))
    wanted = Probes(plain, Dealt.of(sample.labels, sample.groups)).score(turned)
    assert np.allclose(found.views["quarter turn"].seen.loss, wanted.loss, atol=1e-3)


def test_a_probe_that_only_guesses_is_no_witness(looked, tmp_path):
    for number in range(120):
        file = tmp_path / "tossed" / ("heads", "tails")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        glyph("ring", number).save(file)
    _, _, found = looked(data=tmp_path / "tossed")
    assert found.name == "none"
    assert found.views == {}
    assert "can't tell" in found.reason


def test_on_few_images_only_the_mirror_image_is_tried(looked):
    _, _, found = looked("ring", "cross", each=20)
    assert found.plain.n < 50
    assert found.name == "flip"
    assert list(found.views) == ["flip"]


@pytest.mark.parametrize(
    ("before", "after", "lost"),
    [
        ((40, 40), (40, 40), False),
        ((40, 40), (40, 15), True),
        ((40, 40), (40, 29), False),  # less than three in ten of what was recognised
        ((40, 4), (40, 0), False),  # could be chance
        ((10, 40), (40, 40), False),
    ],
)
def test_a_class_is_lost_where_much_of_it_is_and_that_is_no_chance(before, after, lost):
    labels = np.repeat([0, 1], 40)
    place = np.tile(np.arange(40), 2)
    plain, other = (scored(place < np.repeat(counts, 40)) for counts in (before, after))
    assert probe_symmetry._loses_a_class(plain, other, labels) is lost


def test_what_is_known_is_plain_json(looked):
    _, _, found = looked("left", "right")
    told = json.loads(json.dumps(found.to_dict()))
    assert told["name"] == "none"
    assert told["harmless"] == "none"
    assert told["views"]["flip"]["recognised"] is False
    assert told["views"]["flip"]["harmless"] is False
    assert told["views"]["flip"]["seen_change"]["better"] is False
    assert told["plain"]["n"] == found.plain.n
