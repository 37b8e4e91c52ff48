"""Hugging Face's ``Dataset``: images as they are stored, nothing is encoded anew.

The library ``datasets`` is never imported here before an object of its own was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headstart.data.objects.elements import class_names, image_of, label_of
from headstart.data.objects.given_rows import Given
from headstart.errors import UsageError

__all__ = ["hugging_face_rows", "is_hugging_face"]


def is_hugging_face(data: object) -> bool:
    """Tell whether ``data`` is one of the library's data sets, in memory or streamed."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(data).__mro__}
    return bool(kinds & {("datasets", "Dataset"), ("datasets", "IterableDataset")})


def hugging_face_rows(data: Any, where: str = "") -> Iterator[Given]:
    """Yield the rows of a ``Dataset`` or an ``IterableDataset``.

    The image is the column of that type; the label is the column of type ``ClassLabel``, or the
    one called ``label``. An image that is missing is listed by the check as an empty file.

    Args:
        data: The data set. Its format and transform are not applied.
        where: `` of test``, for messages.

    Raises:
        UsageError: It is not clear which column is which, or a row has no label.
    """
    from datasets import Image

    features = data.features or {}
    image, label = _column(features, "Image", "image"), _column(features, "ClassLabel", "label")
    classes = class_names(getattr(features[label], "names", None))
    plain = data.with_format(None).select_columns([image, label])
    for number, row in enumerate(plain.cast_column(image, Image(decode=False))):
        name = f"Row {number}{where}"
        yield Given(_content(row[image], name), label_of(row[label], name, classes))


def _content(stored: dict[str, Any] | None, name: str) -> bytes | Path:
    """Return the bytes where there are any, else the file's path."""
    stored = stored or {}
    if stored.get("bytes") is not None or not stored.get("path"):
        return stored.get("bytes") or b""
    return image_of(stored["path"], name)


def _column(features: dict[str, Any], kind: str, usual: str) -> str:
    found = [name for name, feature in features.items() if type(feature).__name__ == kind]
    if len(found) == 1:
        return found[0]
    if usual in (found or (features if kind == "ClassLabel" else ())):
        return usual
    columns = ", ".join(f"{name} ({type(it).__name__})" for name, it in features.items())
    which = f"several columns of type {kind}" if found else f"no column of type {kind}"
    hint = f'Rename the right one: data.rename_column("{(found or ["…"])[0]}", "{usual}").'
    if not found:
        make = "Image()" if kind == "Image" else "ClassLabel(names=[…])"
        hint = f'Make one: data.cast_column("…", datasets.{make}).'
    raise UsageError(
        f"The data set has {which}. Its columns: {columns or 'not known'}.",
        field="data",
        hint=hint,
    )
