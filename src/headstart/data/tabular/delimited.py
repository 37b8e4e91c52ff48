"""CSV and TSV files: encoding, separator and cells, with an error that names row or byte.

The dialect is that of RFC 4180, and of what spreadsheets write: ``"`` around a cell, ``""`` inside
of it, line breaks inside of quotation marks. The separator is told from the header.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Collection, Iterator
from pathlib import Path

from headstart.errors import DataError

__all__ = ["open_text", "read_delimited"]

Record = tuple[int, list[str]]

_SEPARATORS = (",", ";", "\t", "|")
_MARKS = {  # UTF-32's begin with UTF-16's
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_OTHERS = {
    b"PK\x03\x04": "a spreadsheet's own file or a zip archive",
    b"\xd0\xcf\x11\xe0": "a spreadsheet's own file",
    b"PAR1": "a Parquet file, whose name must end in .parquet",
    b"\x1f\x8b": "compressed",
}
_LISTED = 10
_SAVE = (
    "Save it as UTF-8: spreadsheets call it CSV UTF-8; elsewhere iconv -f WINDOWS-1252 -t UTF-8."
)


def open_text(path: Path) -> tuple[str, DataError | None]:
    """Read a text file: UTF-8, or what its byte order mark says.

    Returns:
        The text, and an error where it is not UTF-8. Bytes that are not are kept in the text
        (``surrogateescape``): the caller raises the error, or knows what they are.

    Raises:
        DataError: The file can't be read, holds NUL bytes, or is not what its mark says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror}.", field=str(path)) from error
    for start, kind in _OTHERS.items():
        if content.startswith(start):
            hint = "Save the table as text: CSV in UTF-8."
            raise DataError(f"{path} is no text file but {kind}.", field=str(path), hint=hint)
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    undecodable = None
    content, encoding = content[len(mark) :], _MARKS.get(mark, "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            message = f"{path} begins as {encoding.upper()} but goes on otherwise: {error.reason}."
            raise DataError(message, field=str(path), hint=_SAVE) from error
        undecodable = _undecodable(path, content, error.start)
        text = content.decode("utf-8", "surrogateescape")
    if "\0" in text:
        raise DataError(
            f"{path}, line {text.count(chr(10), 0, text.index(chr(0))) + 1} holds a NUL byte: "
            "it is damaged, no text, or UTF-16 without a byte order mark.",
            field=str(path),
            hint=_SAVE,
        )
    return text, undecodable


def read_delimited(
    path: Path, known: Collection[str] = ()
) -> tuple[list[Record], DataError | None]:
    """Read a file of separated cells.

    Args:
        path: The file.
        known: Names that columns may have: the separator that yields most of them is taken, and
            among equals the one that yields most columns.

    Returns:
        The records with their numbers, the header first, all of the same length; and the error of
        :func:`open_text`. Empty records are left out, but counted.

    Raises:
        DataError: The text can't be read or split into cells, there is none, or records differ in
            length.
    """
    text, undecodable = open_text(path)
    separator, spaced = _dialect(path, text, {name.casefold() for name in known})
    records = [record for record in _records(path, text, separator, spaced) if any(record[1])]
    if not records:
        raise DataError(f"{path} is empty.", field=str(path), hint="A row names an image.")
    (_, header), *rows = records
    records[0] = (records[0][0], [name.strip() for name in header])
    ragged = [f"{number} ({len(cells)})" for number, cells in rows if len(cells) != len(header)]
    if ragged:
        more = f", … ({len(ragged)} in all)" if len(ragged) > _LISTED else ""
        name = {"\t": "tabs"}.get(separator, f'"{separator}"')
        raise DataError(
            f"{path}: each row must have {len(header)} cells, as the header has. "
            f"Row (cells): {', '.join(ragged[:_LISTED])}{more}.",
            field=str(path),
            hint=f"Cells are separated by {name}; put text that holds such in quotation marks.",
        )
    return records, undecodable


def _dialect(path: Path, text: str, known: Collection[str]) -> tuple[str, bool]:
    """Return the separator, and whether a space after it belongs to it."""
    found: list[tuple[tuple[int, int], str, list[str]]] = []
    first = ("\t", *_SEPARATORS) if path.suffix.lower() == ".tsv" else _SEPARATORS
    for separator in dict.fromkeys(first):
        try:
            header = next(cells for _, cells in _records(path, text, separator, True) if any(cells))
        except DataError:
            continue  # another one may do; if none does, reading all says why
        except StopIteration:  # nothing but these: no file for another one either
            return separator, False
        hits = sum(name.strip().casefold() in known for name in header)
        found.append(((hits, len(header)), separator, header))
    if not found:
        return first[0], False
    _, separator, _ = max(found, key=lambda entry: entry[0])  # the first of equals
    header = next(cells for _, cells in _records(path, text, separator, False) if any(cells))
    # "path, label": who writes so in the header does it in all rows. Else a space is a space.
    spaced = len(header) > 1 and all(name.startswith(" ") for name in header[1:])
    return separator, spaced


def _records(path: Path, text: str, separator: str, spaced: bool) -> Iterator[Record]:
    lines = io.StringIO(text, newline="")  # line breaks inside of quotation marks stay as they are
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=spaced, strict=True)
    number = 0
    try:
        for number, cells in enumerate(reader, start=1):
            yield number, cells
    except csv.Error as error:
        raise DataError(
            f"{path}, row {number + 1} can't be split into cells: {_reason(str(error))}.",
            field=str(path),
            hint="A quotation mark inside of quoted text is written twice.",
        ) from error


def _reason(said: str) -> str:
    if "unexpected end" in said:
        return "a quotation mark is opened and never closed"
    if "field larger" in said:
        return f"a cell of more than {csv.field_size_limit():,} characters; is a quote left open"
    if "expected after" in said:
        return "text follows a closing quotation mark"
    return said


def _undecodable(path: Path, content: bytes, position: int) -> DataError:
    line = content.count(b"\n", 0, position) + 1
    around = content[max(0, position - 12) : position + 12].splitlines()
    near = next(part for part in around if content[position : position + 1] in part)
    guess = near.decode("cp1252", "replace")
    return DataError(
        f"{path} is not UTF-8: line {line}, byte 0x{content[position]:02x} at {position}. "
        f"As Windows-1252 it would read {guess!r}.",
        field=str(path),
        hint=_SAVE,
    )
