"""What FAULTS.md promises of interrupted training; tests are named after its rows T1 to T12."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest
import torch

import headstart
from commands import start, tree
from headstart.errors import ResourceError
from headstart.files import file_digest, read_json
from headstart.run import Run
from headstart.training.checkpoint import Checkpoints
from interruptions import at, events, forked, interrupt
from pictures import picture, write_photos

TRAINING = (
    *("--strategy", "last-blocks:2", "--head", "linear,dropout=0.2", "--size", "32"),
    *("--epochs", "3", "--batch-size", "8", "--seed", "1"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", each=14, side=40)


@pytest.fixture(scope="module")
def options(tiny) -> list[str]:
    return [*tiny, *TRAINING]


@pytest.fixture(scope="module")
def arguments(small) -> dict:
    return small | {
        "strategy": "last-blocks:2",
        "head": "linear,dropout=0.2",
        "size": 32,
        "epochs": 3,
        "batch_size": 8,
        "seed": 1,
    }


def weights(run: Path) -> str:
    return file_digest(run / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def whole(data, arguments, tmp_path_factory, shared_cache) -> str:
    """The digest of the weights of a run that nobody interrupted."""
    return weights(
        headstart.fit(data, tmp_path_factory.mktemp("runs") / "whole", **arguments).folder
    )


@pytest.fixture(scope="module")
def interrupted(data, arguments, tmp_path_factory, shared_cache) -> Path:
    """A run that was interrupted in the middle of its second phase. Not to be written to."""
    out = tmp_path_factory.mktemp("runs") / "interrupted"
    with pytest.raises(KeyboardInterrupt):
        headstart.fit(data, out, listener=at(13, "step", interrupt), **arguments)
    return out


@pytest.fixture
def stopped(interrupted, tmp_path) -> Path:
    """A copy of ``interrupted``, to go on with or to be spoilt."""
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


def checkpoints(run: Path) -> list[Path]:
    return sorted((run / "checkpoints").glob("*.safetensors"))


# The command


def test_resume_prints_what_fit_would_have(command, stopped, whole):
    result = command("resume", stopped)
    assert result.code == 0, result.err
    assert result.out.splitlines()[-1] == str(stopped / "report.html")
    assert "going on in phase 2" in result.err
    assert weights(stopped) == whole
    assert not (stopped / "checkpoints").exists()


def test_resume_prints_the_report_as_json(command, stopped):
    document = command("resume", stopped, "--json").document
    assert document == read_json(stopped / "report.json")
    kinds = [record["kind"] for record in document["training"]]
    assert kinds == ["train", "train"]


def test_a_finished_run_is_shown_and_left_as_it_is(command, tiny_run):
    before = tree(tiny_run)
    result = command("resume", tiny_run, "--json")
    assert result.code == 0
    assert result.document == read_json(tiny_run / "report.json")
    assert "already done" in result.err
    assert tree(tiny_run) == before


@pytest.mark.parametrize("what", ["nowhere", "empty", "images"])
def test_a_folder_that_holds_no_run_is_refused(command, data, tmp_path, what):
    folder = data if what == "images" else tmp_path / what
    if what == "empty":
        folder.mkdir()
    before = tree(data)
    message = command("resume", folder).refusal(4)
    assert str(folder) in message
    assert tree(data) == before


def test_the_same_command_again_goes_on_too(command, data, options, stopped, whole):
    result = command("fit", data, "--out", stopped, *options)
    assert result.code == 0, result.err
    assert "going on in phase 2" in result.err
    assert weights(stopped) == whole


def test_another_command_does_not(command, data, options, stopped):
    before = tree(stopped)
    message = command("fit", data, "--out", stopped, *options, "--lr", "0.002").refusal(4)
    assert "holds another run" in message
    assert tree(stopped) == before


def test_a_run_with_a_transform_from_python_is_gone_on_with_by_the_same_call(
    data, arguments, tmp_path
):
    out, flip = tmp_path / "run", lambda image: image.flip(2)
    given = arguments | {"augment": flip}
    with pytest.raises(KeyboardInterrupt):
        headstart.fit(data, out, listener=at(13, "step", interrupt), **given)
    with pytest.raises(headstart.HeadstartError, match="transform given from Python") as told:
        headstart.resume(out)
    assert told.value.field == "augment"
    fitted = headstart.fit(data, out, **given)
    plain = headstart.fit(data, tmp_path / "whole", **given)
    assert weights(fitted.folder) == weights(plain.folder)


# T1: killed


@pytest.mark.slow
def test_t1_killed_at_random_times_it_ends_as_if_it_had_not_been(data, options, whole, tmp_path):
    draw = random.Random(0)
    kills = ends = 0
    out, begun = tmp_path / "run-0", False
    while kills < 50 or begun:
        process = forked(*(["resume", out] if begun else ["fit", data, "--out", out, *options]))
        if kills < 50:
            _kill_somewhere(process, out, draw)
        process.join(60)
        if process.exitcode == 0:  # it was quicker, or is the last
            _check_story(out, whole)
            ends += 1
            out = tmp_path / f"run-{ends}"
        else:
            assert process.exitcode == -signal.SIGKILL
            kills += 1
        begun = (out / "spec.json").exists()
    assert ends > 2  # so that runs were killed in all their parts


def _kill_somewhere(process: BaseProcess, out: Path, draw: random.Random) -> None:
    """Kill a run after some more events, or at whatever it does before the first."""
    events_more = draw.choice((None, 0, 1, 3, 6, 9, 14, 20, 30, 45))
    if events_more is None:
        process.join(draw.uniform(0, 1))
    else:
        behind = len(events(out)) + events_more
        _wait(process.is_alive, lambda: len(events(out)) > behind)
        process.join(draw.uniform(0, 0.02))
    process.kill()


def _check_story(run: Path, whole: str) -> None:
    """Check that a run ended as if nobody had killed it, and never lost what it had saved."""
    assert weights(run) == whole
    assert not list(run.rglob("*.tmp"))
    saved = (0, 0)
    for event in events(run):
        if event["event"] == "step":
            assert (event["phase"], event["epoch"]) > saved
        elif event["event"] == "checkpoint":
            saved = (event["phase"], event["epoch"])
    assert saved == (2, 3)


def _wait(runs: Callable[[], bool], happened: Callable[[], bool]) -> None:
    """Wait until something has happened, or what is waited for does not run any more."""
    deadline = time.monotonic() + 120
    while runs() and not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# T4: the folder


@pytest.mark.parametrize(
    ("name", "number"), [("plan", 1), ("phase-start", 1), ("step", 2), ("epoch", 1)]
)
def test_t4_a_folder_that_vanishes_ends_the_run_at_once(name, number, data, arguments, tmp_path):
    out = tmp_path / "run"
    heard = []

    def listen(event):
        heard.append(event["event"])
        remove(event)

    remove = at(number, name, lambda: shutil.rmtree(out, ignore_errors=True))
    if name == "plan":  # before the folder is made: nothing is lost, and it is made
        headstart.fit(data, out, listener=listen, **arguments)
        return
    with pytest.raises(ResourceError, match=r"can't be written") as told:
        headstart.fit(data, out, listener=listen, **arguments)
    assert str(out) in told.value.message
    assert heard[-1] == name
    assert heard.count("epoch") == (name == "epoch")


def test_t4_a_folder_that_cannot_be_written_fails_before_anything_is_computed(
    data, arguments, tmp_path, monkeypatch
):
    out = tmp_path / "run"
    out.mkdir()
    heard = []
    monkeypatch.setattr("headstart.run.check_writable", _refuse)
    with pytest.raises(ResourceError, match="read-only"):
        headstart.fit(data, out, listener=lambda e: heard.append(e["event"]), **arguments)
    assert set(heard) <= {"stage", "progress", "plan"}


def _refuse(folder: Path) -> None:
    raise ResourceError(f"{folder} is read-only.", field=str(folder))


def test_t4_where_checkpoints_cannot_be_written_it_says_so(data, arguments, tmp_path):
    out = tmp_path / "run"

    def spoil():
        (out / "checkpoints").write_text("in the way")

    with pytest.raises(ResourceError, match="checkpoints"):
        headstart.fit(data, out, listener=at(1, "phase-start", spoil), **arguments)


# T5: a damaged checkpoint


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["safetensors", "json"])
def test_t5_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    command, stopped, whole, share, kind
):
    assert len(checkpoints(stopped)) == 2
    newest = checkpoints(stopped)[-1].with_suffix(f".{kind}")
    content = bytearray(newest.read_bytes())
    content[int(share * len(content))] ^= 1
    newest.write_bytes(content)
    result = command("resume", stopped)
    assert result.code == 0, result.err
    assert f"checkpoint {newest.stem} is damaged" in result.err
    assert "went back to" in result.err
    (resumed,) = [event for event in events(stopped) if event["event"] == "resume"]
    assert len(resumed["notes"]) == 1
    assert weights(stopped) == whole


def test_t5_without_a_whole_one_it_is_refused(command, stopped):
    for file in checkpoints(stopped):
        file.write_bytes(file.read_bytes()[:-1])
    message = command("resume", stopped).refusal(4, lines=6)
    assert "No checkpoint" in message
    assert "--out" in message
    assert not (stopped / "report.json").exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.tensors.pop("model.head.1.weight"), "does not fit what is trained"),
        (lambda state: state.tensors.update({"earlier.99.weight": torch.zeros(1)}), "the network"),
        (lambda state: state.position.update(phase=7), "of another strategy"),
        (lambda state: state.position.pop("machine"), "can't be gone on with"),
    ],
    ids=["tensor", "block", "phase", "machine"],
)
def test_t5_a_checkpoint_that_does_not_fit_is_refused(command, stopped, spoil, message):
    written = Checkpoints(stopped / "checkpoints")
    state, _ = written.load()
    spoil(state)
    written.save(state)
    told = command("resume", stopped).refusal(4)
    assert message in told
    assert "--out" in told or "another strategy" in told


@pytest.mark.parametrize("size", ["0", "1MB"])
def test_another_size_of_the_cache_changes_nothing(stopped, whole, monkeypatch, size):
    monkeypatch.setenv("HEADSTART_CACHE_SIZE", size)
    assert weights(headstart.resume(stopped).folder) == whole


# T6: signals


SLOW = """
import sys, time
from headstart import cli
from headstart.training.gradients import Gradients

whole, calls = Gradients.compute, []

def compute(self, *inputs, **more):
    calls.append(1)
    if len(calls) == 14:
        print("slow", flush=True)
        time.sleep(100)
    return whole(self, *inputs, **more)

Gradients.compute = compute
cli.main()
"""


def _signalled(words: list[object]) -> subprocess.Popen[str]:
    # A shell starts background jobs with SIGINT ignored, and that is inherited.
    return start(*words, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_t6_a_signal_saves_and_leaves_with_its_code(
    command, data, options, whole, tmp_path, number, code
):
    out = tmp_path / "run"
    many = [*options, "--epochs", "400"]
    process = _signalled(["fit", data, "--out", out, *many, "--json"])
    _wait(
        lambda: process.poll() is None, lambda: sum(e["event"] == "step" for e in events(out)) > 40
    )
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    output, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert json.loads(output)["error"]["id"] == "interrupted"
    assert "headstart resume" in err
    assert "Traceback" not in err
    assert not any(child.is_running() for child in children)
    story = events(out)
    # The step that ran was finished, and saved.
    assert story[-1]["event"] == "checkpoint"
    assert story[-2]["event"] in ("step", "epoch")
    assert checkpoints(out)
    assert not (out / ".pid").exists()
    assert not list(out.rglob("*.tmp"))


@pytest.mark.slow
def test_t6_a_second_sigint_leaves_at_once_and_what_was_saved_is_whole(
    command, data, options, whole, tmp_path
):
    out = tmp_path / "run"
    words = ["fit", data, "--out", out, *options]
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout.readline() == "slow\n", process.communicate()[1]
    before = tree(out / "checkpoints")
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # the first one waits for the step
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert tree(out / "checkpoints") == before
    assert command("resume", out).code == 0
    assert weights(out) == whole


# T7: another machine


def test_t7_the_number_of_threads_is_that_of_the_beginning(stopped, whole):
    before = torch.get_num_threads()
    seen = []
    try:
        torch.set_num_threads(before + 1)
        headstart.resume(
            stopped, listener=at(1, "step", lambda: seen.append(torch.get_num_threads()))
        )
    finally:
        torch.set_num_threads(before)
    assert seen == [before]
    assert weights(stopped) == whole


@pytest.mark.parametrize("package", ["torch", "torchvision", "numpy", "pillow"])
def test_t7_another_version_is_refused(command, stopped, monkeypatch, package):
    monkeypatch.setattr(
        "headstart.machine.version", lambda name: "99.1" if name == package else version(name)
    )
    message = command("resume", stopped).refusal(4)
    assert f"{package} {version(package)}, here 99.1" in message
    assert "--out" in message
    assert checkpoints(stopped)


def test_t7_another_processor_is_refused(command, stopped, monkeypatch):
    monkeypatch.setattr("headstart.machine.processor", lambda device: "cpu of another kind")
    message = command("resume", stopped).refusal(4)
    assert "here cpu of another kind" in message


# T8: changed data


@pytest.fixture
def moved(data, arguments, tmp_path) -> tuple[Path, Path]:
    """Data of one's own and a run on it that was interrupted."""
    mine = Path(shutil.copytree(data, tmp_path / "mine"))
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        headstart.fit(mine, out, listener=at(13, "step", interrupt), **arguments)
    return mine, out


def _edit(data: Path) -> None:
    picture(1, 99).save(data / "cat" / "3.jpg")


def _add(data: Path) -> None:
    picture(0, 99).save(data / "cat" / "new.png")


def _remove(data: Path) -> None:
    (data / "dog" / "5.jpg").unlink()


@pytest.mark.parametrize("change", [_edit, _add, _remove])
def test_t8_changed_images_are_refused_with_the_difference(command, moved, change):
    data, out = moved
    change(data)
    before = tree(out)
    message = command("resume", out).refusal(4, lines=12)
    assert "data.digest: was" in message
    assert "--force" in message
    if change is not _edit:
        assert "data.n: was 28" in message
    assert tree(out) == before

    result = command("resume", out, "--force")
    assert result.code == 0, result.err
    report = read_json(out / "report.json")
    (finding,) = [item for item in report["findings"] if item["kind"] == "forced"]
    assert "data.digest" in finding["message"]
    (resumed,) = [event for event in events(out) if event["event"] == "resume"]
    assert any("data.digest" in note for note in resumed["notes"])
    assert "data.digest" in (out / "report.html").read_text()


def test_t8_what_was_accepted_is_told_though_the_run_is_interrupted_again(command, moved):
    data, out = moved
    _edit(data)
    with pytest.raises(KeyboardInterrupt):
        headstart.resume(out, force=True, listener=at(1, "step", interrupt))
    result = command("resume", out)  # the change was accepted once
    assert result.code == 0, result.err
    findings = read_json(out / "report.json")["findings"]
    (finding,) = [item for item in findings if item["kind"] == "forced"]
    assert finding["message"].count("data.digest") == 1


def test_t8_unchanged_data_is_not_forced(command, stopped):
    assert command("resume", stopped, "--force").code == 0
    kinds = {finding["kind"] for finding in read_json(stopped / "report.json")["findings"]}
    assert "forced" not in kinds


def test_t8_other_classes_are_refused_whatever_is_asked(command, moved):
    data, out = moved
    (data / "dog").rename(data / "wolf")
    for force in ([], ["--force"]):
        message = command("resume", out, *force).refusal(4, lines=12)
        assert "task.classes" in message
        assert "--force" not in message
    assert not (out / "report.json").exists()


def test_t8_other_weights_are_refused_whatever_is_asked(command, data, tiny, tmp_path):
    from safetensors.torch import load_file, save_file

    file = tmp_path / "weights.safetensors"
    shutil.copy(tiny[3], file)
    given = {"backbone": tiny[1], "weights": file, "size": 32, "precision": "fp32"}
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        headstart.fit(
            data, out, strategy="last-blocks:1", listener=at(1, "step", interrupt), **given
        )
    tensors = load_file(file)
    save_file({name: value + 1 for name, value in tensors.items()}, file)
    message = command("resume", out, "--force").refusal(4, lines=12)
    assert "backbone.weights_digest: was" in message


# T12: two processes


def test_t12_a_second_process_is_refused_with_the_firsts_number(command, data, options, stopped):
    with Run(stopped).locked():
        for words in (["resume", stopped], ["fit", data, "--out", stopped, *options]):
            message = command(*words).refusal(5)
            assert str(os.getpid()) in message
    assert command("resume", stopped).code == 0


def test_t12_a_run_that_another_finished_meanwhile_is_shown(data, arguments, stopped, monkeypatch):
    finished = Path(shutil.copytree(stopped, stopped.parent / "finished"))
    headstart.resume(finished)
    locked = Run.locked

    def late(self):
        if self.folder == stopped:  # between the look at the folder and the lock
            shutil.copytree(finished, stopped, dirs_exist_ok=True)
        return locked(self)

    monkeypatch.setattr(Run, "locked", late)
    heard = []
    fitted = headstart.resume(stopped, listener=heard.append)
    assert heard[-1]["already"]
    assert not any(event["event"] == "step" for event in heard)
    assert fitted.report.to_dict() == read_json(finished / "report.json")
