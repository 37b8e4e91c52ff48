"""The command ``check``: what is wrong with a data set, before it costs anything."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headstart import console
from headstart.cli_options import (
    Backbone,
    Classes,
    Column,
    Data,
    Debug,
    Device,
    GroupBy,
    Json,
    MaxBad,
    Nested,
    Resize,
    Root,
    Size,
    Test,
)
from headstart.cli_values import parse_reading, parse_share
from headstart.errors import DataError, UsageError
from headstart.files import check_writable, write_text

if TYPE_CHECKING:
    from headstart.checking import CheckResult
    from headstart.data.items import Dataset
    from headstart.fixed_table import Table

__all__ = ["add_commands"]

_PAGES = (".html", ".htm")


def add_commands(app: typer.Typer) -> None:
    """Add the command of this module to the command line."""
    app.command()(check)


def check(
    data: Data,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Ask a network too: wrong labels, outliers, shortcuts."),
    ] = False,
    html: Annotated[Path | None, typer.Option(help="Write a page with pictures.")] = None,
    fix: Annotated[
        Path | None,
        typer.Option(help="Write a table without the faults (.csv, .tsv, .jsonl), to fit."),
    ] = None,
    column: Column = None,
    root: Root = None,
    nested: Nested = False,
    classes: Classes = None,
    group_by: GroupBy = None,
    test: Test = None,
    max_bad: MaxBad = "1%",
    backbone: Backbone = "",
    device: Device = "auto",
    size: Size = None,
    resize: Resize = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Look at every image and list all that is wrong. Exit 3 where fit would refuse the data."""
    options = {
        **parse_reading(column, root, nested, classes, group_by, test),
        "max_bad": parse_share("max-bad", max_bad),
        "backbone": backbone,
        "device": device,
        "size": size,
        "resize": resize,
    }
    if html is not None and html.suffix.lower() not in _PAGES:
        raise UsageError(f"--html must name a page, as check.html, not {html}.", field="html")
    if html is not None:
        from headstart.check_page import require_replaceable

        require_replaceable(html)
    sources = [source for source in (data, test) if source is not None]
    if fix is not None:
        from headstart.fixed_table import require_new_table, require_outside

        require_new_table(fix)
        require_outside(fix, sources)
    for path in filter(None, (html, fix)):  # told now, not after minutes
        check_writable(path.parent)

    def listed(dataset: Dataset) -> None:
        if fix is not None:  # a table's images lie anywhere
            require_outside(fix, sources, dataset.items)

    from headstart.check_text import lines
    from headstart.checking import check as check_images

    with console.Progress() as progress:
        result = check_images(data, deep=deep, progress=progress.bar, listed=listed, **options)
    _talk(f"note      {note}" for note in result.notes)
    table = None if fix is None else _write_table(result, fix)
    if html is not None:
        from headstart.check_page import render_check

        write_text(html, render_check(result, shlex.join(["headstart", *sys.argv[1:]])))
    if as_json:
        beside = {} if table is None else {"fix": table.to_dict()}
        page = {} if html is None else {"html": str(html)}
        console.put_json(result.to_dict() | beside | page)
    else:
        reading = _as_typed(column, root, nested, classes, group_by, test)
        shown = [*lines(result, table, reading), *([] if html is None else ["", str(html)])]
        console.put(*map(console.one_line, shown))
    if result.refusal is not None or (fix is not None and table is None):
        raise typer.Exit(DataError.exit_code)


def _write_table(result: CheckResult, path: Path) -> Table | None:
    """Write the table without the faults and list all that was changed; None if nothing is left."""
    from headstart.cache import Cache
    from headstart.fixed_table import write_table
    from headstart.fixing import mend

    fix = mend(result)
    _talk(f"{it.what:<9} {it.name}: {it.why}" for it in fix.changes)
    if fix.refusal is not None:
        why = fix.refusal.message.splitlines()[0]
        _talk([f"No table was written, since fit would refuse it: {why}"])
        return None
    table = write_table(fix, path)
    if fix.rows[0].item.path.absolute().is_relative_to(Cache().folder.absolute()):
        cached = f"The images of {result.data} lie where it was unpacked, in the cache"
        _talk([f"note      {cached}: the table is of use until that is cleared."])
    return table


def _talk(lines: Iterable[str]) -> None:
    """Print talk, each name in it on one line whatever it holds."""
    console.talk(*map(console.one_line, lines))


def _as_typed(
    column: list[str] | None,
    root: Path | None,
    nested: bool,
    classes: str | None,
    group_by: str | None,
    test: str | None,
) -> list[str]:
    """Return the options that say how the data is read, for the commands that come next."""
    words = [word for name in column or [] for word in ("--column", name)]
    words += ["--nested"] if nested else []
    given = {"--root": root, "--classes": classes, "--group-by": group_by, "--test": test}
    return words + [
        str(word) for name, value in given.items() if value is not None for word in (name, value)
    ]
