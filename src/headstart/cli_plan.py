"""The command ``plan``: what headstart would do, why, and what it would cost."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from headstart import console
from headstart.cli_fit import fit, options_of
from headstart.errors import UsageError
from headstart.options import AUTO, Options

__all__ = ["add_commands"]

# What a fit does and a plan does not.
_OF_FIT = ("out", "no_refit", "no_audit", "save_minutes", "minimum", "dry_run")

FindRate = Annotated[
    bool, typer.Option("--find-rate", help="Test learning rates (Smith 2015) and draw the curve.")
]
Number = Annotated[
    int | None,
    typer.Option(help="With --find-rate: which phase, from 1. Default: the first that trains."),
]
Out = Annotated[
    Path | None, typer.Option(help="With --find-rate: the folder for figure and numbers.")
]


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to the command line."""
    app.command("plan")(_with_options_of_fit(plan))


def _with_options_of_fit(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``fit`` in place of its ``**given``, but for a fit's own."""
    shared = [
        parameter.replace(annotation=get_type_hints(fit, include_extras=True)[name])
        for name, parameter in inspect.signature(fit).parameters.items()
        if name not in _OF_FIT
    ]
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    both = [*shared[:1], *own, *shared[1:]]
    command.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in both}
    return command


def plan(
    find_rate: FindRate = False,
    phase: Number = None,
    out: Out = None,
    **given: Any,
) -> None:
    """Look at the images, the network, the machine and the time, and say what would be done."""
    options = options_of(given)
    if find_rate:
        _find_rate(given["data"], options, phase, out, given["as_json"])
        return
    for name, value in (("phase", phase), ("out", out)):
        if value is not None:
            raise UsageError(
                f"--{name} is about --find-rate.", field=name, hint="Add it, or leave both away."
            )
    from headstart.proposing import proposal_lines, propose

    with console.Progress() as progress:
        found = propose(given["data"], listener=progress, **vars(options))
    if given["as_json"]:
        console.put_json(found.to_dict())
    else:
        console.put(*proposal_lines(found))


def _find_rate(
    data: str, options: Options, phase: int | None, out: Path | None, as_json: bool
) -> None:
    from headstart.proposing import propose
    from headstart.rate_finding import find_rate

    with console.Progress() as progress:
        if options.strategy == AUTO:  # the phases are known once they are decided
            options = propose(data, listener=progress, **vars(options)).options
        found = find_rate(data, options, phase=phase, out=out, listener=progress)
    if as_json:
        console.put_json(found.to_dict())
    else:
        console.put(*found.lines())
