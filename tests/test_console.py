"""Data to stdout, talk to stderr, a bar only on a terminal."""

from __future__ import annotations

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart import console
from headstart.cache import Cache
from headstart.metrics import Metric
from reports import report

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
    {"event": "phase", "seconds": 12.3, "penalty": 3000.0, "chosen_by": "log loss on val"},
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
        "   9.1 s  solving the head",
        "  12.3 s  penalty 3000 by log loss on val",
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
    assert "penalty chosen by log loss on val (120 images)" in text
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


def test_the_cache_is_shown_with_the_last_used_first(tmp_path):
    cache = Cache(tmp_path)
    path = {"precision": "bf16"}
    for number, name in enumerate(("timm:old", "timm:new")):
        spec = {"height": 224, "width": 160, "resize": "pad"}
        key = {"backbone": name, "input": spec, "path": path}
        store = cache.store(key, (8,), "float32")
        with store.writer() as writer:
            writer.add(["a", "b"], np.full((2, 8), number))
    stores = cache.stores()
    lines = console.cache_table(tmp_path, 20 * 10**9, stores)
    assert lines[0] == f"{tmp_path}: 0.0 MB of at most 20.0 GB"
    assert "timm:new 224 x 160 pad bf16" in lines[1]
    assert "2 rows" in lines[1]
    assert "timm:old" in lines[2]
