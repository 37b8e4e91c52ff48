"""The main job from Python: what is computed, what is remembered, what is written when."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import headstart
from commands import tree
from headstart.cache import Cache
from headstart.errors import DataError, GateMissed, UsageError
from headstart.options import Options
from headstart.training import features
from pictures import picture, write_photos


class Counter:
    """How many images were decoded and how many rows went through a network."""

    def __init__(self) -> None:
        self.decoded = 0
        self.forwarded = 0


@pytest.fixture
def counter(monkeypatch) -> Counter:
    """Count what ``headstart.training.features`` has decoded and computed."""
    counter = Counter()
    load, forward = features.load, features.Forward

    def counted(sources, *arguments, **options):
        counter.decoded += len(sources)
        return load(sources, *arguments, **options)

    class Counted(forward):
        def __call__(self, pixels, *, pad=True):
            counter.forwarded += len(pixels)
            return super().__call__(pixels, pad=pad)

    monkeypatch.setattr(features, "load", counted)
    monkeypatch.setattr(features, "Forward", Counted)
    return counter


@pytest.fixture
def cache(tmp_path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_fit_returns_the_classifier_with_its_folder_and_its_report(photos, small, tmp_path):
    fitted = headstart.fit(photos, tmp_path / "run", **small)
    assert fitted.folder == tmp_path / "run"
    assert fitted.classes == ("cat", "dog", "owl")
    assert fitted.report.to_dict() == json.loads((fitted.folder / "report.json").read_text())
    images = [photos / "cat" / "1.jpg", picture(2, 77), np.asarray(picture(1, 3))]
    loaded = headstart.load(fitted.folder)
    assert [p.label for p in fitted.predict(images)] == [p.label for p in loaded.predict(images)]
    assert np.array_equal(fitted.predict_proba(images), loaded.predict_proba(images))


def test_a_second_fit_decodes_nothing_and_computes_nothing(photos, small, tmp_path, cache, counter):
    first = headstart.fit(photos, tmp_path / "first", cache=cache, **small)
    assert (counter.decoded, first.report.engine["images_computed"]) == (72, 72)
    assert counter.forwarded == 72
    changes = [
        {"seed": 1},
        {"split": (0.4, 0.3, 0.3)},
        {"class_weights": "balanced"},
        {"limit": 12},
    ]
    for number, change in enumerate(changes):
        again = headstart.fit(photos, tmp_path / str(number), cache=cache, **small | change)
        assert again.report.engine["images_computed"] == 0
    assert (counter.decoded, counter.forwarded) == (72, 72)


def test_ten_new_images_cost_ten(photos, small, tmp_path, cache, counter):
    data = Path(shutil.copytree(photos, tmp_path / "data"))
    headstart.fit(data, tmp_path / "first", cache=cache, **small)
    before = counter.decoded, counter.forwarded
    for number in range(10):
        picture(number % 2, 200 + number).save(data / "cat" / f"new{number}.png")
    (data / "dog" / "0.jpg").rename(data / "dog" / "renamed.jpg")
    (data / "dog" / "1.jpg").unlink()
    report = headstart.fit(data, tmp_path / "second", cache=cache, **small).report
    assert report.engine["images_computed"] == 10
    assert (counter.decoded, counter.forwarded) == (before[0] + 10, before[1] + 10)
    assert report.split["n_train"] + report.split["n_val"] + report.split["n_test"] == 81


def test_what_changes_the_features_is_computed_anew(photos, small, tmp_path, cache, counter):
    headstart.fit(photos, tmp_path / "first", cache=cache, **small)
    for number, change in enumerate(
        ({"size": 32}, {"resize": "squash"}, {"precision": "bf16"}, {"batch_size": 16})
    ):
        report = headstart.fit(photos, tmp_path / str(number), cache=cache, **small | change).report
        assert report.engine["images_computed"] == 72, change


def test_a_finished_run_is_handed_out_and_nothing_computed(
    photos, small, tmp_path, cache, counter, monkeypatch
):
    first = headstart.fit(photos, tmp_path / "run", cache=cache, **small)
    before = tree(tmp_path / "run")
    cache.clear()

    def never(*_, **__):
        raise AssertionError("solved again")

    monkeypatch.setattr("headstart.fitting.solve", never)
    events = []
    again = headstart.fit(photos, tmp_path / "run", cache=cache, listener=events.append, **small)
    assert events[-1]["event"] == "done"
    assert events[-1]["already"]
    assert counter.decoded == 72
    assert again.report == first.report
    assert tree(tmp_path / "run") == before


@pytest.mark.parametrize("step", ["solve", "model_card", "mistakes", "write_text", "write_json"])
def test_a_crash_leaves_no_report_and_the_next_fit_finishes(
    photos, small, tmp_path, cache, monkeypatch, step
):
    def crash(*_, **__):
        raise RuntimeError("crash")

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(f"headstart.fitting.{step}", crash)
        with pytest.raises(RuntimeError, match="crash"):
            headstart.fit(photos, out, cache=cache, **small)
    assert (out / "spec.json").is_file()
    assert not (out / "report.json").exists()
    report = headstart.fit(photos, out, cache=cache, **small).report
    assert (out / "report.json").is_file()
    assert report.engine["images_computed"] == 0
    whole = headstart.fit(photos, tmp_path / "whole", cache=cache, **small)
    assert (out / "model" / "model.safetensors").read_bytes() == (
        whole.folder / "model" / "model.safetensors"
    ).read_bytes()
    assert not list(out.rglob("*.tmp"))


def test_cold_or_warm_the_model_is_the_same_to_the_byte(photos, small, tmp_path, cache):
    cold = headstart.fit(photos, tmp_path / "cold", cache=cache, **small)
    warm = headstart.fit(photos, tmp_path / "warm", cache=cache, **small)
    other = headstart.fit(photos, tmp_path / "other", cache=Cache(tmp_path / "cache2"), **small)
    models = {
        (fitted.folder / "model" / "model.safetensors").read_bytes()
        for fitted in (cold, warm, other)
    }
    assert len(models) == 1


def test_every_image_is_in_one_part_and_val_is_judged_by_a_head_that_has_not_seen_it(
    photos, small, tmp_path
):
    fitted = headstart.fit(photos, tmp_path / "run", **small)
    rows = rows_of(fitted.folder)
    assert sorted(row["item"] for row in rows) == sorted(
        path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")
    )
    for part, differs in (("train", False), ("val", True), ("test", False)):
        some = [row for row in rows if row["split"] == part]
        shares = fitted.predict_proba([photos / row["item"] for row in some])
        written = np.array([[float(row[name]) for name in fitted.classes] for row in some])
        assert np.allclose(shares, written, atol=1e-5) != differs, part


def test_the_numbers_of_the_report_are_those_of_the_predictions(photos, small, tmp_path):
    report = headstart.fit(photos, tmp_path / "run", **small).report
    rows = rows_of(tmp_path / "run")
    for part, metrics in (("val", report.val), ("test", report.test)):
        some = [row for row in rows if row["split"] == part]
        right = [row["label"] == row["predicted"] for row in some]
        assert metrics["accuracy"].value == pytest.approx(np.mean(right))
        losses = [-np.log(float(row[row["label"]])) for row in some]
        assert metrics["log_loss"].value == pytest.approx(np.mean(losses), abs=1e-4)
    solver = report.strategy["solver"]
    assert solver["fitted_on"] == report.split["n_train"] + report.split["n_val"]


def test_events_tell_the_story_in_order(photos, small, tmp_path, cache):
    events = []
    headstart.fit(photos, tmp_path / "run", cache=cache, listener=events.append, **small)
    story = [event["event"] for event in events if event["event"] != "progress"]
    assert story == ["stage", "plan", "stage", "features", "stage", "phase", "stage", "done"]
    stages = [event["stage"] for event in events if event["event"] == "stage"]
    assert stages == ["read", "features", "train", "evaluate"]
    for stage in ("read", "features"):
        steps = [e for e in events if e["event"] == "progress" and e["stage"] == stage]
        done = [step["done"] for step in steps]
        assert done == sorted(done)
        assert (steps[-1]["done"], steps[-1]["total"]) == (72, 72)
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == story


def test_a_missed_gate_is_told_after_the_run_is_finished(photos, small, tmp_path):
    gates = {"accuracy": 1.0, "macro_f1": 0.0}
    data = tmp_path / "data"
    for number in range(20):  # the same images under both labels: no better than a coin
        for name in ("heads", "tails"):
            (data / name).mkdir(parents=True, exist_ok=True)
            picture(0, number).save(data / name / f"{number}.png")
    with pytest.raises(GateMissed, match="accuracy is") as raised:
        headstart.fit(data, tmp_path / "run", minimum=gates, **small)
    assert "macro_f1" not in str(raised.value)
    assert str(tmp_path / "run" / "report.html") in str(raised.value)
    assert (tmp_path / "run" / "report.json").is_file()
    headstart.fit(data, tmp_path / "run", **small)


def test_when_decoding_takes_the_last_image_of_a_class_the_fit_is_refused(small, tmp_path):
    data = write_photos(tmp_path / "data", classes=("cat", "dog"), each=10)
    for file in (data / "dog").iterdir():
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="no readable training image of dog"):
        headstart.fit(data, tmp_path / "run", max_bad=0.9, **small)
    assert not (tmp_path / "run" / "report.json").exists()


def test_when_decoding_takes_all_test_images_the_fit_is_refused(small, tmp_path):
    data = tmp_path / "data"
    write_photos(data / "train", classes=("cat", "dog"), each=10)
    write_photos(data / "test", classes=("cat", "dog"), each=1)
    for file in (data / "test").rglob("*.jpg"):
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="no test image"):
        headstart.fit(data, tmp_path / "run", max_bad=0.9, **small)


def test_without_an_out_a_run_is_named_after_data_strategy_and_seed(
    photos, small, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    folders = [
        str(headstart.fit(photos, **small | change).folder)
        for change in ({}, {}, {"limit": 9}, {"seed": 4}, {"limit": 9})
    ]
    first = "runs/photos-feature-extraction-0"
    other = "runs/photos-feature-extraction-4"
    assert folders == [first, first, f"{first}-2", other, f"{first}-2"]


def test_an_empty_folder_is_fine(photos, small, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    headstart.fit(photos, str(out), **small)
    assert (out / "report.json").is_file()


def test_the_command_in_the_report_is_the_python_call_or_what_was_typed(photos, small, tmp_path):
    typed = "headstart fit photos --seed 0"
    calls = [
        headstart.fit(photos, tmp_path / str(number), command=command, **small).report.command
        for number, command in enumerate((None, typed))
    ]
    assert calls == [f"headstart.fit({str(photos)!r})", typed]


def test_an_option_that_does_not_exist_is_told(photos):
    with pytest.raises((TypeError, UsageError), match="epochs"):
        headstart.fit(photos, epochs=3)


def test_fit_takes_every_field_of_the_options(photos, small, tmp_path):
    options = vars(Options(**small))
    assert headstart.fit(photos, tmp_path / "run", **options).folder == tmp_path / "run"
