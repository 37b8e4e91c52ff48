from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import UnknownName, UsageError
from headstart.inputspec import InputSpec, Interpolation, Resize

SPEC = InputSpec(224, 192, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
numbers = st.floats(-1e6, 1e6)
positive = st.floats(1e-3, 1e6)
specs = st.builds(
    InputSpec,
    height=st.integers(1, 4000),
    width=st.integers(1, 4000),
    mean=st.tuples(numbers, numbers, numbers),
    std=st.tuples(positive, positive, positive),
    resize=st.sampled_from(get_args(Resize)),
    crop_fraction=st.floats(0, 1, exclude_min=True),
    interpolation=st.sampled_from(get_args(Interpolation)),
    channels=st.sampled_from(["rgb", "bgr"]),
    decode=st.sampled_from(["exact", "scaled"]),
)


@settings(deadline=None)
@given(spec=specs)
def test_a_spec_comes_back_from_json_as_it_was(spec) -> None:
    assert InputSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_a_spec_names_itself_and_no_more() -> None:
    assert set(SPEC.to_dict()) == {
        *("height", "width", "mean", "std", "resize", "crop_fraction"),
        *("interpolation", "channels", "decode"),
    }
    assert len({SPEC, InputSpec.from_dict(SPEC.to_dict())}) == 1


WRONG = {
    "height": [0, -1],
    "width": [0, -1],
    "mean": [(float("nan"), 0.0, 0.0), (0.0, float("inf"), 0.0)],
    "std": [(1.0, 0.0, 1.0), (1.0, -1.0, 1.0), (1.0, 1.0, float("nan")), (1.0, 1.0, float("inf"))],
    "crop_fraction": [0, -0.5, 1.01, float("nan")],
    "resize": ["stretch", ""],
    "interpolation": ["cubic"],
    "channels": ["gbr", "RGB"],
    "decode": ["fast"],
}


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, vs in WRONG.items() for v in vs])
def test_what_no_network_can_eat_is_refused_by_name(field, value) -> None:
    fields: dict[str, Any] = SPEC.to_dict() | {"mean": SPEC.mean, "std": SPEC.std, field: value}
    with pytest.raises(UsageError) as raised:
        InputSpec(**fields)
    assert raised.value.field == ("size" if field in ("height", "width") else field)
    assert str(value if not isinstance(value, tuple) else value[0]) in raised.value.message


@pytest.mark.parametrize(
    "change",
    [
        {"mean": None},
        {"mean": [1, 2]},
        {"std": [1, 2, 3, 4]},
        {"std": ["a", "b", "c"]},
        {"height": "224"},
        {"resize": 3},
        {"unknown": 1},
        {"resize": "stretch"},
        {"std": [0, 1, 1]},
    ],
)
def test_a_document_that_is_no_spec_is_a_usage_error(change) -> None:
    with pytest.raises(UsageError):
        InputSpec.from_dict(SPEC.to_dict() | change)


def test_a_document_without_a_field_it_needs_is_a_usage_error() -> None:
    for field in ("height", "width", "mean", "std"):
        document = SPEC.to_dict()
        del document[field]
        with pytest.raises(UsageError, match=field):
            InputSpec.from_dict(document)


@pytest.mark.parametrize("rule", get_args(Resize))
def test_another_resize_rule_changes_nothing_else(rule) -> None:
    assert SPEC.with_resize(rule).to_dict() == SPEC.to_dict() | {"resize": rule}


def test_an_unknown_resize_rule_is_met_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="squash"):
        SPEC.with_resize("squish")
