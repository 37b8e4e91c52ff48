"""Studies: who takes part, when each was as good as the baseline, and what is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from comparisons import FakeFit, fake_fits
from headstart import study as module
from headstart.errors import ModelError, UnknownName
from headstart.strategy.phase import Train
from headstart.study import run_study, studies, val_curve


def epoch(seconds: float, accuracy: float | None) -> dict[str, object]:
    val = None if accuracy is None else {"accuracy": accuracy, "log_loss": 1.0}
    return {"event": "epoch", "phase": 1, "epoch": 1, "seconds": seconds, "val": val}


@pytest.fixture
def fake(monkeypatch) -> FakeFit:
    """A fit that takes no time, and whose logs say how it went on val."""
    made = fake_fits(monkeypatch)
    made.log = {
        "scratch": [epoch(5.0, 0.3), epoch(9.0, 0.6), epoch(13.0, 0.55)],
        "scratch:small-cnn": [epoch(2.0, 0.4), epoch(3.0, 0.59)],
        "feature-extraction": [
            {
                "event": "phase",
                "phase": 1,
                "kind": "solve",
                "val": {"accuracy": 0.8},
                "seconds": 2.5,
            }
        ],
        "fine-tune": [epoch(4.0, 0.5), epoch(8.0, 0.6)],
        "gradual": [epoch(1.0, 0.7)],
    }
    return made


def test_there_are_two_studies_each_with_a_question():
    found = {study.name: study for study in studies()}
    assert set(found) == {"transfer-or-scratch", "extract-or-tune"}
    for study in studies():
        assert study.question.endswith("?")
        names = [s if isinstance(s, str) else s.name for s in study.strategies]
        assert study.baseline in names
    extract, tune = found["extract-or-tune"].strategies
    assert extract == "feature-extraction"
    assert [rate.rate for rate in tune.phases[0].rates] == [1e-5, 1e-5]
    assert isinstance(tune.phases[0].fit, Train)
    assert found["extract-or-tune"].options == {"limit": 500, "epochs": 10}


def test_each_run_is_held_against_the_baselines_best_on_val(fake, photos, tmp_path):
    result = run_study("transfer-or-scratch", photos, out=tmp_path / "s", seeds=2)
    found = {it.label: (it.reached, it.seeds, it.seconds) for it in result.reached}
    assert found == {
        "scratch": (2, 2, 9.0),
        "scratch:small-cnn": (0, 2, None),
        "feature-extraction": (2, 2, 2.5),
        "fine-tune": (2, 2, 8.0),
        "gradual": (2, 2, 1.0),
    }


def test_a_study_leaves_its_comparison_its_document_and_its_text(fake, photos, tmp_path):
    out = tmp_path / "s"
    result = run_study("transfer-or-scratch", photos, out=out, seeds=1, command="headstart study x")
    assert json.loads((out / "study.json").read_text()) == result.to_dict()
    assert (out / "comparison.json").is_file()
    assert "headstart study x" in (out / "README.md").read_text()


def test_a_studys_options_may_be_given_others(fake, photos, tmp_path):
    run_study("extract-or-tune", photos, out=tmp_path / "a", seeds=1)
    run_study("extract-or-tune", photos, out=tmp_path / "b", seeds=1, limit=40)
    assert [(call["limit"], call["epochs"]) for call in fake.calls] == [(500, 10)] * 2 + [
        (40, 10)
    ] * 2


def test_a_study_has_a_folder_of_its_own_and_is_not_run_twice(fake, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = run_study("extract-or-tune", photos, seeds=1)
    again = run_study("extract-or-tune", photos, seeds=1)
    assert (tmp_path / "studies" / "extract-or-tune-photos" / "README.md").is_file()
    assert first == again
    assert first.reached == ()
    assert len(fake.calls) == 2


def test_a_study_is_named_by_its_data(fake, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HEADSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(photos)

    def folder(data: object) -> str:
        made = []
        monkeypatch.setattr(module, "compare", lambda *_, out, **__: made.append(out) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_study("extract-or-tune", data, seeds=1)
        return made[0].name.removeprefix("extract-or-tune-")

    assert folder(".") == folder("cat/..") == folder(photos) == photos.name
    assert folder("elpv") == "elpv"
    assert folder(Path("/")).startswith("data")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    first, second = (folder((pixels[rows], [0, 1, 0])) for rows in ([0, 1, 2], [1, 2, 3]))
    assert first != second
    assert re.fullmatch("given-[0-9a-f]{8}", first)
    (source,) = (tmp_path / "cache" / "given").glob(f"{first.removeprefix('given-')}*/*.jsonl")
    assert folder(source) == first


def test_without_the_baseline_nothing_is_reached(fake, photos, tmp_path):
    fake.broken["scratch"] = ModelError("no scratch")
    result = run_study("transfer-or-scratch", photos, out=tmp_path / "s", seeds=1)
    assert {(it.seeds, it.seconds) for it in result.reached} == {(0, None)}
    assert result.answer.startswith("No answer: scratch did not finish.")


def test_an_unknown_study_is_told_with_the_known(tmp_path):
    with pytest.raises(UnknownName, match="extract-or-tune"):
        run_study("extract-or-tun", tmp_path)


def test_epochs_without_val_are_left_out_of_the_curve(tmp_path):
    events = [epoch(1.0, None), {"event": "step", "loss": 1.0}, epoch(2.0, 0.5)]
    events.append({"event": "phase", "kind": "train", "seconds": 3.0, "val": {"accuracy": 0.1}})
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    assert val_curve(tmp_path) == [(2.0, 0.5)]


@pytest.mark.parametrize("text", [None, "not json\n", '{"x": 1}\n', "[1]\n"])
def test_another_log_is_refused(tmp_path, text):
    if text is not None:
        (tmp_path / "log.jsonl").write_text(text)
    with pytest.raises(ModelError, match="log") as told:
        val_curve(tmp_path)
    assert str(told.value.hint).startswith(f"Remove {tmp_path} and give the same command")
