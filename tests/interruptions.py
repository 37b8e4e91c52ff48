"""Ways to stop a run at a place that a test chooses, and what its log says of it."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

from commands import words


def at(number: int, name: str, deed: Callable[[], object]) -> Callable[[dict], None]:
    """Return a listener that does something when it hears the n-th event of this name."""
    heard = [0]

    def listen(event: dict) -> None:
        heard[0] += event["event"] == name
        if event["event"] == name and heard[0] == number:
            deed()

    return listen


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def events(run: Path) -> list[dict]:
    """Return the events of a run's log, but for a line that is being written."""
    file = run / "log.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def steps_of(run: Path) -> int:
    """Return how many steps a run has taken, whoever took them."""
    return sum(event["event"] == "step" for event in events(run))


_IMPORTED = (
    *("__main__", "headstart.cli", "headstart.fitting", "headstart.figures", "timm", "torch"),
    *("sklearn.metrics", "matplotlib.backends.backend_agg", "jinja2"),
)


def forked(*arguments: object) -> BaseProcess:
    """Start a command in a process of its own that has imported all it needs.

    It is forked from a process that imported it once, so that fifty cost little more than what
    they do, and each can be killed as any other.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    process = context.Process(target=_command, args=(words(*arguments),))
    process.start()
    return process


def _command(argv: list[str]) -> None:
    from headstart import cli

    with Path(os.devnull).open("w") as nowhere:
        sys.argv, sys.stdout, sys.stderr = argv, nowhere, nowhere
        os._exit(cli._run())
