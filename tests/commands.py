"""The command line as a test uses it: in this process, or as one of its own."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.files import file_digest

RUN_FILES = {  # of a finished run
    "spec.json",
    "log.jsonl",
    "predictions.csv",
    "split.csv",
    "report.json",
    "report.html",
    "figures/confusion.png",
    "figures/mistakes.png",
    "model/headstart.json",
    "model/model.safetensors",
    "model/config.json",
    "model/MANIFEST.json",
    "model/README.md",
}
EXTRACTION = ("--strategy", "feature-extraction")  # of a fit whose command has no ``tiny`` in it
MOST_LINES = 5  # of an error message, a list of files or a drawn layout excepted
# What stands above an error that comes after the plan.
_TALK = re.compile(
    r"(data|split|backbone|input|strategy|note|warning) {2,}|  phase \d|[ \d]+\.\d s  |This run is"
)


@dataclass(frozen=True)
class Result:
    """What a command left: its exit code, its data and its talk."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one JSON document on stdout; an error if there is anything beside it."""
        return json.loads(self.out)

    def refusal(self, code: int, *, lines: int = MOST_LINES) -> str:
        """Check that this is an error as FAULTS.md promises it, and return its message."""
        assert self.code == code, self.err
        assert self.out == ""
        assert "Traceback" not in self.err
        message = [line for line in self.err.splitlines() if not _TALK.match(line)]
        assert 1 <= len(message) <= lines, self.err
        return "\n".join(message)


def words(*arguments: object) -> list[str]:
    """Return a command as ``sys.argv`` holds it."""
    return ["headstart", *map(str, arguments)]


def start(
    *arguments: object,
    environment: dict[str, str] | None = None,
    streams: tuple[Any, Any] = (subprocess.PIPE, subprocess.PIPE),
    **options: Any,
) -> subprocess.Popen[str]:
    """Start the installed command in a process of its own, stdout and stderr piped."""
    program = Path(sys.executable).with_name("headstart")
    out, err = streams
    return subprocess.Popen(
        [program, *words(*arguments)[1:]],
        stdout=out,
        stderr=err,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | (environment or {}),
        **options,
    )


# Runs a command and writes its exit code and its peak memory in bytes to a file.
_MEASURE = """
import os, subprocess, sys
place, *command = sys.argv[1:]
_, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
with open(place, "w") as file:
    file.write(f"{os.waitstatus_to_exitcode(status)} {memory}")
"""


def measured(*arguments: object, environment: dict[str, str]) -> tuple[int, int, str, str]:
    """Run a command in a process of its own: exit code, peak memory in bytes, stdout, stderr.

    A small process stands between: Linux counts the memory of the process that starts another
    into the other's peak, and the tests' own process is larger than most commands.
    """
    program = Path(sys.executable).with_name("headstart")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "usage"
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, place, program, *words(*arguments)[1:]],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment,
            check=True,
        )
        code, memory = map(int, place.read_text().split())
    return code, memory, done.stdout, done.stderr


def tree(*folders: Path) -> dict[str, str]:
    """Return the digest of every file below some folders, and the empty folders too."""
    found = {}
    for path in sorted(path for folder in folders for path in [folder, *folder.rglob("*")]):
        found[str(path)] = file_digest(path) if path.is_file() else "folder"
    return found


def without(options: Sequence[object], name: str) -> list[object]:
    """Take an option and its value out of a command."""
    index = list(options).index(name)
    return [*options[:index], *options[index + 2 :]]


def rows_of(file: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file by their columns' names."""
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        return list(csv.DictReader(lines))
