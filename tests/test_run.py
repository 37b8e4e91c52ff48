"""A run's folder: where it is, whose it is, who writes it, and what is written."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import tree
from headstart.errors import ModelError, ResourceError, UsageError
from headstart.files import write_json
from headstart.run import Row, Run, read_report
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


def test_a_folder_in_which_a_run_was_hardly_begun_is_empty(tmp_path):
    for name in (".lock", ".pid", "..pid.0a1b.tmp", ".writable-0a1b", ".spec.json.0a1b.tmp"):
        (tmp_path / name).write_text("")
    assert Run.open(tmp_path, "name", SPEC).folder == tmp_path
    (tmp_path / ".letter").write_text("")
    with pytest.raises(ModelError, match="is not empty and holds no run"):
        Run.open(tmp_path, "name", SPEC)


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


# spec.json

INVOCATION = {"data": "photos", "options": {"seed": 0}, "command": "headstart fit photos"}


def test_what_it_takes_to_start_again_is_kept_beside_the_spec(tmp_path):
    run = Run(tmp_path)
    run.write_spec(SPEC, {"threads": 2}, INVOCATION)
    assert run.invocation() == INVOCATION
    assert run.environment() == {"threads": 2}
    assert run.matches(SPEC)
    assert json.loads((tmp_path / "spec.json").read_text())["invocation"] == INVOCATION


def test_a_run_of_an_earlier_version_has_no_invocation(tmp_path):
    run = Run(tmp_path)
    run.write_spec(SPEC, {"threads": 2})
    assert set(json.loads((tmp_path / "spec.json").read_text())) == {"spec", "environment"}
    with pytest.raises(
        ModelError, match="a version of headstart that kept no invocation"
    ) as raised:
        run.invocation()
    assert f"--out {tmp_path}" in raised.value.hint
    assert raised.value.exit_code == 4


@pytest.mark.parametrize("content", [None, "[]", "{", '{"other": 1}', '{"spec": 1}'])
def test_a_folder_without_a_run_has_nothing_of_one(tmp_path, content):
    if content is not None:
        (tmp_path / "spec.json").write_text(content)
    run = Run(tmp_path)
    for ask in (run.invocation, run.environment, lambda: run.difference(SPEC)):
        with pytest.raises(ModelError, match=r"holds no run of headstart's|not valid JSON"):
            ask()


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({}, []),
        ({"seed": 1}, ["seed: was 0, is now 1"]),
        (
            {"data": {"digest": "f" * 64, "classes": ["cat", "dog"]}},
            [
                "data.digest: was 0123456789ab…, is now ffffffffffff…",
                'data.classes: was ["cat"], is now ["cat", "dog"]',
            ],
        ),
        (
            {"phases": [{"rates": {"head": 0.001}}, {"epochs": 3}]},
            ["phases.0.rates.head: was 0.01, is now 0.001"],
        ),
        ({"phases": [{}, {"epochs": 3}]}, ['phases.0.rates: was {"head": 0.01}, is now absent']),
        ({"new": None}, ["new: was absent, is now null"]),
        ({"name": "x" * 99}, [f"name: was {'x' * 100}, is now {'x' * 99}"]),
        ({"name": "y" * 99}, [f"name: was {'x' * 60}…, is now {'y' * 60}…"]),
    ],
)
def test_the_difference_is_a_line_a_value(tmp_path, change, lines):
    spec = {
        "seed": 0,
        "data": {"digest": "0123456789abcdef" * 4, "classes": ["cat"]},
        "phases": [{"rates": {"head": 0.01}}, {"epochs": 3}],
        "name": "x" * 100,
    }
    run = Run(tmp_path)
    run.write_spec(spec, {})
    assert run.difference(spec | change) == lines
    assert run.matches(spec | change) == (not lines)


# T12: the lock

HOLDING = """
import sys
from pathlib import Path
from headstart.run import Run

with Run(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has locked a run, until the block ends."""
    words = [sys.executable, "-c", HOLDING, str(folder)]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "locked\n"
        yield process


def test_t12_a_second_process_is_refused_with_the_first_ones_number(tmp_path):
    run = Run.open(tmp_path / "run", "name", SPEC)
    with holder(run.folder) as process:
        before = tree(tmp_path)
        with pytest.raises(ResourceError) as raised, run.locked():
            pytest.fail("it was locked twice")
        assert raised.value.message == f"{run.folder} is being written by process {process.pid}."
        assert "--out" in raised.value.hint
        assert raised.value.exit_code == 5
        assert tree(tmp_path) == before
    assert process.returncode == 0
    assert list(run.folder.iterdir()) == []
    with run.locked():
        run.write_spec(SPEC, {})
    assert [path.name for path in run.folder.iterdir()] == ["spec.json"]


def test_t12_a_second_thread_of_this_process_is_refused_too(tmp_path):
    with (
        Run(tmp_path).locked(),
        pytest.raises(ResourceError, match=f"process {os.getpid()}"),
        Run(tmp_path).locked(),
    ):
        pytest.fail("it was locked twice")


def test_t12_what_a_killed_process_left_locks_nobody_out(tmp_path):
    run = Run.open(tmp_path / "run", "name", SPEC)
    with holder(run.folder) as process:
        process.kill()
    left = {path.name for path in run.folder.iterdir()}
    assert left == {".lock", ".pid"}
    again = Run.open(tmp_path / "run", "name", SPEC)
    with again.locked():
        assert (run.folder / ".pid").read_text() == f"{os.getpid()}\n"
    assert list(run.folder.iterdir()) == []


@pytest.mark.parametrize("number", [None, "", "no number", "\udcff"])
def test_t12_a_holder_that_can_t_be_told_is_another_process(tmp_path, number):
    run = Run(tmp_path)
    with holder(tmp_path):
        (tmp_path / ".pid").unlink()
        if number is not None:
            (tmp_path / ".pid").write_bytes(number.encode("utf-8", "surrogateescape"))
        with (
            pytest.raises(ResourceError, match="is being written by another process"),
            run.locked(),
        ):
            pytest.fail("it was locked twice")


@pytest.mark.parametrize("error", [ValueError("mine"), KeyboardInterrupt(), SystemExit(143)])
def test_the_lock_is_given_back_whatever_happens(tmp_path, error):
    with pytest.raises(type(error)) as raised, Run(tmp_path).locked():
        raise error
    assert raised.value is error
    assert list(tmp_path.iterdir()) == []
    with Run(tmp_path).locked():
        pass


def test_a_folder_that_can_t_be_locked_is_a_matter_of_resources(tmp_path):
    (tmp_path / ".lock").mkdir()
    with (
        pytest.raises(ResourceError, match="can't be locked: Is a directory"),
        Run(tmp_path).locked(),
    ):
        pytest.fail("it was locked")


def test_a_lock_whose_holder_can_t_be_written_is_given_back(tmp_path):
    (tmp_path / ".pid" / "below").mkdir(parents=True)
    with pytest.raises(ResourceError, match="can't be written"), Run(tmp_path).locked():
        pytest.fail("it was locked")
    assert [path.name for path in tmp_path.iterdir()] == [".pid"]


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
