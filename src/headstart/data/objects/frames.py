"""pandas's ``DataFrame``: a table of images in memory.

One row an image: ``path`` or ``image``, and ``label``; ``split``, ``group`` and ``weight`` as in
any table. pandas itself is never imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headstart.data.objects.elements import image_of, label_of, plain
from headstart.data.objects.given_rows import Given
from headstart.data.reading import Reading
from headstart.errors import DataError

__all__ = ["frame_rows", "is_frame"]

_FURTHER = ("split", "group", "weight")
_ROLES = ("path", "image", "label", *_FURTHER)


def is_frame(data: object) -> bool:
    """Tell whether ``data`` is a ``pandas.DataFrame``."""
    return any(
        (kind.__module__.partition(".")[0], kind.__name__) == ("pandas", "DataFrame")
        for kind in type(data).__mro__
    )


def frame_rows(frame: Any, reading: Reading) -> Iterator[Given]:
    """Yield the rows of a ``DataFrame``.

    Args:
        frame: The table. Its paths are relative to ``reading.root``, or to the current folder.
        reading: ``columns`` has the frame's own names for some columns.

    Raises:
        DataError: There are no images, no labels, or a weight that is no number.
        UsageError: An image or a label that is not understood.
    """
    names = {
        role: reading.columns.get(role, role) for role in ("path", "image", "label", *_FURTHER)
    }
    there = {role: name for role, name in names.items() if name in frame.columns}
    images = there.get("path") or there.get("image")
    if images is None or "label" not in there:
        lacking = names["path"] if images is None else names["label"]
        raise DataError(
            f"The table has no column {lacking!r}. Its columns: "
            f"{', '.join(map(repr, list(frame.columns)[:20])) or 'none'}.",
            field="data",
            hint=f"Rename one: data.rename(columns={{…: {lacking!r}}}).",
        )
    root = Path(reading.root or ".").expanduser().absolute()
    further = [role for role in _FURTHER if role in there]
    columns = [_cells(frame[name]) for name in (images, *(there[it] for it in ("label", *further)))]
    for index, image, label, *cells in zip(frame.index, *columns, strict=True):
        where = f"Row {index}"
        given = {
            role: _cell(role, cell, where)
            for role, cell in zip(further, cells, strict=True)
            if cell is not None
        }
        source = root / image if isinstance(image, (str, Path)) else image
        yield Given(image_of(source, where), label_of(label, where), **given)


def _cells(column: Any) -> Any:
    """Return a column with None where pandas has any of its own missing values."""
    return column.astype(object).where(column.notna(), None)


def _cell(role: str, cell: Any, where: str) -> Any:
    if role != "weight":
        return str(plain(cell))
    try:
        return float(cell)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: the weight must be a number, not {cell!r}.", field="weight"
        ) from error
