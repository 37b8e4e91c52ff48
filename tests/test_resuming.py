"""Going on with a run: its seconds, and what is said of changed data that was accepted."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import headstart
from headstart.cache import Cache
from headstart.errors import ModelError
from headstart.files import file_digest, read_json
from headstart.training.checkpoint import Checkpoints
from pictures import picture, write_photos

PAUSE = 10_000.0


class Stop(Exception):
    """What ends a run where a test wants it to end."""


@pytest.fixture
def options(small, tmp_path) -> dict:
    training = {"strategy": "last-blocks:1", "epochs": 3, "size": 32, "batch_size": 8}
    return small | training | {"cache": Cache(tmp_path / "cache")}


@pytest.fixture
def data(few_photos, tmp_path) -> Path:
    """Data of a test's own, to be changed."""
    return Path(shutil.copytree(few_photos, tmp_path / "data"))


@pytest.fixture
def time(monkeypatch) -> SimpleNamespace:
    """A time that passes only when a test says so, for the run and for its log."""
    time = SimpleNamespace(now=50.0)
    time.perf_counter = time.monotonic = lambda: time.now
    monkeypatch.setattr("headstart.clock.time", time)
    monkeypatch.setattr("headstart.log.time", time)
    return time


def stop_at(name: str, number: int = 1):
    """Return a listener that ends the run at the n-th event of this name."""
    heard = []

    def listen(event: dict) -> None:
        heard.extend([1] * (event["event"] == name))
        if event["event"] == name and len(heard) == number:
            raise Stop

    return listen


def logged(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_the_seconds_are_those_of_all_sessions_without_the_pauses(few_photos, options, time):
    out = options["cache"].folder.parent / "run"
    taken = {"features": 5.0, "epoch": 10.0}

    def passing(then=None):
        def listen(event: dict) -> None:
            time.now += taken.get(event["event"], 0.0)
            if then is not None:
                then(event)

        return listen

    # Epochs 0 and 1 take 10 seconds each and are saved; 10 more, of epoch 2, are lost.
    with pytest.raises(Stop):
        headstart.fit(few_photos, out, listener=passing(stop_at("epoch", 3)), **options)
    time.now += PAUSE
    report = headstart.resume(out, cache=options["cache"], listener=passing()).report
    # Before: 5 of features and 20 of epochs. Now: 5 and the 20 of epochs 2 and 3.
    expected = {"total_s": 50.0, "read_s": 0.0, "features_s": 10.0, "train_s": 40.0}
    assert {name: report.timings[name] for name in expected} == expected
    assert report.timings == read_json(out / "report.json")["timings"]
    resumed = next(n for n, event in enumerate(logged(out)) if event["event"] == "resume")
    seconds = [event["seconds"] for event in logged(out)[resumed:]]
    assert seconds == sorted(seconds)
    assert (seconds[0], seconds[-1]) == (25.0, 50.0)


def test_a_checkpoint_that_has_no_seconds_is_gone_on_with(few_photos, options, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Stop):
        headstart.fit(few_photos, out, listener=stop_at("epoch", 3), **options)
    checkpoints = Checkpoints(out / "checkpoints")
    state, _ = checkpoints.load()
    del state.position["timings"]
    checkpoints.save(state)
    timings = headstart.resume(out, cache=options["cache"]).report.timings
    assert timings["total_s"] > 0


def test_the_weights_are_those_of_a_run_that_nobody_stopped(few_photos, options, tmp_path):
    whole = headstart.fit(few_photos, tmp_path / "whole", **options)
    with pytest.raises(Stop):
        headstart.fit(few_photos, tmp_path / "run", listener=stop_at("epoch", 3), **options)
    resumed = headstart.resume(tmp_path / "run", cache=options["cache"])
    assert (
        len(
            {
                file_digest(run.folder / "model" / "model.safetensors")
                for run in (
                    whole,
                    resumed,
                )
            }
        )
        == 1
    )


def test_a_run_that_is_begun_again_with_force_says_so(data, options, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Stop):
        headstart.fit(data, out, listener=stop_at("phase-start"), **options)
    picture(1, 99).save(data / "cat" / "3.jpg")
    with pytest.raises(ModelError, match=r"data\.digest: was") as told:
        headstart.resume(out, cache=options["cache"])
    assert "--force" in told.value.hint
    fitted = headstart.resume(out, cache=options["cache"], force=True)
    (finding,) = [item for item in fitted.report.findings if item["kind"] == "forced"]
    assert finding["severity"] == "note"
    assert "began again with the data as they are now" in finding["message"]
    assert "data.digest" in finding["message"]
    assert "resume" not in {event["event"] for event in logged(out)}
    # It is the run of the data as they are: the same fit finds it done.
    assert headstart.fit(data, out, **options).report == fitted.report


def test_a_run_that_went_on_with_force_says_so(data, options, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Stop):
        headstart.fit(data, out, listener=stop_at("epoch", 3), **options)
    picture(1, 99).save(data / "cat" / "3.jpg")
    fitted = headstart.resume(out, cache=options["cache"], force=True)
    (finding,) = [item for item in fitted.report.findings if item["kind"] == "forced"]
    assert finding["severity"] == "warning"
    assert "although its data had changed" in finding["message"]


def test_many_changes_are_told_in_part(data, options, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(Stop):
        headstart.fit(data, out, listener=stop_at("phase-start"), **options)
    spec = read_json(out / "spec.json")
    spec["spec"]["data"] |= {f"other{number}": number for number in range(20)}
    (out / "spec.json").write_text(json.dumps(spec))
    with pytest.raises(ModelError, match="can't go on") as told:
        headstart.resume(out, cache=options["cache"])
    lines = told.value.message.splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  …"


def test_how_the_images_were_read_is_remembered_from_any_folder(
    data, options, tmp_path, monkeypatch
):
    other = write_photos(tmp_path / "other", each=4, side=40)
    file = Path(shutil.make_archive(str(tmp_path / "zipped"), "zip", data))
    (tmp_path / "elsewhere").mkdir()
    asked = options | {"classes": ("dog", "cat"), "group_by": r"(\d+)\.", "test": "other"}
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        headstart.fit(file.name, "whole", **asked)
        with pytest.raises(Stop):
            headstart.fit(file.name, "run", listener=stop_at("epoch", 2), **asked)
    known = read_json(tmp_path / "run" / "spec.json")["invocation"]
    assert known["data"] == str(file.resolve())
    assert known["options"]["test"] == str(other.resolve())
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = headstart.resume(tmp_path / "run", cache=options["cache"])
    assert again.classes == ("dog", "cat")
    model = "model/model.safetensors"
    assert file_digest(again.folder / model) == file_digest(tmp_path / "whole" / model)


def test_a_tables_root_is_remembered_from_any_folder(data, options, tmp_path, monkeypatch):
    rows = [f"{path.parent.name}/{path.name},{path.parent.name}" for path in data.rglob("*.jpg")]
    (tmp_path / "labels.csv").write_text("\n".join(["file,label", *sorted(rows)]))
    asked = options | {"root": data.name, "columns": {"path": "file"}}
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(Stop):
            headstart.fit("labels.csv", "run", listener=stop_at("epoch", 2), **asked)
    assert headstart.resume(tmp_path / "run", cache=options["cache"]).classes == ("cat", "dog")
