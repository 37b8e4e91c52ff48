"""The command line: each command parses, calls and prints.

stdout is data, stderr is talk. With ``--json`` stdout holds one JSON document, also on an error.
Exit codes are those of ``headstart.errors``; 1 is a bug of ours, 130 and 143 are signals. Nothing
heavy is imported before a command needs it.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from headstart import (
    __version__,
    cli_cache,
    cli_check,
    cli_compare,
    cli_fit,
    cli_models,
    cli_plan,
    cli_predict,
    console,
)
from headstart.errors import HeadstartError, ResourceError, UsageError

__all__ = ["app", "main"]

# typer once used the package click and now carries it inside; either way its errors have this base.
_CommandLineError: type[Any] = typer.BadParameter.__mro__[2]
_INTERRUPTED = 128 + signal.SIGINT
_TERMINATED = 128 + signal.SIGTERM

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From labelled images and a pre-trained network to a classifier you can trust.",
)


cli_fit.add_commands(app)
cli_plan.add_commands(app)
cli_predict.add_commands(app)
cli_check.add_commands(app)
cli_compare.add_commands(app)
cli_models.add_commands(app)
cli_cache.add_commands(app)


def _version(value: bool) -> None:
    if value:
        console.put(f"headstart {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Hold the options that come before a command."""


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    signal.signal(signal.SIGTERM, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names may hold any bytes
    sys.exit(_run())


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    """Leave by way of every ``finally``, so that what was computed is kept."""
    sys.exit(_TERMINATED)


def _run() -> int:
    try:
        result = app(standalone_mode=False)
    except HeadstartError as error:
        return _fail(error, error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        return _fail(_Interrupted(), _INTERRUPTED)
    except SystemExit as error:
        if error.code == _TERMINATED:
            return _fail(_Interrupted(), _TERMINATED)
        return 0  # typer's answer to a reader that left: nobody is there to be told
    except _CommandLineError as error:
        if len(sys.argv) < 3 and "help" in type(error).__name__.lower():  # nothing was asked for
            console.talk(error.format_message())
            return 2
        command = error.ctx.command_path if error.ctx is not None else "headstart"
        return _fail(UsageError(error.format_message(), hint=f"See: {command} --help"), 2)
    except OSError as error:  # a file or device of this machine, not a bug of ours
        return _fail(_from_system(error), ResourceError.exit_code)
    except Exception as error:  # whatever is not in our tree is a bug of ours
        return _fail(_Bug(error), 1)
    if result == _INTERRUPTED:  # typer tells it so
        return _fail(_Interrupted(), _INTERRUPTED)
    return result if isinstance(result, int) else 0  # of a command that ended with a code


def _from_system(error: OSError) -> ResourceError:
    name = None if error.filename is None else os.fsdecode(error.filename)
    reason = error.strerror or str(error)
    message = f"{reason}." if name is None else f"{name}: {reason}."
    return ResourceError(
        message, field=name, hint="Make it readable and writable, or name another; see --debug."
    )


class _Interrupted(HeadstartError):
    """The user, or the system, sent a signal to stop."""

    id = "interrupted"

    def __init__(self) -> None:
        super().__init__(
            "Stopped by a signal.",
            hint="What was computed is kept: the same command, or headstart resume RUN, goes on.",
        )


class _Bug(HeadstartError):
    """An exception nobody meant to raise."""

    id = "bug"

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"This is a bug in headstart: {type(error).__name__}: {error}",
            hint="Run it again with --debug and report what it prints.",
        )


def _fail(error: HeadstartError, code: int) -> int:
    """Print an error as the command line promises, and return its exit code."""
    if "--json" in sys.argv:
        console.put_json({"error": error.to_dict()})
    console.talk(f"{error.id}: {error}")
    if "--debug" in sys.argv:
        traceback.print_exc()
    return code
