"""What is written on the command line, read as values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.cli_values import (
    parse_channels,
    parse_duration,
    parse_gates,
    parse_numbers,
    parse_reading,
    parse_settings,
    parse_share,
    parse_split,
)
from headstart.data.reading import Reading
from headstart.errors import UsageError
from headstart.options import Options


@settings(deadline=None)
@given(st.tuples(*[st.floats(allow_nan=False)] * 3))
def test_three_numbers_are_read_back(numbers) -> None:
    for parse in (parse_numbers, parse_channels):
        assert parse("mean", ",".join(map(repr, numbers))) == numbers
        assert parse("mean", ", ".join(map(repr, numbers))) == numbers


def test_no_numbers_stay_none() -> None:
    assert parse_numbers("split", None) is None
    assert parse_channels("mean", None) is None


def test_one_number_is_read_for_channels() -> None:
    assert parse_channels("mean", "127.5") == (127.5,)


@pytest.mark.parametrize("text", ["", "0.5,0.5", "1,2,3,4", "a,b,c", "0.5;0.5;0.5"])
def test_what_is_neither_one_number_nor_three_is_told_with_its_option(text) -> None:
    with pytest.raises(UsageError, match="--mean must be one number, or three") as raised:
        parse_channels("mean", text)
    assert repr(text) in raised.value.message
    assert raised.value.field == "mean"
    assert raised.value.hint == "Write --mean 0.5, or --mean 0.5,0.5,0.5 for red, green and blue."


@pytest.mark.parametrize("text", ["", "0.5", "0.5,0.5", "1,2,3,4", "a,b,c", "0.5;0.5;0.5"])
def test_what_is_not_three_numbers_is_told_with_its_option(text) -> None:
    with pytest.raises(UsageError, match="--split must be three numbers") as raised:
        parse_numbers("split", text)
    assert repr(text) in raised.value.message
    assert raised.value.field == "split"
    assert "--split 0.7,0.15,0.15" in raised.value.hint


def test_a_split_is_three_numbers_or_a_table() -> None:
    assert parse_split(None) is None
    assert parse_split("0.5,0.25,0.25") == (0.5, 0.25, 0.25)
    assert parse_split("runs/a,b/split.CSV") == Path("runs/a,b/split.CSV")
    with pytest.raises(UsageError, match="--split must be three numbers"):
        parse_split("split.txt")


@settings(deadline=None)
@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.sampled_from(["", " "]))
def test_a_duration_is_read_back(hours, minutes, seconds, between) -> None:
    parts = [(hours, "h"), (minutes, "m"), (seconds, "s")]
    text = between.join(f"{number}{unit}" for number, unit in parts if number)
    if text:
        meant = 3600 * hours + 60 * minutes + seconds
        assert parse_duration("budget", text) == meant
        assert parse_duration("budget", text.upper()) == meant


@settings(deadline=None)
@given(st.integers(1, 10**6))
def test_a_duration_may_have_decimals(hundredths) -> None:
    seconds = hundredths / 100
    assert parse_duration("budget", f"{seconds:.2f}s") == pytest.approx(seconds)
    assert parse_duration("budget", f"{seconds:.2f} h") == pytest.approx(3600 * seconds)


def test_no_duration_stays_none_and_some_are_as_people_write_them() -> None:
    assert parse_duration("budget", None) is None
    for text, seconds in {"90s": 90, " 10m ": 600, "1h30m": 5400, "1.5h": 5400}.items():
        assert parse_duration("budget", text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", " ", "10", "0s", "0h0m", "-5m", "1e3s", ".5h", "5 5m", "m", "10 minutes", "soon", "infs"],
)
def test_what_is_no_duration_is_told_with_its_option(text) -> None:
    with pytest.raises(UsageError, match="--budget must be a time above 0") as raised:
        parse_duration("budget", text)
    assert raised.value.field == "budget"
    assert "--budget 10m" in raised.value.hint


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


# Settings of training


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        ([], {}),
        (["optimizer=sgd"], {"optimizer": "sgd"}),
        (["mixup=0.2,clip=none"], {"mixup": 0.2, "clip": "none"}),
        (["epochs=3", "ema=1e-3,views=0"], {"epochs": 3, "ema": 1e-3, "views": 0}),
        ([" label-smoothing = 0 , clip=2.5"], {"label_smoothing": 0, "clip": 2.5}),
        (["monitor=none"], {"monitor": "none"}),
        (["clip=1", "clip=2"], {"clip": 2}),
    ],
)
def test_settings_are_read(texts, settings) -> None:
    read = parse_settings(texts)
    assert read == settings
    assert [type(value) for value in read.values()] == [type(v) for v in settings.values()]


@pytest.mark.parametrize("text", ["", "optimizer", "mixup=0.2,", "mixup:0.2", ",mixup=1"])
def test_what_is_no_setting_is_a_usage_error(text) -> None:
    with pytest.raises(UsageError, match="--train must be name=value") as raised:
        parse_settings([text])
    assert raised.value.field == "train"


# How images are read


def reading(column=None, root=None, nested=False, classes=None, group_by=None, test=None):
    return parse_reading(column, root, nested, classes, group_by, test)


def test_nothing_said_of_reading_is_the_default() -> None:
    made = Options(**reading())
    assert made == Options()
    assert made.reading == Reading()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cats,dogs", ("cats", "dogs")),
        (" dogs , cats ", ("dogs", "cats")),
        ("cats", ("cats",)),
        ('"cats, small",dogs', ("cats, small", "dogs")),
        ("cats,,dogs", ("cats", "", "dogs")),
        ('"line\nbreak",dogs', ("line\nbreak", "dogs")),
        ("", ()),
    ],
)
def test_classes_have_commas_between(text, names) -> None:
    assert reading(classes=text)["classes"] == names


@pytest.mark.parametrize("text", ["a\nb", "cats,a\r\nb", "x" * 200_000])
def test_classes_that_can_not_be_told_are_a_usage_error(text) -> None:
    with pytest.raises(UsageError, match="--classes must be names with commas between") as raised:
        reading(classes=text)
    assert raised.value.field == "classes"
    assert "double quotes" in raised.value.hint
    assert len(raised.value.message) < 300


def test_columns_are_pairs() -> None:
    pairs = reading(column=["label=species", " path = file=name "])["columns"]
    assert pairs == {"label": "species", "path": "file=name"}
    with pytest.raises(UsageError, match="--column must be name=column") as raised:
        reading(column=["label"])
    assert raised.value.field == "column"


def test_the_rest_of_a_reading_is_as_it_is() -> None:
    made = reading(root=Path("a"), nested=True, group_by="(x)", test="other")
    assert made == {
        "columns": {},
        "root": Path("a"),
        "nested": True,
        "classes": None,
        "group_by": "(x)",
        "test": "other",
    }
