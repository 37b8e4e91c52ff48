from __future__ import annotations

import json
import math
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from headstart.data.reading import Reading
from headstart.errors import ModelError, UsageError
from headstart.files import file_digest, write_json
from headstart.options import (
    AUGMENTATIONS,
    AUTO,
    DEFAULT_BACKBONE,
    GATES,
    SYMMETRIES,
    Options,
)
from headstart.strategy import names

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
    ("budget", 0.0),
    ("budget", -1.0),
    ("budget", math.inf),
    ("budget", math.nan),
    ("views", -1),
    ("augment", "heavy"),
    ("symmetry", "round"),
    ("average", "all"),
    ("seed", -1),
    ("split_seed", -1),
    *(("fold", text) for text in ("5", "0/5", "6/5", "1/1")),
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
    assert (options.strategy, options.backbone, options.average) == (AUTO, AUTO, AUTO)
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


@pytest.mark.parametrize("split", [(0.7, 0.15, 0.15), Path("split.csv")])
def test_a_fold_and_a_split_exclude_each_other(split) -> None:
    with pytest.raises(UsageError, match="--fold decides the split; leave --split out") as raised:
        Options(fold="2/5", split=split)
    assert raised.value.field == "fold"


@pytest.mark.parametrize("field", ["mean", "std"])
def test_mean_and_std_describe_a_file_of_weights(field) -> None:
    assert getattr(Options(weights=FILE, **{field: (0.5, 0.5, 0.5)}), field) == (0.5, 0.5, 0.5)
    with pytest.raises(UsageError, match="--weights"):
        Options(**{field: (0.5, 0.5, 0.5)})
    for numbers in ((0.5, 0.5), (math.nan, 0.5, 0.5), (0.5, math.inf, 0.5)):
        with pytest.raises(UsageError, match=f"--{field} must be one number or three"):
            Options(weights=FILE, **{field: numbers})


@pytest.mark.parametrize("given", [0.5, (0.5,), [0.5], np.float32(0.5), [0.5, 0.5, 0.5]])
def test_one_number_stands_for_all_three_channels(given) -> None:
    options = Options(weights=FILE, mean=given, std=given)
    assert options.mean == options.std == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("given", ["0.5", "abc", (), (0.5, "0.5", 0.5), (None,)])
def test_words_are_no_numbers(given) -> None:
    with pytest.raises(UsageError, match="--mean must be one number or three"):
        Options(weights=FILE, mean=given)


def test_weights_may_be_named_by_a_string(tmp_path) -> None:
    assert Options(weights=str(FILE)).weights == FILE
    assert Options(weights=str(FILE)) == Options(weights=FILE)
    with pytest.raises(ModelError, match="without a finished classifier"):
        Options(weights=str(tmp_path))


def test_a_part_is_of_a_file_of_weights() -> None:
    assert Options(weights=FILE, allow_partial=True).allow_partial
    with pytest.raises(UsageError, match=r"--allow-partial .* needs --weights") as raised:
        Options(allow_partial=True)
    assert raised.value.field == "allow-partial"


def test_the_backbone_is_the_one_that_is_named_or_the_earlier_runs_or_the_default(tmp_path) -> None:
    named = Options(strategy="feature-extraction")
    assert named.backbone == Options(weights=FILE).backbone == DEFAULT_BACKBONE
    assert Options(weights=FILE, strategy="fine-tune").backbone == DEFAULT_BACKBONE
    with pytest.raises(ModelError, match="without a finished classifier"):
        Options(weights=tmp_path)
    document = {
        "architecture": {"zoo": "timm", "name": "test_vit.r160_in1k", "architecture": "test_vit"},
        "origin": {"licence": None},
    }
    write_json(tmp_path / "headstart.json", document)
    (tmp_path / "model.safetensors").write_bytes(b"")
    signed = ("headstart.json", "model.safetensors")
    files = {name: file_digest(tmp_path / name) for name in signed}
    write_json(tmp_path / "MANIFEST.json", {"files": files})
    options = Options(weights=tmp_path)
    assert options.backbone == "timm:test_vit.r160_in1k"
    assert replace(options, weights=None).backbone == options.backbone  # as scratch needs it
    assert Options(weights=tmp_path, backbone=DEFAULT_BACKBONE).backbone == DEFAULT_BACKBONE


def test_what_is_left_to_auto_is_auto_and_what_is_named_stays() -> None:
    options = Options(strategy=AUTO)
    assert (options.backbone, options.average) == (AUTO, AUTO)
    assert Options(strategy="fine-tune").average == "none"
    for strategy in (AUTO, "fine-tune"):
        named = Options(strategy=strategy, backbone="timm:test_resnet", average="flip")
        assert (named.backbone, named.average) == ("timm:test_resnet", "flip")


@pytest.mark.parametrize("field", ["backbone", "average"])
@pytest.mark.parametrize("strategy", ["fine-tune", names.create("auto")])
def test_only_the_strategy_auto_can_choose(field, strategy) -> None:
    with pytest.raises(UsageError, match=f"--{field} .*auto") as raised:
        Options(strategy=strategy, **{field: AUTO})
    assert raised.value.field == field


def test_weights_are_of_a_network_that_is_named() -> None:
    with pytest.raises(UsageError, match="must be named where --weights are given") as raised:
        Options(weights=FILE, backbone=AUTO)
    assert raised.value.field == "backbone"


# How the images are read


@pytest.mark.parametrize(
    ("field", "value", "option", "shown"),
    [
        ("columns", {"lable": "species"}, "column", "lable"),
        ("columns", {"label": ""}, "column", "label"),
        ("columns", {"label": "a", "group": "a"}, "column", "'a'"),
        ("classes", (), "classes", "names"),
        ("classes", ("cats", ""), "classes", "names"),
        ("classes", ("cats", "dogs", "cats"), "classes", "'cats' twice"),
        ("group_by", "part(", "group-by", "'part('"),
    ],
)
def test_a_reading_that_no_source_can_mend_is_refused(field, value, option, shown) -> None:
    with pytest.raises(UsageError) as raised:
        Options(**{field: value})
    assert raised.value.field == option
    assert f"--{option} " in raised.value.message
    assert shown in raised.value.message


def test_the_reading_is_that_of_the_options() -> None:
    names = ("columns", "root", "nested", "classes", "group_by", "test")
    assert Options().reading == Reading()
    assert Options(**{name: FILLED[name] for name in names}).reading == Reading(
        **{name: FILLED[name] for name in names}
    )


def test_a_reading_from_python_may_be_of_other_types() -> None:
    options = Options(root="images", test=Path("other"), classes=["b", "a"])
    assert (options.root, options.test, options.classes) == (Path("images"), "other", ("b", "a"))
    assert Options(classes="cats").classes == ("cats",)


def test_another_test_part_is_a_source_by_name() -> None:
    assert Options(test="elpv").test == "elpv"
    assert Options(test=Path("elpv")).test == "./elpv"
    with pytest.raises(UsageError, match="must be a path or the name of a data set, not list") as e:
        Options(test=[(np.zeros((4, 4), np.uint8), 0)])
    assert e.value.field == "test"
    assert '{"train": …, "test": …}' in str(e.value)


# Documents


FILLED = {
    "backbone": "timm:test_resnet",
    "weights": FILE,
    "allow_partial": True,
    "mean": (0.1, 0.2, 0.3),
    "std": (0.4, 0.5, 0.6),
    "strategy": names.create("gradual"),
    "budget": 90.0,
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
    "fold": "2/5",
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
    "audit": False,
    "columns": {"label": "species", "group": "patient"},
    "root": Path("images"),
    "nested": True,
    "classes": ("dogs", "cats, small"),
    "group_by": r"part(\d+)",
    "test": "other/photos.zip",
    "minimum": {"accuracy": 0.9},
    "allow_noncommercial": True,
}


def through_json(options: Options) -> Options:
    return Options.from_dict(json.loads(json.dumps(options.to_dict(), allow_nan=False)))


OF_WEIGHTS = ("mean", "std", "allow_partial")  # which need them


def test_the_table_has_every_field_and_no_default() -> None:
    assert set(FILLED) == {field.name for field in fields(Options)}
    assert not [name for name, value in FILLED.items() if getattr(Options(), name) == value]


@pytest.mark.parametrize("name", [name for name in FILLED if name not in OF_WEIGHTS])
def test_every_option_goes_through_json(name) -> None:
    options = Options(**{name: FILLED[name]})
    again = through_json(options)
    assert again == options
    assert type(getattr(again, name)) is type(getattr(options, name))


def test_all_options_go_through_json_together() -> None:
    for left_out in ("split", "fold"):  # of which only one can be given
        options = Options(**{**FILLED, left_out: None})
        assert through_json(options) == options
    assert through_json(Options()) == Options()


def test_a_split_may_be_a_table() -> None:
    options = Options(split="runs/x/split.csv")
    assert options.split == Path("runs/x/split.csv")
    assert through_json(options) == options


def test_a_transform_from_python_is_named_and_refused() -> None:
    document = json.loads(json.dumps(Options(augment=abs).to_dict()))
    assert "abs" in document["augment"]["transform"]
    with pytest.raises(UsageError, match="a transform given from Python") as raised:
        Options.from_dict(document)
    assert raised.value.field == "augment"
    assert "headstart.fit" in raised.value.hint
