"""The commands fit and resume, end to end: what they print, write and return."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from audit import watched
from commands import EXTRACTION, RUN_FILES, rows_of, start, without
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
    "auto",
    "parameters",
    "split",
    "classes",
    "val",
    "test",
    "without_copies",
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
    *("--allow-partial", "--column", "--root", "--nested", "--classes", "--group-by", "--test"),
    *("--head", "--epochs", "--lr", "--augment", "--symmetry", "--average", "--views", "--train"),
    *(
        "--budget",
        "--fold",
        "--split-seed",
        "--no-refit",
        "--no-audit",
        "--save-minutes",
        "--dry-run",
        "--json",
        "--debug",
    ),
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
    assert document["command"].endswith("--precision fp32 --strategy feature-extraction")


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
        *("phase-start", "phase", "stage", "stage", "done"),
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
        (["--fold", "2/4"], "plan.split.n_test", 18),
        (["--limit", 10], "plan.split.n_train", 10),
        (["--limit-per-class", 2], "plan.split.n_train", 6),
        (["--class-weights", "balanced"], "plan.class_weights", "balanced"),
        (["--seed", 7], "plan.seed", 7),
        (["--device", "cpu"], "plan.path.device", "cpu"),
        (["--precision", "bf16"], "plan.path.precision", "bf16"),
        (["--batch-size", 5], "plan.path.batch_size", 5),
        (["--classes", "owl,cat"], "plan.task.classes", ["owl", "cat"]),
        (["--classes", "owl,cat"], "plan.data.n", 48),
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
        (["--fold", "1/4"], {"split"}),
        (["--resize", "pad"], {"backbone"}),
        (["--class-weights", "balanced"], {"class_weights"}),
        (["--classes", "owl,dog,cat"], {"task"}),
        (["--classes", "cat,dog,owl"], set()),
        (["--nested"], set()),
        (["--group-by", r"(\d)\.jpg"], {"data", "split"}),
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


def test_a_split_is_given_as_a_table(command, photos, tiny, tmp_path):
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.rglob("*.jpg"))]
    parts = [("train", "train", "val", "test")[n % 4] for n in range(len(names))]
    table = tmp_path / "mine.csv"
    table.write_text("\n".join(["name,split", *map(",".join, zip(names, parts, strict=True))]))
    ask = ("fit", photos, *tiny, "--split", table, "--dry-run", "--json")
    split = command(*ask).document["plan"]["split"]
    for part in ("train", "val", "test"):
        assert split[f"n_{part}"] == parts.count(part)
    table.write_text("\n".join(table.read_text().splitlines()[:-2]))
    error = command(*ask)
    assert error.code == 3
    assert f"2 of {len(names)} images are not in {table}: {names[-2]}" in str(error.document)


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
    arguments = ["fit", photos, *EXTRACTION, "--backbone", "timm:convnextv2_atto.fcmae_ft_in1k"]
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


def test_a_dry_run_of_auto_says_where_its_choices_are_told(command, photos, tiny_network):
    result = command("fit", photos, *tiny_network, "--dry-run")
    assert result.code == 0
    assert "strategy  auto: facts are measured" in result.out
    assert result.out.splitlines()[-1] == f"What it would choose, and why: headstart plan {photos}"
    assert "[[phases]]" not in result.out  # its steps are not known yet


# Ways in


@pytest.fixture
def at(photos, tmp_path, monkeypatch) -> Path:
    """A folder of a test's own, which it works in, with a copy of the pictures."""
    shutil.copytree(photos, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parts_of(run: Path) -> dict[str, str]:
    return {row["item"]: row["split"] for row in rows_of(run / "predictions.csv")}


def test_a_zip_file_gives_the_run_of_its_folder(command, at, own_cache, tiny):
    shutil.make_archive("photos", "zip", ".", "photos")
    shutil.make_archive("bare", "zip", "photos")
    assert command("fit", "photos", *tiny, "--out", "folder").code == 0
    for name in ("photos", "bare"):
        result = command("fit", f"{name}.zip", *tiny, "--out", name + "-run")
        assert result.code == 0, result.err
        assert "0 computed, 72 remembered" in result.err
        assert parts_of(Path(name + "-run")) == parts_of(Path("folder"))
    spec = json.loads(Path("photos-run/spec.json").read_text())["spec"]
    assert spec == json.loads(Path("folder/spec.json").read_text())["spec"]
    assert command("resume", "photos-run").code == 0
    scores = command("evaluate", "folder", "photos.zip", "--json").document
    assert scores["metrics"]["accuracy"]["n"] == 72


def test_m3_a_zip_file_that_means_harm_is_refused(command, at, own_cache, tiny):
    with zipfile.ZipFile("evil.zip", "w") as archive:
        archive.write("photos/cat/0.jpg", "cat/0.jpg")
        archive.write("photos/dog/0.jpg", "../../dog/0.jpg")
    message = command("fit", "evil.zip", *tiny, "--out", "run").refusal(3)
    assert "its entry '../../dog/0.jpg': its path leads out of the archive" in message
    assert not Path("run").exists()
    assert not [*own_cache.rglob("*.jpg")]


def test_classes_are_used_in_the_order_given(command, at, tiny):
    result = command("fit", "photos", "--classes", "owl,cat", *tiny, "--out", "run")
    assert "1 other class with 24 images left out by --classes: dog." in result.err
    report = json.loads(Path("run/report.json").read_text())
    assert report["classes"] == ["owl", "cat"]
    rows = rows_of(Path("run/predictions.csv"))
    assert list(rows[0])[4:] == ["owl", "cat"]
    assert {row["label"] for row in rows} == {"owl", "cat"}
    assert len(rows) == 48


@pytest.mark.parametrize(
    ("options", "code", "found"),
    [
        (["--classes", "owl,cta"], 2, ["named 'cta'", "Did you mean cat?"]),
        (["--classes", "owl"], 3, ["found 1 class (owl); need 2+", "--classes"]),
        (["--classes", "owl,fox"], 3, ["no image is in the folder of fox"]),
        (["--classes", ","], 2, ["--classes", "names with commas between"]),
        (["--group-by", "("], 2, ["--group-by", "regular expression"]),
        (["--group-by", "part"], 2, ["matches nothing", "cat/0.jpg"]),
        (["--group-by", "jpg"], 2, ["in every name"]),
        (["--test", "photos"], 2, ["--test holds 72 images that DATA has too"]),
        (["--test", "phtos"], 2, ["Did you mean photos?"]),
        (["--column", "label=species"], 2, ["--column is about", "photos has none"]),
        (["--column", "species"], 2, ["--column must be name=column"]),
        (["--column", "kind=species"], 2, ["path, label, split, group, weight"]),
        (["--root", "."], 2, ["--root is about"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_chosen_is_refused(command, at, tiny, options, code, found):
    Path("photos/fox").mkdir()
    message = command("fit", "photos", *tiny, *options, "--out", "run").refusal(code)
    for text in found:
        assert text in message, message
    assert not Path("run").exists()


def test_groups_stay_on_one_side(command, at, tiny):
    result = command("fit", "photos", "--group-by", r"(\d)\.jpg", *tiny, "--out", "run")
    assert r"10 groups by '(\d)\.jpg'; the largest has 9 images." in result.err
    sides: dict[str, set[str]] = {}
    for name, part in parts_of(Path("run")).items():
        sides.setdefault(name[-5], set()).add(part)
    assert all(len(side) == 1 for side in sides.values())
    assert set().union(*sides.values()) == {"train", "val", "test"}


def test_another_source_is_the_test(command, at, tiny):
    write_photos(at / "others", classes=("owl", "cat", "dog"), each=4, side=40)
    shutil.make_archive("others", "zip", "others")
    for name in ("others", "others.zip"):
        run = Path(f"run-{name}")
        result = command("fit", "photos", "--test", name, *tiny, "--out", run)
        assert result.code == 0, result.err
        parts = parts_of(run)
        tested = sorted(item for item, part in parts.items() if part == "test")
        expected = [f"test/{kind}/{n}.jpg" for kind in ("cat", "dog", "owl") for n in range(4)]
        assert tested == expected
        assert {part for item, part in parts.items() if item not in expected} == {"train", "val"}
        assert len(parts) == 72 + 12


def test_nested_classes_are_those_of_predictions(command, at, tiny):
    Path("photos/pets").mkdir()
    for name in ("cat", "dog"):
        shutil.move(f"photos/{name}", f"photos/pets/{name}")
    result = command("fit", "photos", "--nested", *tiny, "--out", "run")
    assert result.code == 0, result.err
    assert json.loads(Path("run/report.json").read_text())["classes"] == [
        *("owl", "pets/cat", "pets/dog"),
    ]
    flat = command("fit", "photos", *tiny, "--dry-run", "--json").document["plan"]
    assert flat["task"]["classes"] == ["owl", "pets"]


def test_a_table_with_columns_of_its_own_and_a_root(command, at, tiny):
    rows = ["file;kind", *(f"{n}.jpg;{k}" for k in ("cat", "dog") for n in range(20))]
    lines = [rows[0], *(f"{row.split(';')[1]}/{row}" for row in rows[1:])]
    Path("tables").mkdir()
    Path("tables/labels.csv").write_text("\n".join(lines))
    columns = ["--column", "path=file", "--column", "label=kind", "--root", "photos"]
    result = command("fit", "tables/labels.csv", *columns, *tiny, "--out", "run")
    assert result.code == 0, result.err
    assert len(parts_of(Path("run"))) == 40


ODD_NAMES = (
    *(" two  spaces .jpg", "\U0001f408.jpg", "caf\u00e9.jpg", "cafe\u0301.jpg", "line\nbreak.jpg"),
    *("-rf.jpg", "x" * 251 + ".jpg", os.fsdecode(b"\xff\xfe.jpg"), 'a "quoted", one.jpg'),
    *("tab\t.jpg", "return\r.jpg", "%s{0}$HOME.jpg"),
)


def test_d13_names_of_any_kind_come_through_every_file(command, tiny, tmp_path):
    data = write_photos(tmp_path / "data", each=len(ODD_NAMES), side=32)
    for folder in data.iterdir():
        for number, name in enumerate(ODD_NAMES):
            (folder / f"{number}.jpg").rename(folder / name)
    expected = {f"{kind}/{name}" for kind in ("cat", "dog") for name in ODD_NAMES}
    out = tmp_path / "run"
    result = command("fit", data, *tiny, "--out", out, "--json")
    assert result.code == 0, result.err
    assert set(parts_of(out)) == expected
    assert result.document == json.loads((out / "report.json").read_text())
    predicted = command("predict", out, data, "--json", "--csv", tmp_path / "p.csv").document
    assert {row["path"] for row in predicted["predictions"]} == {f"{data}/{n}" for n in expected}
    assert {row["path"] for row in rows_of(tmp_path / "p.csv")} == {f"{data}/{n}" for n in expected}
    assert (out / "report.html").stat().st_size > 0


@pytest.mark.slow
def test_d13_names_of_any_kind_can_be_classes(command, tiny, tmp_path):
    data = write_photos(tmp_path / "data", each=10, side=32)
    (data / "cat").rename(data / "-rf \n'\U0001f408', \"x\"")
    (data / "dog").rename(data / os.fsdecode(b"\xff\xfe"))
    out = tmp_path / "run"
    process = start("fit", data, *tiny, "--out", out, "--json", errors="surrogateescape")
    printed, talk = process.communicate()
    assert process.returncode == 0, talk
    names = sorted(path.name for path in data.iterdir())
    assert json.loads(printed)["classes"] == names
    assert {row["label"] for row in rows_of(out / "predictions.csv")} == set(names)
    assert command("evaluate", out, data, "--json").code == 0


# What auto chooses


@pytest.mark.slow
def test_auto_says_what_it_decides_and_ends_with_the_report(
    command, photos, tiny_network, tmp_path
):
    out = tmp_path / "run"
    asked = ("fit", photos, "--out", out, *tiny_network, "--budget", "1h")
    result = command(*asked)
    assert result.code == 0
    assert result.out.splitlines()[-1] == str(out / "report.html")
    before, decided, after = result.err.partition("decided   in ")
    assert "strategy  auto: facts are measured on some training images" in before
    for question in ("resize: ", "symmetry: ", "weights: pre-trained", "everything: "):
        assert f"\n  {question}" in decided + after
    assert "in all about" in after
    assert "of 1 h allowed" in after
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert files == RUN_FILES | {"plan.json"}
    document = json.loads((out / "report.json").read_text())
    assert document["strategy"]["name"] == "auto"
    again = command(*asked)
    assert (again.code, again.out) == (0, result.out)
    assert "already done" in again.err


@pytest.mark.parametrize("text", ["ten", "10", "-5m"])
def test_a_budget_without_a_unit_is_refused(command, photos, text):
    refusal = command("fit", photos, f"--budget={text}").refusal(2)
    assert "must be a time above 0 with its unit" in refusal
