"""The log of a run: what is kept, where it goes on, and what happens when it can't."""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from headstart.errors import ResourceError
from headstart.log import Log


def events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


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


def test_a_new_log_takes_the_place_of_an_old_one(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "old"}\n')
    log = Log()
    log.emit("early")
    log.write_to(path)
    log.emit("late")
    assert events(path) == ["early", "late"]


@pytest.mark.parametrize("tail", ["", '{"event": "unfin', "\0\0\0"])
def test_a_log_goes_on_behind_the_last_whole_line(tmp_path, tail):
    path = tmp_path / "log.jsonl"
    path.write_text('{"event": "one"}\n{"event": "two"}\n' + tail)
    log = Log()
    log.emit("early")
    log.continue_in(path)
    log.emit("late")
    assert events(path) == ["one", "two", "early", "late"]


def test_the_seconds_go_on_from_those_of_the_sessions_before(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("headstart.log.time.monotonic", lambda: now[0])
    heard = []
    log = Log(heard.append)
    now[0] += 1.5
    log.emit("early")
    log.continue_in(tmp_path / "log.jsonl", earlier=60.0)
    now[0] += 2.0
    log.emit("late")
    kept = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [event["seconds"] for event in kept] == [61.5, 63.5]
    # What was told before it was known that there are sessions before stays as it was told.
    assert [event["seconds"] for event in heard] == [1.5, 63.5]


@pytest.mark.parametrize("content", [None, "", '{"event": "unfin'])
def test_a_log_without_a_whole_line_goes_on_from_nothing(tmp_path, content):
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_text(content)
    log = Log()
    log.emit("early")
    log.continue_in(path)
    assert events(path) == ["early"]


def test_each_line_is_there_at_once_through_one_open_file(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    log = Log()
    log.write_to(path)

    def never(*_, **__):
        raise AssertionError("it was opened again")

    for step in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", never)
            log.emit("step", step=step)
        assert len(events(path)) == step + 1


def open_files(folder: Path) -> list[str]:
    found = [file.path for file in psutil.Process().open_files()]
    return [path for path in found if Path(path).is_relative_to(folder.resolve())]


def test_a_closed_log_keeps_no_file_and_still_tells_its_listener(tmp_path):
    heard = []
    log = Log(heard.append)
    log.write_to(tmp_path / "log.jsonl")
    assert len(open_files(tmp_path)) == 1
    log.emit("one")
    log.close()
    log.close()
    log.emit("two")
    assert open_files(tmp_path) == []
    assert events(tmp_path / "log.jsonl") == ["one"]
    assert [event["event"] for event in heard] == ["one", "two"]


def test_a_log_that_moves_on_or_is_forgotten_leaves_no_file_open(tmp_path):
    log = Log()
    log.write_to(tmp_path / "first")
    log.continue_in(tmp_path / "second")
    assert [Path(path).name for path in open_files(tmp_path)] == ["second"]
    del log
    gc.collect()
    assert open_files(tmp_path) == []


def test_a_log_where_none_can_be_is_told(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ResourceError, match=r"folder can't be written: Is a directory"):
        Log().continue_in(tmp_path / "folder")
    with pytest.raises(ResourceError, match=r"log can't be written: No such file"):
        Log().continue_in(tmp_path / "absent" / "log")
    with pytest.raises(ResourceError, match="can't be written"):
        Log().write_to(tmp_path / "folder")


@pytest.mark.skipif(os.name == "nt", reason="limits a process's files")
def test_a_full_disk_is_told_and_the_cut_line_is_mended_later(tmp_path):
    path = tmp_path / "log.jsonl"
    program = """
        import pathlib, resource, signal, sys
        from headstart.errors import ResourceError
        from headstart.log import Log

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        log = Log()
        log.write_to(pathlib.Path(sys.argv[1]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            for step in range(1000):
                log.emit("step", step=step)
        except ResourceError as error:
            print(error.message)
        """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{path} can't be written: File too large.\n"
    assert path.stat().st_size == 1000
    log = Log()
    log.continue_in(path)
    log.emit("resumed")
    assert events(path) == ["step"] * (len(events(path)) - 1) + ["resumed"]
