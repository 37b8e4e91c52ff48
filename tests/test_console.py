"""Data to stdout, talk to stderr, a bar only on a terminal."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart import console
from headstart.metrics import Metric
from reports import IN_IT, OVER, SHORTENED, ladder, report, solved, trained, training

PATH = {"precision": "bf16", "device": "cpu", "reason": "native bf16 (avx512_bf16)"}
EVENTS = [
    {"event": "stage", "seconds": 0.0, "stage": "read"},
    {"event": "progress", "seconds": 0.1, "stage": "read", "done": 50, "total": 100},
    {"event": "progress", "seconds": 0.2, "stage": "read", "done": 100, "total": 100},
    {"event": "plan", "seconds": 1.0, "lines": ["data      cats", "split     some"]},
    {"event": "stage", "seconds": 1.1, "stage": "features"},
    {"event": "progress", "seconds": 2.0, "stage": "features", "done": 32, "total": 100},
    {"event": "progress", "seconds": 9.0, "stage": "features", "done": 100, "total": 100},
    {"event": "features", "seconds": 9.0, "computed": 100, "remembered": 1234, "path": PATH},
    {"event": "stage", "seconds": 9.1, "stage": "train"},
    {"event": "phase-start", "seconds": 9.2, "phase": 1, "kind": "solve"},
    {"event": "phase", **solved(penalty=3000.0, chosen_by="log loss on val"), "seconds": 12.3},
    {"event": "stage", "seconds": 12.4, "stage": "evaluate"},
    {"event": "done", "seconds": 13.0, "run": "runs/x", "already": False},
]


def test_data_and_talk_go_their_own_ways(capsys):
    console.put("one", "two")
    console.put_json({"a": [1, None, "\udcff"]})
    console.talk("three")
    out, err = capsys.readouterr()
    assert out.startswith("one\ntwo\n")
    assert json.loads(out.removeprefix("one\ntwo\n")) == {"a": [1, None, "\udcff"]}
    assert err == "three\n"


def test_names_steer_no_terminal(capsys):
    console.put("a\x1b[31m\x9b\u202eb\r", "tab\tand\nlines stay; so do ü and \u200d")
    console.talk("c\x07\x7f")
    out = "a\\x1b[31m\\x9b\\u202eb\\r\ntab\tand\nlines stay; so do ü and \u200d\n"
    assert capsys.readouterr() == (out, "c\\x07\\x7f\n")
    assert console.one_line("a\nb\tc") == r"a\nb\tc"


def test_json_never_holds_what_json_has_not():
    with pytest.raises(ValueError, match="nan"):
        console.put_json({"a": math.nan})


def test_piped_talk_is_a_line_a_stage(capsys):
    with console.Progress() as progress:
        for event in EVENTS:
            progress(event)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "data      cats",
        "split     some",
        "   1.1 s  computing features",
        "   9.0 s  100 computed, 1,234 remembered; bf16 on cpu (native bf16 (avx512_bf16))",
        "   9.2 s  phase 1: solving the head",
        "  12.3 s  penalty 3000, chosen by log loss on val",
        "  12.4 s  evaluating",
    ]


def test_a_terminal_gets_a_bar_that_goes_away(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with console.Progress() as progress:
        for event in EVENTS:
            progress(event)
    err = capsys.readouterr().err
    assert "checking the images" in err
    assert "computing features:" in err
    assert "/100 [" in err
    last = err.split("\r")[-1]
    assert last.splitlines()[-1].endswith("evaluating")
    assert "%|" not in last


VAL = {"accuracy": 0.875, "log_loss": 0.3, "ece": 0.1}
EPOCH = {"event": "epoch", "phase": 2, "rates": {"head": 1e-3}}
STEPS = {"event": "progress", "stage": "epoch", "phase": 2, "epoch": 1, "total": 40}
VIEWS = {**STEPS, "stage": "views", "total": 500}
TRAINING = [
    {"event": "phase-start", "seconds": 5.4, "phase": 2, "kind": "train"},
    {**EPOCH, "seconds": 5.6, "epoch": 0, "loss": None, "val": VAL, "took": 0.12},
    {**VIEWS, "seconds": 5.7, "done": 32},
    {"event": "views", "seconds": 6.0, "phase": 2, "view": 1, "computed": 500},
    {**STEPS, "seconds": 6.1, "done": 1},
    {"event": "step", "seconds": 6.1, "phase": 2, "epoch": 1, "step": 1, "loss": 0.5, "rates": {}},
    {**STEPS, "seconds": 7.9, "done": 40},
    {**EPOCH, "seconds": 8.0, "epoch": 1, "loss": 0.28125, "val": VAL, "took": 2.4},
    {"event": "checkpoint", "seconds": 8.1, "phase": 2, "epoch": 1},
    {**STEPS, "seconds": 8.3, "epoch": 2, "done": 3},
    {**EPOCH, "seconds": 9.0, "epoch": 2, "loss": 0.25, "val": None, "took": 0.9},
    {"event": "phase", **trained(2, 2, best=1), "seconds": 3.6},
]


def test_piped_training_is_a_line_an_epoch(capsys):
    with console.Progress() as progress:
        for event in TRAINING:
            progress(event)
    assert capsys.readouterr().err.splitlines() == [
        "   5.4 s  phase 2: training",
        "   5.6 s  epoch   0  start        val accuracy 0.875, log loss 0.300  (0.1 s)",
        "   8.0 s  epoch   1  loss 0.2812  val accuracy 0.875, log loss 0.300  (2.4 s)",
        "   9.0 s  epoch   2  loss 0.2500  (0.9 s)",
        "          kept epoch 1, best log loss on val",
    ]


def test_a_terminal_gets_a_bar_within_each_epoch(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with console.Progress() as progress:
        for event in TRAINING:
            progress(event)
    err = capsys.readouterr().err
    places = [
        err.index(text)
        for text in (
            "phase 2, epoch 1: views behind the frozen blocks:",
            "0/500 [",
            "phase 2, epoch 1:   0%",
            "0/40 [",
            "loss 0.2812",
            "phase 2, epoch 2:   0%",
            "loss 0.2500",
        )
    ]
    assert places == sorted(places)
    assert "? steps/s" in err
    last = err.split("\r")[-1]
    assert last.splitlines()[-1] == "          kept epoch 1, best log loss on val"
    assert "%|" not in last


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"event": "stopped", "why": "patience", "epoch": 8},
            "stopped after epoch 8: val no longer improved",
        ),
        (
            {
                "event": "stopped",
                "why": "not-finite",
                "what": "gradient",
                "epoch": 2,
                "step": 14,
                "files": ["a.png", "b.png"],
            },
            "stopped in epoch 2, step 14: the gradient is not finite; that step was not taken. "
            "Its images: a.png, b.png",
        ),
        (
            {"event": "stopped", **OVER},
            "ended after epoch 4 of 6: another epoch takes 31.2 s, and 13 s were left",
        ),
        (
            {"event": "stopped", **IN_IT},
            "ended in epoch 2 of 6, after step 3 of 30: the time was over",
        ),
        (
            {"event": "shortened", **SHORTENED},
            "shortened from 20 to 6 epochs to end in time: after epoch 2, 130 s were left, and an "
            "epoch takes 31.2 s",
        ),
        ({"event": "predicted", "took": 90.4}, "phase 2 will take about 90 s"),
        ({"event": "predicted", "took": 200.0}, "phase 2 will take about 3 minutes"),
        (
            {"event": "memory", "parts": 4, "images": 8},
            "out of memory: going on with 8 images at once, same gradients",
        ),
        (
            {"event": "memory", "parts": 32, "images": 1},
            "out of memory: going on with 1 image at once, same gradients",
        ),
        (
            {"event": "resume", "notes": ["000012.json is damaged, took 000011.json"]},
            "going on in phase 2; 000012.json is damaged, took 000011.json",
        ),
    ],
)
def test_what_goes_otherwise_than_planned_is_said(capsys, event, said):
    console.Progress()({"seconds": 61.25, "phase": 2, **event})
    assert capsys.readouterr().err == f"  61.2 s  {said}\n"


def test_decoding_and_unknown_stages_have_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with console.Progress() as progress:
        progress({"event": "progress", "seconds": 0.1, "stage": "decode", "done": 5, "total": 50})
        progress.bar("predict")(1, 10)
        progress.bar("pairs")(9, 90)
    err = capsys.readouterr().err
    for begun in ("decoding the images:   0%", "predict:   0%", "comparing likely copies:   0%"):
        assert begun in err
    assert " pairs/s" in err


def test_the_summary_says_what_was_kept_and_why_it_stopped():
    stopped = {"why": "patience", "epoch": 8}
    lines = console.summary(training(solved(), trained(2, 8, best=5, stopped=stopped)))
    assert "phase 2: kept epoch 5, best log loss on val" in lines
    assert any(line.startswith("Phase 2 stopped early, after epoch 8 of 20") for line in lines)


def test_the_summary_tells_of_phases_that_were_tried_and_left_out():
    lines = console.summary(ladder())
    assert any(line.startswith("phase 2: kept epoch 6") for line in lines)
    for begin in ("Phase 3 was tried and not kept: of 120", "Phase 4 was left out: no time"):
        assert any(line.startswith(begin) for line in lines)


def test_an_error_in_the_middle_of_a_bar_clears_it(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    progress = console.Progress()

    def stopped():
        with progress:
            progress.bar("predict")(1, 10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert capsys.readouterr().err.split("\r")[-1].strip() == ""


def test_a_run_that_was_done_before_is_told(capsys):
    console.Progress()({"event": "done", "seconds": 1.0, "run": "x", "already": True})
    assert "already done" in capsys.readouterr().err


def test_the_summary_has_every_metric_with_its_interval():
    made = report()
    lines = console.summary(made)
    text = "\n".join(lines)
    for metric in made.test.values():
        assert f"{metric.value:.3f}  ({metric.low:.3f} to {metric.high:.3f})" in text
    assert "n = 120" in lines[0]
    assert "95 % interval" in lines[0]
    assert "penalty 0.1, chosen by log loss on val (120 images)" in lines
    assert "judged once on 120 test images; 130.0 s in all" in lines[-1]


def test_a_summary_without_val_leaves_it_out():
    nothing = Metric(None, None, None, 0)
    made = report()
    made = report(val=dict.fromkeys(made.val, nothing))
    assert not any(line.startswith("val") for line in console.summary(made))


def test_what_was_not_measured_is_said():
    lines = console.scores_table("all", {"accuracy": Metric(None, None, None, 0)})
    assert lines[1].endswith("not measured")


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
def test_predictions_come_back_from_their_table(name):
    shares = {"cat": 0.25, name or "x": 0.75}
    row = {"path": name, "label": "cat", "probability": 0.25, "probabilities": shares}
    text = console.predictions_csv(list(shares), [row])
    header, read = csv.reader(io.StringIO(text))
    assert header == ["path", "label", "probability", *shares]
    assert read == [name, "cat", "0.250000", *(f"{share:.6f}" for share in shares.values())]
