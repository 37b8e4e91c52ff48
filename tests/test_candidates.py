"""The backbones that a plan may choose among."""

from __future__ import annotations

import json

import pytest

from headstart import candidates
from headstart.backbones.base import Listing
from headstart.candidates import at_hand


def listing(name: str, **fields) -> Listing:
    about = {"parameters": 5_000_000, "input": 224, "top1": 0.75, "licence": "mit", "cached": True}
    return Listing(name=name, zoo=name.partition(":")[0], **about | fields)


@pytest.fixture
def listed(monkeypatch):
    """Let the zoos list these networks."""

    def replace(*listings):
        monkeypatch.setattr(candidates.zoo, "listings", lambda: list(listings))

    return replace


def names(**asked) -> list[str]:
    return [each.name for each in at_hand(**asked)]


def test_the_default_network_is_always_there():
    found = {each.name: each for each in at_hand(most=1000)}
    lite0 = found["bundled:efficientnet_lite0"]
    assert (lite0.top1, lite0.input, lite0.licence) == (0.751, 224, "Apache-2.0")
    assert 4e6 < lite0.parameters < 5e6


def test_only_what_is_on_this_machine_is_listed(listed):
    listed(listing("timm:here"), listing("timm:elsewhere", cached=False))
    assert names() == ["timm:here"]


def test_the_best_on_imagenet_come_first_and_the_unknown_last(listed):
    listed(
        listing("timm:unknown", top1=None),
        listing("timm:b", top1=0.7),
        listing("timm:a", top1=0.7),
        listing("timm:small", top1=0.7, parameters=1_000_000),
        listing("timm:best", top1=0.9),
    )
    assert names() == ["timm:best", "timm:small", "timm:a", "timm:b", "timm:unknown"]
    assert names(most=2) == ["timm:best", "timm:small"]


def test_large_networks_and_those_of_unknown_size_are_left_out(listed):
    listed(
        listing("timm:large", parameters=50_000_001),
        listing("timm:fits", parameters=50_000_000),
        listing("timm:unknown", parameters=None),
    )
    assert names() == ["timm:fits"]
    assert names(parameters=60_000_000) == ["timm:fits", "timm:large"]


def test_weights_that_forbid_commercial_use_are_only_listed_where_that_is_allowed(listed):
    listed(listing("timm:free"), listing("timm:research", licence="cc-by-nc-4.0", top1=0.9))
    assert names() == ["timm:free"]
    assert names(allow_noncommercial=True) == ["timm:research", "timm:free"]


def test_a_candidate_is_plain_json(listed):
    listed(listing("timm:here"))
    (found,) = at_hand()
    assert json.loads(json.dumps(found.to_dict())) == {
        "name": "timm:here",
        "parameters": 5_000_000,
        "input": 224,
        "top1": 0.75,
        "licence": "mit",
    }
