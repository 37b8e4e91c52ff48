"""The main job from Python: what is computed, what is remembered, what is written when."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import headstart
from commands import tree
from headstart.cache import Cache
from headstart.data import loader
from headstart.errors import DataError, GateMissed, UsageError
from headstart.options import Options
from headstart.training import features
from headstart.training.engine import Engine
from headstart.training.gradients import Gradients
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


@pytest.mark.slow
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

    monkeypatch.setattr("headstart.phases.solution", never)
    events = []
    again = headstart.fit(photos, tmp_path / "run", cache=cache, listener=events.append, **small)
    assert events[-1]["event"] == "done"
    assert events[-1]["already"]
    assert counter.decoded == 72
    assert again.report == first.report
    assert tree(tmp_path / "run") == before


@pytest.mark.parametrize(
    "step",
    [
        "phases.solution",
        "fitting.probabilities",
        "outcome.write_json",
        *(
            pytest.param(f"outcome.{step}", marks=pytest.mark.slow)
            for step in ("model_card", "mistakes", "write_text")
        ),
    ],
)
def test_a_crash_leaves_no_report_and_the_next_fit_finishes(
    photos, small, tmp_path, cache, monkeypatch, step
):
    def crash(*_, **__):
        raise RuntimeError("crash")

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(f"headstart.{step}", crash)
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
    assert story == [
        *("stage", "plan", "stage", "features", "stage"),
        *("phase-start", "phase", "stage", "stage", "done"),
    ]
    stages = [event["stage"] for event in events if event["event"] == "stage"]
    assert stages == ["read", "features", "train", "evaluate", "audit"]
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
    with pytest.raises((TypeError, UsageError), match="epoch_count"):
        headstart.fit(photos, epoch_count=3)


def test_fit_takes_every_field_of_the_options(photos, small, tmp_path):
    options = vars(Options(**small))
    assert headstart.fit(photos, tmp_path / "run", **options).folder == tmp_path / "run"


# Training


def losses_of(run: Path) -> list[float]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [line["loss"] for line in lines if line["event"] == "step"]


@pytest.fixture
def tune(photos, small, tmp_path, cache):
    """Fit with training; the options given change the usual ones."""

    def fit(name: str = "run", **options):
        usual = {"strategy": "last-blocks:1", "epochs": 2, "size": 32, "limit": 24}
        return headstart.fit(photos, tmp_path / name, cache=cache, **small | usual | options)

    return fit


def test_a_fit_that_trains_tells_its_story_and_writes_its_report(tune):
    events = []
    fitted = tune(listener=events.append, batch_size=8)
    story = [event["event"] for event in events if event["event"] not in ("progress", "step")]
    assert story == [
        *("stage", "plan", "stage", "features", "stage"),
        *("phase-start", "phase"),
        *("phase-start", "epoch", "views", "epoch", "checkpoint"),
        *("views", "epoch", "checkpoint", "phase"),
        *("stage", "stage", "done"),
    ]
    solved, trained = fitted.report.training
    assert (solved["kind"], trained["kind"]) == ("solve", "train")
    assert [epoch["epoch"] for epoch in trained["epochs"]] == [0, 1, 2]
    sizes = fitted.report.parameters
    assert 0 < sizes["trainable"] < sizes["total"]
    assert len(losses_of(fitted.folder)) == 6
    assert not (fitted.folder / "checkpoints").exists()
    assert "solver" not in fitted.report.strategy


def test_each_image_is_decoded_once_for_all_phases_and_epochs(tune, monkeypatch):
    decoded, decode = [], loader.decode
    monkeypatch.setattr(
        loader, "decode", lambda source, **more: decoded.append(source) or decode(source, **more)
    )
    first = tune("first", strategy="gradual")
    count = len(decoded)
    assert count == len(set(decoded)) == first.report.engine["images_computed"]
    second = tune("second", strategy="fine-tune", seed=3, split_seed=0)
    assert len(decoded) == count
    assert second.report.engine["images_computed"] == 0


def test_settings_of_training_reach_the_engine(tune):
    plain = tune("plain", batch_size=8)
    changed = tune(
        "changed",
        batch_size=8,
        lr=1e-3,
        augment="none",
        train={"optimizer": "sgd", "schedule": "constant", "label_smoothing": 0.0},
    )
    assert losses_of(plain.folder) != losses_of(changed.folder)
    lines = map(json.loads, (changed.folder / "log.jsonl").read_text().splitlines())
    rates = [line["rates"] for line in lines if line["event"] == "step"]
    assert {max(rate.values()) for rate in rates} == {1e-3}
    phase = changed.report.strategy["phases"][1]
    assert phase["train"]["optimizer"] == "sgd"
    assert phase["augment"] == "none"


def test_class_weights_reach_the_loss(tune, monkeypatch):
    given = []
    init = Engine.__init__

    def spied(self, *arguments, **options):
        given.append(options["class_weights"])
        init(self, *arguments, **options)

    monkeypatch.setattr(Engine, "__init__", spied)
    tune("plain")
    fitted = tune("balanced", class_weights="balanced")
    assert given[0] is None
    rows = [row for row in rows_of(fitted.folder) if row["split"] == "train"]
    counts = [sum(row["label"] == name for row in rows) for name in fitted.classes]
    expected = [len(rows) / (3 * count) for count in counts]
    assert given[1].tolist() == pytest.approx(expected)


def test_training_leaves_the_global_generators_alone(tune):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        np.random.seed(4)
        before, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()
        tune(
            strategy="fine-tune", head="mlp:8,dropout=0.5", augment="strong", train={"cutmix": 0.3}
        )
        assert torch.equal(torch.get_rng_state(), before)
        assert (np.random.get_state()[1] == numbers).all()


def test_one_process_fits_in_one_precision_after_the_other(tune):
    held = {"train": {"batch_norm": "hold"}}
    first = tune("first", **held)
    half = tune("half", precision="bf16", **held)
    again = tune("again", **held)
    assert losses_of(first.folder) == losses_of(again.folder)
    assert losses_of(half.folder) != losses_of(first.folder)
    assert losses_of(half.folder) == pytest.approx(losses_of(first.folder), rel=0.1)
    assert half.report.engine["precision"] == "bf16"


def test_a_transform_of_ones_own_is_used(tune):
    seen = []

    def turn(image):
        seen.append(tuple(image.shape))
        return image.rot90(1, (1, 2))

    fitted = tune("own", augment=turn, epochs=2)
    assert set(seen) == {(3, 32, 32)}
    assert len(seen) == 4 + 48  # some to try it; then in each epoch; val is judged by plain images
    assert fitted.report.training[-1]["boundary"] == 0
    assert losses_of(fitted.folder) != losses_of(tune("other", augment="none").folder)


# T9 and T10


def findings_of(run: Path, kind: str) -> list[dict]:
    report = json.loads((run / "report.json").read_text())
    return [finding for finding in report["findings"] if finding["kind"] == kind]


def test_t9_want_of_memory_is_said_once_a_halving_and_in_the_report(tune, monkeypatch):
    whole = Gradients.loss

    def loss(self, values, labels):
        if len(values) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, values, labels)

    held = {"batch_size": 8, "train": {"batch_norm": "hold"}}  # statistics are of what is computed
    plain = tune("plain", **held)
    monkeypatch.setattr(Gradients, "loss", loss)
    events = []
    fitted = tune("short", listener=events.append, **held)
    told = [(event["parts"], event["images"]) for event in events if event["event"] == "memory"]
    assert told == [(2, 4), (4, 2)]
    (finding,) = findings_of(fitted.folder, "memory")
    assert "4 parts of at most 2 images" in finding["message"]
    assert losses_of(fitted.folder) == pytest.approx(losses_of(plain.folder), abs=1e-4)


@pytest.mark.parametrize("strategy", ["fine-tune", "last-blocks:1"])
def test_t10_a_huge_rate_ends_with_a_finding_and_a_model_that_works(tune, strategy, photos):
    fitted = tune(strategy=strategy, lr=1e30, epochs=3, batch_size=8, train={"clip": None})
    (finding,) = findings_of(fitted.folder, "not-finite")
    assert "Phase" in finding["message"]
    assert "epoch 1" in finding["message"]
    assert "--lr" in finding["hint"]
    stopped = fitted.report.training[-1]["stopped"]
    assert stopped["why"] == "not-finite"
    assert finding["files"] == stopped["files"]
    assert np.isfinite(headstart.load(fitted.folder).predict_proba(photos / "cat" / "1.jpg")).all()


def test_t10_a_number_that_is_none_names_the_files_of_its_step(tune, monkeypatch):
    whole, calls = Gradients.loss, []

    def loss(self, values, labels):
        calls.append(len(values))
        return whole(self, values, labels) * (math.nan if len(calls) == 5 else 1)

    monkeypatch.setattr(Gradients, "loss", loss)
    events = []
    fitted = tune(batch_size=8, epochs=4, listener=events.append)
    (finding,) = findings_of(fitted.folder, "not-finite")
    assert "the loss was not finite in epoch 2, step 2" in finding["message"]
    assert len(finding["files"]) == 8
    train = {row["item"] for row in rows_of(fitted.folder) if row["split"] == "train"}
    assert set(finding["files"]) <= train
    assert [event["event"] for event in events].count("stopped") == 1
    assert len(calls) == 5


# What auto chooses
