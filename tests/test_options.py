from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import UsageError
from headstart.options import GATES, Options, parse_gates, parse_numbers, parse_share
from headstart.strategy import presets

FILE = Path("weights.safetensors")
WRONG = [
    ("size", 0),
    ("size", -224),
    ("limit", 0),
    ("limit_per_class", 0),
    ("batch_size", 0),
    ("seed", -1),
    ("max_bad", -0.01),
    ("max_bad", 1.01),
    ("max_bad", math.nan),
    ("resize", "stretch"),
    ("class_weights", "auto"),
    ("precision", "fp16"),
    ("minimum", {"log_loss": 0.5}),
    ("minimum", {"accuracy": 90.0}),
    ("minimum", {"accuracy": -0.1}),
    ("minimum", {"accuracy": math.nan}),
]


def test_the_defaults_are_options_that_can_be_used() -> None:
    options = Options()
    assert options.strategy == presets.DEFAULT
    assert Options(**vars(options)) == options


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_a_value_that_cannot_be_used_is_named_with_its_option(field, value) -> None:
    with pytest.raises(UsageError) as raised:
        Options(**{field: value})
    option = "min" if field == "minimum" else field.replace("_", "-")
    shown = [*value, *value.values()] if isinstance(value, dict) else [value]
    assert raised.value.field == option
    assert f"--{option} " in raised.value.message
    assert any(str(part) in raised.value.message for part in shown)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("size", 1), ("limit", 1), ("batch_size", 1), ("seed", 0)),
        *(("max_bad", 0), ("max_bad", 1), ("resize", "pad"), ("class_weights", "balanced")),
        *(("precision", "bf16"), ("minimum", dict.fromkeys(GATES, 1.0))),
    ],
)
def test_values_at_the_limits_can_be_used(field, value) -> None:
    assert getattr(Options(**{field: value}), field) == value


def test_all_problems_are_told_together() -> None:
    wrong: dict = dict(WRONG)
    with pytest.raises(UsageError) as raised:
        Options(**wrong)
    told = ["min" if field == "minimum" else field.replace("_", "-") for field in wrong]
    assert sorted(str(raised.value.field).split(", ")) == sorted(told)
    assert all(f"--{option} " in raised.value.message for option in told)


@pytest.mark.parametrize("field", ["mean", "std"])
def test_mean_and_std_describe_a_file_of_weights(field) -> None:
    assert getattr(Options(weights=FILE, **{field: (0.5, 0.5, 0.5)}), field) == (0.5, 0.5, 0.5)
    with pytest.raises(UsageError, match="--weights"):
        Options(**{field: (0.5, 0.5, 0.5)})
    for numbers in ((0.5, 0.5), (math.nan, 0.5, 0.5), (0.5, math.inf, 0.5)):
        with pytest.raises(UsageError, match=f"--{field} must be three numbers"):
            Options(weights=FILE, **{field: numbers})


@settings(deadline=None)
@given(st.tuples(*[st.floats(allow_nan=False)] * 3))
def test_three_numbers_are_read_back(numbers) -> None:
    assert parse_numbers("mean", ",".join(map(repr, numbers))) == numbers
    assert parse_numbers("mean", ", ".join(map(repr, numbers))) == numbers


def test_no_numbers_stay_none() -> None:
    assert parse_numbers("mean", None) is None


@pytest.mark.parametrize("text", ["", "0.5", "0.5,0.5", "1,2,3,4", "a,b,c", "0.5;0.5;0.5"])
def test_what_is_not_three_numbers_is_told_with_its_option(text) -> None:
    with pytest.raises(UsageError, match="--split must be three numbers") as raised:
        parse_numbers("split", text)
    assert repr(text) in raised.value.message
    assert raised.value.field == "split"


@settings(deadline=None)
@given(st.floats(0, 100))
def test_a_share_is_a_number_or_a_percentage(number) -> None:
    assert parse_share("max-bad", repr(number)) == number
    assert parse_share("max-bad", f" {number!r}% ") == number / 100


@pytest.mark.parametrize("text", ["", "%", "one", "1%%", "1 percent"])
def test_what_is_no_share_is_told_with_its_option(text) -> None:
    with pytest.raises(UsageError, match="--max-bad must be a share") as raised:
        parse_share("max-bad", text)
    assert repr(text) in raised.value.message


def test_gates_are_read() -> None:
    texts = ["accuracy=0.9", " macro_f1 = 85%"]
    assert parse_gates(texts) == {"accuracy": 0.9, "macro_f1": 0.85}
    assert parse_gates([]) == {}


@pytest.mark.parametrize("text", ["accuracy", "accuracy=", "accuracy=high", "=", "accuracy:0.9"])
def test_what_is_no_gate_is_a_usage_error(text) -> None:
    with pytest.raises(UsageError, match="--min"):
        parse_gates([text])
