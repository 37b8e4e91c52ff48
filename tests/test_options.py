from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.errors import UsageError
from headstart.options import (
    AUGMENTATIONS,
    GATES,
    SYMMETRIES,
    Options,
    parse_gates,
    parse_numbers,
    parse_settings,
    parse_share,
)
from headstart.strategy import presets

FILE = Path("weights.safetensors")
WRONG = [
    ("size", 0),
    ("size", -224),
    ("limit", 0),
    ("limit_per_class", 0),
    ("batch_size", 0),
    ("epochs", 0),
    ("lr", 0.0),
    ("lr", -1e-3),
    ("lr", math.inf),
    ("lr", math.nan),
    ("views", -1),
    ("augment", "heavy"),
    ("symmetry", "round"),
    ("average", "all"),
    ("seed", -1),
    ("split_seed", -1),
    ("save_minutes", 0),
    ("save_minutes", math.nan),
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
        *(("epochs", 1), ("lr", 1e-9), ("views", 0), ("split_seed", 0)),
        *(("augment", name) for name in AUGMENTATIONS),
        *((field, name) for field in ("symmetry", "average") for name in SYMMETRIES),
    ],
)
def test_values_at_the_limits_can_be_used(field, value) -> None:
    assert getattr(Options(**{field: value}), field) == value


def test_a_transform_is_an_augmentation() -> None:
    assert Options(augment=abs).augment is abs


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


# Documents


FILLED = {
    "backbone": "timm:test_resnet",
    "weights": FILE,
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
    "strategy": presets.create("gradual"),
    "head": "mlp:8,dropout=0.5/0.3",
    "epochs": 3,
    "lr": 1e-3,
    "augment": "strong",
    "symmetry": "square",
    "average": "flip",
    "views": 2,
    "train": {"optimizer": "sgd", "clip": "none", "ema": 0.9},
    "size": 64,
    "resize": "pad",
    "split": (0.5, 0.25, 0.25),
    "limit": 100,
    "limit_per_class": 10,
    "class_weights": "balanced",
    "seed": 3,
    "split_seed": 4,
    "device": "cpu",
    "precision": "bf16",
    "batch_size": 8,
    "refit": False,
    "save_minutes": 1.5,
    "max_bad": 0.5,
    "minimum": {"accuracy": 0.9},
    "allow_noncommercial": True,
}


def through_json(options: Options) -> Options:
    return Options.from_dict(json.loads(json.dumps(options.to_dict(), allow_nan=False)))


def test_the_table_has_every_field_and_no_default() -> None:
    assert set(FILLED) == {field.name for field in fields(Options)}
    assert not [name for name, value in FILLED.items() if getattr(Options(), name) == value]


@pytest.mark.parametrize("name", [name for name in FILLED if name not in ("mean", "std")])
def test_every_option_goes_through_json(name) -> None:
    options = Options(**{name: FILLED[name]})
    again = through_json(options)
    assert again == options
    assert type(getattr(again, name)) is type(getattr(options, name))


def test_all_options_go_through_json_together() -> None:
    assert through_json(Options(**FILLED)) == Options(**FILLED)
    assert through_json(Options()) == Options()


def test_a_transform_from_python_is_named_and_refused() -> None:
    document = json.loads(json.dumps(Options(augment=abs).to_dict()))
    assert "abs" in document["augment"]["transform"]
    with pytest.raises(UsageError, match="a transform given from Python") as raised:
        Options.from_dict(document)
    assert raised.value.field == "augment"
    assert "headstart.fit" in raised.value.hint
