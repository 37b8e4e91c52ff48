"""The commands fit and resume, end to end: what they print, write and return."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from audit import watched
from commands import RUN_FILES, rows_of, without
from headstart import __version__
from headstart.metrics import Metric
from pictures import write_noise, write_photos

METRICS = ["accuracy", "balanced_accuracy", "macro_f1", "log_loss", "ece"]
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
    "--allow-partial",
    *("--head", "--epochs", "--lr", "--augment", "--symmetry", "--average", "--views", "--train"),
    *("--split-seed", "--no-refit", "--save-minutes", "--dry-run", "--json", "--debug"),
}


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
        (["--mean", "0.5", "--std", "0.2"], "plan.backbone.input_spec.mean", [127.5] * 3),
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
        (["--allow-partial"], set()),
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
