from __future__ import annotations

import pytest

from headstart.backbones.architecture import (
    MOST_PIXELS,
    check_keys,
    check_numbers,
    check_side,
    from_earlier,
)
from headstart.backbones.base import Request
from headstart.errors import ModelError

DOCUMENT = {
    "zoo": "zoo",
    "name": "net.tag",
    "architecture": "net",
    "num_classes": 1000,
    "arguments": {},
}


@pytest.mark.parametrize("key", DOCUMENT)
def test_no_key_may_miss(key):
    check_keys(DOCUMENT)
    with pytest.raises(ModelError, match=f"lacks {key}"):
        check_keys({name: value for name, value in DOCUMENT.items() if name != key})


@pytest.mark.parametrize(
    "arguments",
    [{}, {"img_size": [64, MOST_PIXELS]}, {"input_size": [1, 1]}, {"image_size": 224}, {"eps": -1}],
)
@pytest.mark.parametrize("classes", [0, 1000, 21_843])
def test_what_zoos_write_is_fine(arguments, classes):
    check_numbers(DOCUMENT | {"arguments": arguments, "num_classes": classes})


@pytest.mark.parametrize("classes", [-1, 10**9, 1.5, True, "many", None])
def test_a_number_of_classes_is_bounded(classes):
    with pytest.raises(ModelError, match="from 0 to 100,000 classes") as caught:
        check_numbers(DOCUMENT | {"num_classes": classes})
    assert caught.value.field == "num_classes"


@pytest.mark.parametrize("arguments", [None, [], "img_size"])
def test_arguments_are_an_object(arguments):
    with pytest.raises(ModelError, match="arguments of a network must be an object"):
        check_numbers(DOCUMENT | {"arguments": arguments})


@pytest.mark.parametrize(
    "arguments",
    [
        {"image_size": 320_000_000},
        {"image_size": 0},
        {"image_size": "64"},
        {"img_size": [64, 10**9]},
        {"img_size": [64.0, 64.0]},
        {"input_size": [True, 64]},
    ],
)
def test_a_side_is_bounded(arguments):
    with pytest.raises(ModelError, match="from 1 to 4,096 pixels") as caught:
        check_numbers(DOCUMENT | {"arguments": arguments})
    assert caught.value.field in arguments


@pytest.mark.parametrize("pair", [64, [64], [1, 2, 3], "64", None])
def test_two_sides_are_two(pair):
    with pytest.raises(ModelError, match="img_size must be a height and a width"):
        check_numbers(DOCUMENT | {"arguments": {"img_size": pair}})


def test_the_largest_side_is_a_side():
    check_side(MOST_PIXELS, "height")
    with pytest.raises(ModelError) as caught:
        check_side(MOST_PIXELS + 1, "height")
    assert caught.value.field == "height"


# --- of an earlier run -----------------------------------------------------------------------

TODAY = DOCUMENT | {"name": "net", "num_classes": 10, "arguments": {"frozen_epsilon": 0.0}}


def test_without_an_earlier_run_it_is_todays():
    assert from_earlier(TODAY, Request()) == TODAY


def test_an_earlier_runs_form_counts():
    assert from_earlier(TODAY, Request(architecture=DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"img_size": [64, 64]}, {"img_size": [96, 96]}),
        ({"image_size": 64, "frozen_epsilon": 1e-5}, {"image_size": 96, "frozen_epsilon": 1e-5}),
        ({"input_size": [64, 64]}, {"input_size": [96, 96]}),
        ({}, {}),
    ],
)
def test_the_users_size_is_put_in_where_there_is_one(arguments, expected):
    earlier = DOCUMENT | {"arguments": arguments}
    made = from_earlier(TODAY, Request(size=96, architecture=earlier))
    assert made == DOCUMENT | {"arguments": expected}
    assert earlier["arguments"] == arguments


@pytest.mark.parametrize(
    ("earlier", "said"),
    [
        ({"zoo": "zoo", "name": "net"}, "lacks architecture, arguments, num_classes"),
        (DOCUMENT | {"architecture": "other"}, "asks for 'other', which is another"),
        (DOCUMENT | {"arguments": None}, "must be an object"),
    ],
)
def test_an_earlier_runs_description_that_can_not_be_used_is_refused(earlier, said):
    with pytest.raises(ModelError, match=said):
        from_earlier(TODAY, Request(size=96, architecture=earlier))
