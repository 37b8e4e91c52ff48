from __future__ import annotations

import json
from dataclasses import replace

import pytest

from headstart.backbones.architecture import MOST_PIXELS
from headstart.backbones.base import Request
from headstart.backbones.preprocess import beside, decide, from_config, size_is_the_users
from headstart.errors import ModelError, UsageError
from headstart.inputspec import InputSpec

CONFIG = {
    "input_size": (3, 160, 192),
    "interpolation": "bilinear",
    "crop_pct": 0.9,
    "crop_mode": "squash",
    "mean": (0.5, 0.4, 0.2),
    "std": (0.2, 0.1, 1.0),
}
SPEC = InputSpec(160, 192, (127.5, 102.0, 51.0), (51.0, 25.5, 255.0), "squash", 0.9, "bilinear")


@pytest.fixture
def weights(tmp_path):
    return tmp_path / "model.safetensors"


def write(weights, name, document):
    content = document if isinstance(document, str) else json.dumps(document)
    weights.with_name(name).write_text(content)


def test_timms_config_becomes_an_input_spec():
    assert from_config(CONFIG) == SPEC
    assert from_config(CONFIG | {"crop_mode": "border"}).resize == "pad"
    assert from_config(CONFIG | {"crop_mode": "center"}).resize == "crop"
    assert from_config(CONFIG | {"crop_pct": 1.15}).crop_fraction == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"input_size": (1, 28, 28)},
        {"input_size": 224},
        {"mean": None},
        {"mean": (1, 2)},
        {"std": (0, 0, 0)},
        {"crop_mode": "diagonal"},
        {"interpolation": "guess"},
    ],
)
def test_a_config_that_can_t_be_used_is_refused(changes):
    with pytest.raises(ModelError):
        from_config(CONFIG | changes)


def test_the_zoos_own_is_the_default_without_a_note():
    assert decide(SPEC, "net", Request()) == (SPEC, ())


def test_weights_of_unknown_preprocessing_get_the_zoos_own_as_an_assumption(weights):
    spec, (note,) = decide(SPEC, "net", Request(weights))
    assert spec == SPEC
    assert "assumed" in note
    assert "mean 0.5, 0.4, 0.2, std 0.2, 0.1, 1" in note


def test_the_assumption_names_an_order_of_channels_that_is_not_the_usual(weights):
    blue_first = replace(SPEC, channels="bgr")
    note = decide(blue_first, "net", Request(weights))[1][0]
    assert "order blue, green, red" in note
    assert "mean 0.2, 0.4, 0.5, std 1, 0.1, 0.2 of red, green and blue" in note  # as one gives them
    assert "order" not in decide(SPEC, "net", Request(weights))[1][0]


def test_timms_config_beside_the_weights_counts(weights):
    write(weights, "config.json", {"architecture": "net", "pretrained_cfg": CONFIG})
    spec, (note,) = decide(replace(SPEC, height=1), "net", Request(weights))
    assert spec == SPEC
    assert "config.json" in note


def test_an_old_flat_config_counts_too(weights):
    write(weights, "config.json", {"architecture": "net"} | CONFIG)
    assert beside(weights, "net") == (SPEC, "config.json")


def test_headstarts_own_file_counts_most(weights):
    write(weights, "config.json", {"architecture": "net", "pretrained_cfg": CONFIG})
    own = replace(SPEC, height=64, resize="crop")
    document = {"architecture": {"architecture": "net"}, "input_spec": own.to_dict()}
    write(weights, "headstart.json", document)
    assert beside(weights, "net") == (own, "headstart.json")


@pytest.mark.parametrize(
    "document",
    [
        {"architecture": "other", "pretrained_cfg": CONFIG},
        {"architectures": ["BertModel"]},
        {"architecture": {"architecture": "other"}, "input_spec": {}},
    ],
)
def test_a_file_for_another_network_is_none(weights, document):
    write(weights, "config.json", document)
    assert beside(weights, "net") is None


@pytest.mark.parametrize(
    "document",
    [
        "{",
        [],
        {"architecture": "net", "pretrained_cfg": {"mean": "red"}},
        {"architecture": {"architecture": "net"}},
        {"architecture": {"architecture": "net"}, "input_spec": {"height": 1}},
        {"architecture": {"architecture": "net"}, "input_spec": SPEC.to_dict() | {"height": 10**9}},
        {"architecture": {"architecture": "net"}, "input_spec": SPEC.to_dict() | {"width": 64.5}},
        {"architecture": "net", "pretrained_cfg": CONFIG | {"input_size": [3, 10**9, 10**9]}},
    ],
)
def test_a_broken_file_beside_the_weights_is_named(weights, document):
    write(weights, "config.json", document)
    with pytest.raises(ModelError, match=r"config\.json, beside the weights") as caught:
        beside(weights, "net")
    assert "--mean" in caught.value.hint


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), ((127.5,) * 3, (127.5,) * 3)),
        ((0, 0, 0), (1, 1, 1), ((0,) * 3, (255,) * 3)),
        ((0,), (255,), ((0,) * 3, (255,) * 3)),
        ((103.939, 116.779, 123.68), (1, 1, 1), ((103.939, 116.779, 123.68), (1,) * 3)),
        ((0.5,), (0.25,), ((127.5,) * 3, (63.75,) * 3)),
    ],
)
def test_mean_and_std_are_in_units_of_1_where_none_is_above_1(mean, std, expected):
    spec, notes = decide(SPEC, "net", Request(mean=mean, std=std))
    assert (spec.mean, spec.std) == expected
    assert notes == ()


@pytest.mark.parametrize(
    ("mean", "std", "field"),
    [
        ((0.5,), None, "std"),
        (None, (0.5,), "mean"),
        ((0.5, 0.5), (0.5,), "mean"),
        ((0.5,), (0.5,) * 4, "std"),
        ((0.5,), (0.0,), "std"),
    ],
)
def test_half_or_odd_numbers_are_refused(mean, std, field):
    with pytest.raises(UsageError) as caught:
        decide(SPEC, "net", Request(mean=mean, std=std))
    assert caught.value.field == field


def test_what_the_user_gives_counts_first(weights):
    write(weights, "config.json", {"architecture": "net", "pretrained_cfg": CONFIG})
    spec, _ = decide(SPEC, "net", Request(weights, mean=(0.1,), std=(1.0,), size=96))
    assert spec == replace(SPEC, mean=(25.5,) * 3, std=(255.0,) * 3, height=96, width=96)
    weights.with_name("config.json").unlink()
    assert decide(SPEC, "net", Request(weights, mean=(0.1,), std=(1.0,)))[1] == ()


@pytest.mark.parametrize("size", [0, MOST_PIXELS + 1])
def test_an_impossible_size_is_a_usage_error(size):
    with pytest.raises(UsageError) as caught:
        decide(SPEC, "net", Request(size=size))
    assert caught.value.field == "size"


def test_what_the_user_gives_is_red_green_blue_whatever_the_network_takes():
    blue_first = replace(SPEC, channels="bgr")
    request = Request(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    spec, _ = decide(blue_first, "net", request)
    assert spec.mean == pytest.approx((0.406 * 255, 0.456 * 255, 0.485 * 255))
    assert spec.std == pytest.approx((0.225 * 255, 0.224 * 255, 0.229 * 255))
    assert spec.channels == "bgr"


def test_what_lies_beside_the_weights_is_in_the_networks_order(weights):
    own = replace(SPEC, channels="bgr")
    document = {"architecture": {"architecture": "net"}, "input_spec": own.to_dict()}
    write(weights, "headstart.json", document)
    assert decide(SPEC, "net", Request(weights))[0] == own


def test_an_error_about_the_size_is_the_users_where_they_gave_it():
    with pytest.raises(UsageError, match="too small") as caught, size_is_the_users(Request(size=8)):
        raise ModelError("too small", field="size")
    assert (caught.value.field, caught.value.hint) == ("size", "Choose another --size.")
    with pytest.raises(ModelError), size_is_the_users(Request()):
        raise ModelError("too small", field="size")
    with pytest.raises(ModelError), size_is_the_users(Request(size=8)):
        raise ModelError("something else", field="zoo")
