"""The commands compare and study: what they print, write and return."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comparisons import FakeFit, fake_fits
from headstart import cli_compare, comparing
from headstart.cli_compare import parse_list
from headstart.errors import ResourceError


@pytest.fixture
def fake(monkeypatch) -> FakeFit:
    """A fit that takes no time."""
    return fake_fits(monkeypatch)


def test_compare_prints_table_verdicts_and_at_last_the_page(command, fake, photos, tmp_path):
    out = tmp_path / "c"
    result = command("compare", photos, "--strategies", "fine-tune,scratch", "--out", out)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[-1] == str(out / "comparison.html")
    assert Path(lines[-1]).is_file()
    document = json.loads((out / "comparison.json").read_text())
    assert [line.split()[0] for line in lines[1:3]] == ["fine-tune", "scratch"]
    accuracy = document["summary"][0]["accuracy"]
    shown = f"{accuracy['value']:.3f} ({accuracy['low']:.3f} to {accuracy['high']:.3f})"
    assert shown in lines[1]
    assert document["pairs"][0]["verdict"] in lines
    assert document["command"].startswith("headstart compare ")
    assert "run 1 of 6: fine-tune on bundled:efficientnet_lite0, seed 0" in result.err
    assert "  accuracy 0." in result.err


def test_compare_prints_its_document_and_nothing_else(command, fake, photos, tmp_path):
    out = tmp_path / "c"
    result = command(
        "compare", photos, "--strategies", "fine-tune", "--seeds", 1, "--out", out, "--json"
    )
    assert result.document == json.loads((out / "comparison.json").read_text())


@pytest.mark.parametrize(
    ("option", "value", "name", "expected"),
    [
        ("--epochs", 3, "epochs", 3),
        ("--lr", 0.01, "lr", 0.01),
        ("--head", "mlp:16", "head", "mlp:16"),
        ("--augment", "strong", "augment", "strong"),
        ("--size", 64, "size", 64),
        ("--resize", "pad", "resize", "pad"),
        ("--split", "0.6,0.2,0.2", "split", (0.6, 0.2, 0.2)),
        ("--split-seed", 5, "split_seed", 5),
        ("--limit", 30, "limit", 30),
        ("--limit-per-class", 9, "limit_per_class", 9),
        ("--class-weights", "balanced", "class_weights", "balanced"),
        ("--device", "cpu", "device", "cpu"),
        ("--precision", "fp32", "precision", "fp32"),
        ("--batch-size", 4, "batch_size", 4),
        ("--max-bad", "5%", "max_bad", 0.05),
        ("--classes", "owl,cat", "classes", ("owl", "cat")),
        ("--group-by", r"(\d)\.", "group_by", r"(\d)\."),
        ("--backbones", "timm:x", "backbone", "timm:x"),
    ],
)
def test_every_option_of_compare_reaches_every_fit(
    command, fake, photos, tmp_path, option, value, name, expected
):
    ask = ("--strategies", "fine-tune", "--seeds", 2, "--out", tmp_path / "c")
    assert command("compare", photos, *ask, option, value).code == 0
    assert [call[name] for call in fake.calls] == [expected] * 2


def test_noncommercial_weights_can_be_allowed(command, fake, photos, tmp_path):
    ask = ("--strategies", "fine-tune", "--seeds", 1, "--out", tmp_path / "c")
    assert command("compare", photos, *ask, "--allow-noncommercial").code == 0
    assert fake.calls[0]["allow_noncommercial"] is True


def test_a_study_can_allow_noncommercial_weights(command, fake, photos, tmp_path):
    ask = ("--seeds", 1, "--out", tmp_path / "s", "--limit", 40, "--epochs", 1)
    assert command("study", "extract-or-tune", photos, *ask, "--allow-noncommercial").code == 0
    assert {call["allow_noncommercial"] for call in fake.calls} == {True}


def test_a_study_reads_the_images_as_it_is_told(command, fake, photos, tmp_path):
    ask = ("--seeds", 1, "--out", tmp_path / "s", "--limit", 40, "--epochs", 1)
    more = ("--classes", "owl,cat", "--group-by", r"(\d+)\.", "--nested")
    assert command("study", "extract-or-tune", photos, *ask, *more).code == 0
    found = {(call["classes"], call["group_by"], call["nested"]) for call in fake.calls}
    assert found == {(("owl", "cat"), r"(\d+)\.", True)}


def test_networks_of_two_zoos_are_compared(command, photos, tmp_path):
    """No weights are needed where everything is trained from scratch."""
    networks = ["torchvision:squeezenet1_1", "timm:test_vit"]
    result = command(
        *("compare", photos, "--backbones", ",".join(networks), "--strategies", "scratch"),
        *("--seeds", 1, "--epochs", 1, "--size", 64, "--out", tmp_path / "c", "--json"),
    )
    assert result.code == 0, result.err
    rows = result.document["rows"]
    assert [row["backbone"] for row in rows] == networks
    assert all(row["failed"] is None and row["accuracy"]["n"] > 0 for row in rows)
    assert rows[0]["total"] > 2 * rows[1]["total"]
    assert len(result.document["pairs"]) == 1
    for row in rows:
        described = json.loads((tmp_path / "c" / row["run"] / "report.json").read_text())
        assert described["backbone"]["name"].startswith(row["backbone"])
        assert described["backbone"]["weights"] == "random, seed 0"


def test_a_failed_run_is_told_and_the_rest_stands(command, fake, photos, tmp_path):
    fake.broken["scratch"] = ResourceError("There is no memory left.")
    ask = ("--strategies", "scratch,fine-tune", "--seeds", 1, "--out", tmp_path / "c")
    result = command("compare", photos, *ask)
    assert result.code == 0
    assert "  failed: There is no memory left." in result.err
    assert "failed: runs/scratch-bundled-efficientnet_lite0-0: There is no memory" in result.out


def test_unknown_names_are_exit_2_and_a_foreign_folder_exit_4(command, fake, photos, tmp_path):
    assert "fine-tun" in command("compare", photos, "--strategies", "fine-tun").refusal(2)
    assert "nope" in command("study", "nope", photos).refusal(2)
    assert "needs images" in command("study", "extract-or-tune").refusal(2)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    assert "left as it is" in command("compare", photos, "--out", tmp_path / "full").refusal(4)


def test_study_list_names_them_all(command):
    lines = command("study", "list").out.splitlines()
    assert [line.split()[0] for line in lines] == ["transfer-or-scratch", "extract-or-tune"]
    document = command("study", "list", "--json").document
    assert [it["name"] for it in document["studies"]] == ["transfer-or-scratch", "extract-or-tune"]


def test_a_study_prints_its_answer_and_at_last_its_text(command, fake, photos, tmp_path):
    out = tmp_path / "s"
    ask = ("--seeds", 1, "--out", out, "--limit", 40, "--epochs", 2)
    result = command("study", "extract-or-tune", photos, *ask)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].endswith("?")
    assert lines[-1] == str(out / "README.md")
    document = json.loads((out / "study.json").read_text())
    assert document["answer"] in lines
    assert document["comparison"]["pairs"][0]["verdict"] in lines
    assert {(call["limit"], call["epochs"]) for call in fake.calls} == {(40, 2)}
    again = command("study", "extract-or-tune", photos, *ask, "--json")
    assert again.document == json.loads((out / "study.json").read_text())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b", ["a", "b"]),
        (" a , ,b", ["a", "b"]),
        ("", []),
        ("gradual:epochs=2/3/5,rates=1e-3/1e-4/1e-5,fine-tune",
         ["gradual:epochs=2/3/5,rates=1e-3/1e-4/1e-5", "fine-tune"]),
        ("last-blocks:2,norm-only", ["last-blocks:2", "norm-only"]),
    ],
)  # fmt: skip
def test_a_list_is_split_at_its_commas_but_not_inside_arguments(text, parts):
    assert parse_list(text) == parts


def test_the_default_strategies_are_those_of_the_library():
    assert tuple(parse_list(cli_compare.STRATEGIES)) == comparing.STRATEGIES
