"""pandas's ``DataFrame``: a table of images in memory.

One row an image, its columns found as in any table: ``path`` or ``image``, and ``label``, or names
that mean these; ``split``, ``group`` and ``weight``. pandas itself is never imported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headstart.data.objects.elements import cell_of, image_of, label_of
from headstart.data.objects.given_rows import Given
from headstart.data.reading import Reading
from headstart.data.tabular.columns import choose_columns

__all__ = ["frame_rows", "is_frame"]


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
        UnknownName: The frame lacks a column that ``reading`` names.
        DataError: There are no images, no labels, several columns of a name that is needed, or
            a weight that is no number.
        UsageError: An image or a label that is not understood.
    """
    root = Path(reading.root or "").expanduser()
    positions = _positions([str(name) for name in frame.columns], reading)
    columns = (_cells(frame.iloc[:, position]) for position in positions.values())
    for index, *values in zip(frame.index, *columns, strict=True):
        where = f"Row {index}"
        cells = dict(zip(positions, values, strict=True))
        image, label = cells.pop("path"), cells.pop("label")
        yield Given(
            image_of(image, where, root),
            label_of(label, where),
            **{role: cell_of(role, it, where) for role, it in cells.items() if it is not None},
        )


def _positions(names: Sequence[str], reading: Reading) -> dict[str, int]:
    """Find the columns; ``image`` goes before what else could be the path, but not before that."""
    given = dict(reading.columns)
    free = {name.strip().casefold() for name in names if name not in given.values()}
    if "path" not in {*given, *free} and "image" in free:
        given["path"] = "image"
    return choose_columns("the DataFrame", names, given, needed=("path", "label"))[0]


def _cells(column: Any) -> Any:
    """Return a column with None where pandas has any of its own missing values."""
    return column.astype(object).where(column.notna(), None)
