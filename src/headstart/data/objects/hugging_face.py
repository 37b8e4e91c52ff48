"""Hugging Face's ``Dataset``: images as they are stored, nothing is encoded anew.

The library ``datasets`` is never imported here before an object of its own was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headstart.data.objects.elements import cell_of, class_names, image_of, label_of
from headstart.data.objects.given_rows import Given
from headstart.data.reading import Reading
from headstart.data.tabular.columns import choose_columns
from headstart.errors import UsageError

__all__ = ["hugging_face_rows", "is_hugging_face"]

_FURTHER = ("split", "group", "weight")
_TEXTS = ("string", "large_string")


def is_hugging_face(data: object) -> bool:
    """Tell whether ``data`` is one of the library's data sets, in memory or streamed."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(data).__mro__}
    return bool(kinds & {("datasets", "Dataset"), ("datasets", "IterableDataset")})


def hugging_face_rows(
    data: Any, where: str = "", reading: Reading | None = None
) -> Iterator[Given]:
    """Yield the rows of a ``Dataset`` or an ``IterableDataset``.

    The image is the column of that type; the label is the column of type ``ClassLabel``, or the
    one called ``label``; ``split``, ``group`` and ``weight`` are called so. ``reading`` may name
    others. An image that is missing is listed by the check as an empty file.

    Args:
        data: The data set. Its format and transform are not applied.
        where: `` of test``, for messages.
        reading: ``columns`` has the data set's own names for some columns; paths are relative to
            ``root``, or to the current folder.

    Raises:
        UnknownName: The data set lacks a column that ``reading`` names.
        UsageError: It is not clear which column is which, or a row has no label.
        DataError: A weight that is no number.
    """
    from datasets import Image

    reading = reading or Reading()
    root = Path(reading.root or "").expanduser()
    features = data.features or {}
    columns = _columns(features, reading.columns)
    names = {
        role: class_names(getattr(features[it], "names", None)) for role, it in columns.items()
    }
    image, label = columns.pop("path"), columns.pop("label")
    stored = data.with_format(None).select_columns([image, label, *columns.values()])
    for number, row in enumerate(stored.cast_column(image, Image(decode=False))):
        name = f"Row {number}{where}"
        cells = {role: row[it] for role, it in columns.items() if row[it] is not None}
        yield Given(
            _content(row[image], name, root),
            label_of(row[label], name, names["label"]),
            **{role: _further(role, it, name, names[role]) for role, it in cells.items()},
        )


def _content(stored: dict[str, Any] | None, name: str, root: Path) -> bytes | Path:
    """Return the bytes where there are any, else the file's path."""
    stored = stored or {}
    if stored.get("bytes") is not None or not stored.get("path"):
        return stored.get("bytes") or b""
    return image_of(stored["path"], name, root)


def _further(role: str, cell: Any, name: str, classes: Sequence[str]) -> Any:
    """Return a cell beside image and label; one of type ``ClassLabel`` by its name."""
    return cell_of(role, label_of(cell, name, classes) if classes else cell, name)


def _columns(features: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Return the name of each column that has a meaning, path and label among them."""
    names = list(features)
    found, _ = choose_columns("the data set", names, given, needed=(), roles=_FURTHER)
    own = {role: names[position] for role, position in found.items()}
    free = {name: kind for name, kind in features.items() if name not in own.values()}
    if "path" not in given:
        own["path"] = _column(free, "Image", "image")
    elif not _may_be_image(features[own["path"]]):
        raise UsageError(
            f"The column {own['path']!r} holds no images, but {features[own['path']]}.",
            field="column",
            hint="Name the one of type Image, or one of texts that are the paths of files.",
        )
    if "label" not in given:
        own["label"] = _column(free, "ClassLabel", "label")
    return own


def _may_be_image(feature: Any) -> bool:
    return type(feature).__name__ == "Image" or getattr(feature, "dtype", None) in _TEXTS


def _column(features: Mapping[str, Any], kind: str, usual: str) -> str:
    found = [name for name, feature in features.items() if type(feature).__name__ == kind]
    if len(found) == 1:
        return found[0]
    if usual in (found or (features if kind == "ClassLabel" else ())):
        return usual
    columns = ", ".join(f"{name} ({type(it).__name__})" for name, it in features.items())
    which = f"several columns of type {kind}" if found else f"no column of type {kind}"
    role = "path" if kind == "Image" else "label"
    raise UsageError(
        f"The data set has {which}. Its columns: {columns or 'not known'}.",
        field="data",
        hint=f'Say which it is: columns={{"{role}": "{(found or ["…"])[0]}"}}.',
    )
