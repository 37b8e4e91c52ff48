"""The rows of a table file, whatever its form: CSV, TSV, JSONL or Parquet.

All cells become text; an empty cell, a null and a NaN are None. Nothing here knows what the
columns mean, that is the business of :mod:`~headstart.data.tabular.tables`.
"""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.data.quoting import quoted
from headstart.data.tabular.delimited import open_text, read_delimited
from headstart.errors import DataError, MissingExtra

if TYPE_CHECKING:
    import pyarrow

__all__ = ["TABLES", "Rows", "listed", "read_rows"]

Cells = Sequence[str | None]

TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
"""How the name of a table's file ends, in any letter case."""

_LISTED = 10  # rows that a message lists
_EXACT = 2**53  # floats up to here are whole numbers where they look so
_PIXELS = """A table names its images by paths. Images inside of Parquet are read from Python:
  headstart.fit(datasets.load_dataset("parquet", data_files=…, split="train"))"""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a table file holds.

    Attributes:
        names: The names of the columns, in order; not all need be different.
        numbers: The number of each row, as it is found again: in CSV and TSV as a spreadsheet
            counts, so that the header is row 1; in JSONL the line; in Parquet from 1.
        column: Return the cells of the column at this position of ``names``, a cell a row. It
            raises DataError where they are not text, numbers or truth values.
        undecodable: Set where the file is not UTF-8, to what is to be raised. The bytes in
            question are in the cells all the same (``surrogateescape``): as part of a path, and
            only there, they can be right.
    """

    names: tuple[str, ...]
    numbers: Sequence[int]
    column: Callable[[int], Cells]
    undecodable: DataError | None = None


def read_rows(path: Path, known: Collection[str] = ()) -> Rows:
    """Read a table file; its form is told by the ending of its name.

    Args:
        path: The file.
        known: Names that columns may have, by which the separator of a CSV file is recognised.

    Raises:
        DataError: The file can't be read, is damaged, empty or of another form.
        MissingExtra: A Parquet file, and pyarrow is not installed.
    """
    ending = path.suffix.lower()
    if ending not in TABLES:
        raise DataError(
            f"{path} is no table that can be read: its name must end in {', '.join(TABLES)}.",
            field=str(path),
            hint="From a spreadsheet, save it as CSV in UTF-8; from JSON, write an object a line.",
        )
    readers = {".jsonl": _read_json_lines, ".parquet": _read_parquet}
    rows = readers[ending](path) if ending in readers else _read_delimited(path, known)
    if not rows.numbers:
        raise DataError(f"{path} holds no rows.", field=str(path), hint="A row names an image.")
    return rows


def listed(numbers: Iterable[object], noun: str = "row") -> str:
    """Return ``row 4``, ``rows 4, 7``, or the first ten and how many there are."""
    numbers = list(numbers)
    more = f", … ({len(numbers)} in all)" if len(numbers) > _LISTED else ""
    plural = "" if len(numbers) == 1 else "s"
    return f"{noun}{plural} {', '.join(map(str, numbers[:_LISTED]))}{more}"


def _read_delimited(path: Path, known: Collection[str]) -> Rows:
    ((_, names), *body), undecodable = read_delimited(path, known)

    def column(position: int) -> Cells:
        return [cells[position] or None for _, cells in body]

    return Rows(tuple(names), [number for number, _ in body], column, undecodable)


def _read_json_lines(path: Path) -> Rows:
    text, undecodable = open_text(path)
    if undecodable is not None:
        raise undecodable
    numbers, objects = [], []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            numbers.append(number)
            objects.append(_json_object(path, number, line))
    names = tuple(dict.fromkeys(name for entry in objects for name in entry))

    def column(position: int) -> Cells:
        name = names[position]
        return _texts(path, name, numbers, [entry.get(name) for entry in objects])

    return Rows(names, numbers, column)


def _json_object(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:  # ValueError: a number too long to be read, too
        raise DataError(
            f"{path}, line {number} is not JSON: {error}.",
            field=str(path),
            hint='Each line must hold one object, such as {"path": "1.jpg", "label": "cat"}.',
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{path}, line {number} must hold an object, not {quoted(line.strip())}.",
            field=str(path),
            hint='Each line must hold one object, such as {"path": "1.jpg", "label": "cat"}.',
        )
    return value


def _read_parquet(path: Path) -> Rows:
    try:
        import pyarrow
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise MissingExtra("Reading Parquet", "parquet", field=str(path)) from error
    damaged = (pyarrow.ArrowException, OSError, ValueError, KeyError)
    try:
        with parquet.ParquetFile(path) as file:
            schema, n_rows = file.schema_arrow, file.metadata.num_rows
    except damaged as error:
        raise _not_parquet(path, error) from error

    def column(position: int) -> Cells:
        # Only the columns that are asked for are read: others may hold all the images.
        kind = schema.field(position).type
        name = schema.names[position]
        if _is_binary(kind):
            raise DataError(
                f"{path}: the column {quoted(name)} holds {kind}, not text.",
                field=str(path),
                hint=_PIXELS,
            )
        try:
            with parquet.ParquetFile(path) as file:
                values = file.read(columns=[name])[name].to_pylist()
            if len(values) != n_rows:
                raise ValueError(f"{name!r} has {len(values)} values, not {n_rows}")
        except damaged as error:
            raise _not_parquet(path, error) from error
        return _texts(path, name, range(1, n_rows + 1), values)

    return Rows(tuple(schema.names), range(1, n_rows + 1), column)


def _is_binary(kind: pyarrow.DataType) -> bool:
    """Tell whether a column holds bytes, or objects with bytes in them."""
    return "binary" in str(kind) or str(kind).startswith(("struct", "map"))


def _not_parquet(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()).rstrip(".")[:200]
    return DataError(
        f"{path} can't be read as Parquet: {reason}.",
        field=str(path),
        hint="Write the file again, or give the table as CSV.",
    )


def _texts(path: Path, name: str, numbers: Sequence[int], values: Sequence[object]) -> Cells:
    texts: list[str | None] = []
    others = []
    for number, value in zip(numbers, values, strict=True):
        try:
            texts.append(_text(value))
        except TypeError:
            others.append(number)
    if others:
        raise DataError(
            f"{path}: the column {quoted(name)} must hold text, numbers or truth values, "
            f"and holds something else in {listed(others)}.",
            field=str(path),
            hint="An image has one path and one label: write no lists and no objects there.",
        )
    return texts


def _text(value: object) -> str | None:
    """Return the text of a value: ``3`` and not ``3.0``, ``true`` and not ``True``."""
    match value:
        case None | "":
            return None
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            if value != value:  # NaN, the null of data frames
                return None
            return str(int(value)) if abs(value) <= _EXACT and value.is_integer() else repr(value)
        case decimal.Decimal():
            return f"{value:f}"
        case datetime.date():
            return value.isoformat()
    raise TypeError(value)
