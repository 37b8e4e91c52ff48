"""The table that ``check --fix`` writes: DATA like any other, for its owner to edit and to fit.

Nothing of the user's is ever touched: no file is overwritten, and none is written among the images.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.data.items import Item
from headstart.errors import ModelError, UsageError
from headstart.files import write_text
from headstart.fixing import Fix, FixedRow
from headstart.run import csv_text

__all__ = ["SUFFIXES", "Table", "require_new_table", "require_outside", "write_table"]

SUFFIXES = (".csv", ".tsv", ".jsonl")
_ALWAYS = ("path", "label", "note")  # columns; others are there where any row needs them
_FORMULA = ("=", "+", "-", "@")  # how a cell begins that a spreadsheet takes for a formula


@dataclass(frozen=True)
class Table:
    """A table that was written.

    Attributes:
        path: The file.
        root: What its paths are relative to, where that is not the folder it lies in.
        fix: What it holds, and what was changed.
    """

    path: Path
    root: Path | None
    fix: Fix

    @property
    def command(self) -> str:
        """How it is fitted."""
        root = () if self.root is None else ("--root", str(self.root))
        return shlex.join(["headstart", "fit", str(self.path), *root])

    def to_dict(self) -> dict[str, Any]:
        """Return what ``headstart check --json`` says of it."""
        return {
            "table": str(self.path),
            "root": None if self.root is None else str(self.root),
            "n": len(self.fix.rows),
            "changes": [change.to_dict() for change in self.fix.changes],
            "command": self.command,
        }


def require_new_table(path: Path) -> None:
    """Check, before anything is computed, that ``path`` names a table and nothing that is there.

    Raises:
        UsageError: No known suffix.
        ModelError: There is something already.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--fix must name a table, as fixed.csv, not {path}.",
            field="fix",
            hint=f"Known suffixes: {', '.join(SUFFIXES)}.",
        )
    _require_nothing(path)


def require_outside(path: Path, sources: Iterable[str | Path], items: Iterable[Item] = ()) -> None:
    """Check that ``path`` does not lie among images, whatever links lead there.

    Args:
        path: Where a table is to be.
        sources: What was named as data; folders are not to be written into at any depth.
        items: The images, as far as they are known; their own folders are not to be written into.

    Raises:
        UsageError: It does.
    """
    folder = _real(path.parent)
    roots = [_real(source) for source in sources if Path(source).is_dir()]
    holding = {_real(above) for above in {item.path.parent for item in items}}
    if folder in holding or any(folder.is_relative_to(root) for root in roots):
        raise UsageError(
            f"{path} would lie among the images.",
            field="fix",
            hint="Name a file outside: nothing is written into the data.",
        )


def write_table(fix: Fix, path: Path) -> Table:
    """Write the images that are kept: by suffix as CSV, TSV, or a JSON object a line.

    Paths are relative to the table's folder where all images lie below it, else to the folder that
    holds them all.

    Args:
        fix: At least one row.
        path: A file that is not there yet.

    Raises:
        ModelError: There is a file of that name already.
        ResourceError: The file can't be written.
    """
    _require_nothing(path)
    places = [_absolute(row.item.path) for row in fix.rows]
    root = _absolute(path).parent
    beside = all(place.is_relative_to(root) for place in places)
    if not beside:
        root = Path(os.path.commonpath([place.parent for place in places]))
    cells = [_cells(row, it.relative_to(root)) for row, it in zip(fix.rows, places, strict=True)]
    used = [name for name in cells[0] if name in _ALWAYS or any(row[name] != "" for row in cells)]
    rows = [{name: row[name] for name in used} for row in cells]
    write_text(path, _text(rows, path.suffix.lower()))
    return Table(path, None if beside else root, fix)


def _require_nothing(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise ModelError(
            f"{path} exists, and --fix overwrites nothing.",
            field="fix",
            hint="Name another file, or remove that one.",
        )


def _cells(row: FixedRow, place: Path) -> dict[str, str | float]:
    path = place.as_posix()
    return {
        "path": f"./{path}" if path.startswith(_FORMULA) else path,  # the same, and no formula
        "label": row.item.label,
        "split": row.item.split or "",
        "group": row.group,
        "weight": "" if row.item.weight == 1.0 else row.item.weight,
        "suggested": row.suggested,
        "note": row.note,
    }


def _text(rows: Sequence[dict[str, str | float]], suffix: str) -> str:
    if suffix == ".jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows)
    lines = [list(rows[0]), *([str(cell) for cell in row.values()] for row in rows)]
    return csv_text(lines, delimiter="\t" if suffix == ".tsv" else ",")


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))  # resolve() raises where links lead in a circle


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  # resolve() would follow links out of it
