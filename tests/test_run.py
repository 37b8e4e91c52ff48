"""A run's folder: where it is, whose it is, and its log and predictions."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import tree
from headstart.errors import ModelError, ResourceError, UsageError
from headstart.files import write_json
from headstart.run import Log, Row, Run, read_report
from reports import report

SPEC = {"format": 1, "data": {"digest": "d"}, "seed": 0}
OTHER = SPEC | {"seed": 1}


def finished(folder: Path, spec: dict = SPEC) -> Run:
    run = Run(folder)
    run.write_spec(spec, {"threads": 2})
    write_json(folder / "report.json", report().to_dict())
    return run


# Whose folder it is


def test_a_new_folder_is_made_and_left_empty(tmp_path):
    run = Run.open(tmp_path / "deep" / "run", "name", SPEC)
    assert run.folder.is_dir()
    assert list(run.folder.iterdir()) == []
    assert not run.finished


def test_the_same_spec_opens_its_run_finished_or_not(tmp_path):
    run = Run.open(tmp_path / "run", "name", SPEC)
    run.write_spec(SPEC, {})
    assert not Run.open(tmp_path / "run", "name", SPEC).finished
    finished(tmp_path / "run")
    before = tree(tmp_path)
    assert Run.open(tmp_path / "run", "name", SPEC).finished
    assert tree(tmp_path) == before


@pytest.mark.parametrize("done", [True, False])
def test_another_spec_is_refused_with_what_differs(tmp_path, done):
    run = finished(tmp_path / "run", OTHER)
    if not done:
        (run.folder / "report.json").unlink()
    before = tree(tmp_path)
    with pytest.raises(ModelError, match=r"holds another run \(other seed\)") as raised:
        Run.open(tmp_path / "run", "name", SPEC)
    assert raised.value.field == "out"
    assert "--out" in raised.value.hint
    assert tree(tmp_path) == before


def test_a_spec_of_another_version_is_refused(tmp_path):
    finished(tmp_path / "run", SPEC | {"engine": "new"})
    with pytest.raises(ModelError, match="of another version"):
        Run.open(tmp_path / "run", "name", SPEC)


@pytest.mark.parametrize("content", ["[]", "{", '"spec"', '{"other": 1}', "\x00"])
def test_a_spec_file_that_is_none_is_refused(tmp_path, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "spec.json").write_text(content)
    before = tree(tmp_path)
    with pytest.raises(ModelError):
        Run.open(tmp_path / "run", "name", SPEC)
    assert tree(tmp_path) == before


def test_what_is_no_run_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_text("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="is a file; it was left as it is"):
        Run.open(tmp_path / "file", "name", SPEC)
    with pytest.raises(ModelError, match="is not empty and holds no run"):
        Run.open(tmp_path / "folder", "name", SPEC)
    assert Run.open(tmp_path / "empty", "name", SPEC).folder == tmp_path / "empty"


def test_a_folder_that_can_t_be_made_is_a_matter_of_resources(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="can't be written"):
        Run.open(tmp_path / "file" / "run", "name", SPEC)
    with pytest.raises(ResourceError, match="can't be used: File name too long"):
        Run.open(tmp_path / ("x" * 300) / "run", "name", SPEC)


def test_no_run_lies_among_the_images(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    (tmp_path / "link").symlink_to(data)
    for out in (data, data / "run", tmp_path / "link" / "run", tmp_path / "x" / ".." / "data"):
        with pytest.raises(UsageError, match="would lie in") as raised:
            Run.open(out, "name", SPEC, data=data)
        assert raised.value.field == "out"
    monkeypatch.chdir(data)
    with pytest.raises(UsageError, match="would lie in"):
        Run.open(None, "name", SPEC, data=Path())
    assert list(data.iterdir()) == []
    assert Run.open(tmp_path / "data2", "name", SPEC, data=data).folder.is_dir()


def test_without_an_out_a_name_is_numbered_where_it_is_taken(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = Run.open(None, "cats-0", SPEC)
    first.write_spec(SPEC, {})
    second = Run.open(None, "cats-0", OTHER)
    second.write_spec(OTHER, {})
    (tmp_path / "runs" / "cats-0-3").mkdir()
    third = Run.open(None, "cats-0", SPEC | {"seed": 2})
    names = [run.folder.as_posix() for run in (first, second, third)]
    assert names == ["runs/cats-0", "runs/cats-0-2", "runs/cats-0-4"]
    assert Run.open(None, "cats-0", SPEC).folder == first.folder
    assert Run.open(None, "cats-0", OTHER).folder == second.folder


# The log


def test_the_log_keeps_what_happened_before_there_was_a_folder(tmp_path):
    heard = []
    log = Log(heard.append)
    log.emit("stage", stage="read")
    log.progress("read")(1, 2)
    log.write_to(tmp_path / "log.jsonl")
    log.emit("plan", lines=["a", "\udcff", "\N{SNOWMAN}"])
    log.progress("features")(2, 2)
    kept = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in heard] == ["stage", "progress", "plan", "progress"]
    assert kept == [event for event in heard if event["event"] != "progress"]
    assert kept[1]["lines"] == ["a", "\udcff", "\N{SNOWMAN}"]
    assert heard[1] | {"seconds": 0} == {
        "event": "progress",
        "seconds": 0,
        "stage": "read",
        "done": 1,
        "total": 2,
    }


def test_a_log_without_a_folder_or_a_listener_is_fine():
    Log().emit("stage", stage="read")


def test_a_log_whose_folder_vanished_is_told(tmp_path):
    log = Log()
    log.write_to(tmp_path / "run" / "log.jsonl")
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(ResourceError, match=r"log\.jsonl can't be written: No such file"):
        log.emit("stage", stage="features")


# predictions.csv

NAMES = st.text(st.characters(exclude_characters="\x00", exclude_categories=()), max_size=30)
BYTES = st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b""))


@given(names=st.lists(NAMES | BYTES.map(lambda raw: raw.decode("utf-8", "surrogateescape"))))
def test_any_name_comes_back_from_the_predictions(names):
    names = [name for name in names if not _lone(name)]
    rows = [Row(name, "test", name, "cat", [0.25, 0.75]) for name in names]
    with tempfile.TemporaryDirectory() as folder:
        Run(Path(folder)).write_predictions(["cat", 'a,"b"\n'], rows)
        file = Path(folder) / "predictions.csv"
        with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
            header, *read = csv.reader(lines)
    assert header == ["item", "split", "label", "predicted", "cat", 'a,"b"\n']
    assert read == [[name, "test", name, "cat", "0.250000", "0.750000"] for name in names]


def _lone(name: str) -> bool:
    """Tell whether a name holds a surrogate that no file name can give."""
    try:
        name.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return True
    return False


# report.json


def test_a_report_is_read_back(tmp_path):
    finished(tmp_path)
    assert read_report(tmp_path) == report()
    assert read_report(str(tmp_path)) == report()


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 2}', '{"format": 1}'])
def test_a_report_that_can_t_be_read_is_told(tmp_path, content):
    if content is not None:
        (tmp_path / "report.json").write_text(content)
    with pytest.raises(ModelError, match=r"report\.json|report of a run"):
        read_report(tmp_path)
