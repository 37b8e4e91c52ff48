"""Labelled images given as Python objects: they become files and a table.

=====================================================  =====================================
given                                                  its images
=====================================================  =====================================
str or path                                            as it is; an ``.npz`` file is read
``datasets.Dataset``, ``DatasetDict``                  the stored bytes or files, not decoded
``pandas.DataFrame`` with ``path`` or ``image``        its files; images are written
a data set with ``samples`` (``ImageFolder``)          its files
torch's data sets, sequences of (image, label)         written, uncompressed
iterables of (image, label), tf.data's too             written in one pass
(images, labels): arrays (N, H, W[, C]), (N,)          written, uncompressed
((x, y), (x, y)): as ``keras.datasets`` load           train and test
a dict of any of these                                 by ``train``, ``val``, ``test``
=====================================================  =====================================

Nobody's library is imported to find out what an object is.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from headstart.data.class_folders import PART_NAMES
from headstart.data.objects.arrays import are_arrays, array_rows, read_npz
from headstart.data.objects.elements import class_names, image_of, label_of, read_element
from headstart.data.objects.frames import frame_rows, is_frame
from headstart.data.objects.given_rows import Given, GivenRows
from headstart.data.objects.hugging_face import hugging_face_rows, is_hugging_face
from headstart.data.objects.kept import TABLE, keep
from headstart.data.reading import Reading
from headstart.errors import UsageError

__all__ = ["MOST", "as_source"]

MOST = 1_000_000
"""As many images are read from an iterable that does not know its length; it may be endless."""

_KINDS = (
    "Give a folder, a table, a datasets.Dataset, a pandas.DataFrame, a torch data set, an iterable "
    "of (image, label), or a pair of arrays (images, labels)."
)


def as_source(data: object, folder: str | Path, reading: Reading | None = None) -> str | Path:
    """Return what can be read as a source of labelled images: a name, a folder or a table.

    What is one already is returned as it is. Anything else is written below ``folder``, if the same
    data is not there yet, and the path of its table is returned.

    Args:
        data: One of the kinds in the table above.
        folder: Where given data is kept.
        reading: Its ``columns`` are those of a ``DataFrame`` or a ``datasets.Dataset``, and paths
            are relative to its ``root``; the table that is written is to be read with it too.

    Raises:
        UsageError: ``data`` is none of these kinds, holds something that is not understood, was
            removed from ``folder``, or has nothing that ``reading`` could be about.
        DataError: An ``.npz`` file or an image that can't be read, or columns that are missing.
        ResourceError: The folder can't be written, or the disk is full.
    """
    reading, folder = reading or Reading(), Path(folder)
    if not isinstance(data, (str, Path)):
        return keep(_rows(data, reading), folder, reading.columns)
    if Path(data).suffix.lower() == ".npz" and os.path.isfile(data):  # noqa: PTH113 - never raises
        return keep(_npz_rows(Path(data), reading), folder, reading.columns)
    _require_kept(Path(data), folder)
    return data


def _require_kept(path: Path, folder: Path) -> None:
    """Refuse a table of given data that was removed: only the data itself can bring it back."""
    kept = path.name == TABLE and path.absolute().parents[1].name == folder.name
    if kept and not os.path.lexists(path):
        raise UsageError(
            f"There is no {path}: what was given as Python objects is no longer in the cache.",
            field="data",
            hint="Make the same call from Python with the same data again, such as "
            "headstart.fit(data, …): a run goes on where it was.",
        )


def _rows(data: object, reading: Reading) -> GivenRows:
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(map(are_arrays, data)):
        data = {"train": data[0], "test": data[1]}  # as keras.datasets.….load_data()
    parts = _parts(data) if isinstance(data, Mapping) else {"": None}
    given = data if isinstance(data, Mapping) else {"": data}
    if not any(is_frame(given[name]) or is_hugging_face(given[name]) for name in parts):
        _refuse("columns", bool(reading.columns), reading)
    sources = {
        name: _part_rows(given[name], f" of {name}" if name else "", reading) for name in parts
    }

    def chained() -> Iterator[Given]:
        for name, part in parts.items():
            for row in sources[name].make():
                yield row if part is None else replace(row, split=part)

    rows = GivenRows(chained, all(rows.repeatable for rows in sources.values()))
    return rows if reading.root is None else _with_files(rows, reading)


def _with_files(rows: GivenRows, reading: Reading) -> GivenRows:
    """Refuse ``root`` in the end, if no image was a path."""

    def watched() -> Iterator[Given]:
        has_files = False
        for row in rows.make():
            has_files = has_files or isinstance(row.image, Path)
            yield row
        _refuse("root", not has_files, reading)

    return GivenRows(watched, rows.repeatable)


def _refuse(option: str, without_effect: bool, reading: Reading) -> None:
    """Refuse an option that would do nothing, unless it may be meant for ``reading.test``."""
    what = {
        "columns": "says what the columns of a frame, a datasets.Dataset or a table are called",
        "root": "is the folder of images that are given as relative paths",
    }
    if without_effect and reading.test is None:
        raise UsageError(
            f"{option} {what[option]}, and the data has none.", field=option, hint="Leave it out."
        )


def _npz_rows(path: Path, reading: Reading) -> GivenRows:
    _refuse("columns", bool(reading.columns), reading)
    _refuse("root", reading.root is not None, reading)
    arrays, classes = read_npz(path)
    parts: dict[Any, str | None] = {None: None} if None in arrays else _parts(arrays)

    def chained() -> Iterator[Given]:
        for name, (images, labels) in arrays.items():
            rows = array_rows(images, labels, f" of {name}" if name else "", classes)
            yield from (replace(row, split=parts[name]) for row in rows)

    return GivenRows(chained, repeatable=True)


def _part_rows(data: Any, where: str, reading: Reading) -> GivenRows:
    if is_hugging_face(data):
        rows = partial(hugging_face_rows, data, where, reading)
        return GivenRows(rows, hasattr(data, "__len__"))
    if is_frame(data):
        return GivenRows(partial(frame_rows, data, reading), repeatable=True)
    if are_arrays(data):
        return GivenRows(partial(array_rows, data[0], data[1], where), repeatable=True)
    if (samples := _samples(data)) is not None:
        _refuse("root", reading.root is not None, reading)  # it knows where its files are
        return GivenRows(partial(_sample_rows, samples, data, where), repeatable=True)
    if not isinstance(data, (bytes, bytearray)) and (
        _is_sequence(data) or isinstance(data, Iterable)
    ):
        root = Path(reading.root or "").expanduser()
        return GivenRows(partial(_elements, data, where, root), repeatable=_is_sequence(data))
    raise UsageError(
        f"Labelled images can't be read from {type(data).__name__}.", field="data", hint=_KINDS
    )


def _samples(data: Any) -> Sequence[tuple[str | Path, Any]] | None:
    """Return (file, label) of a data set that knows its files, or None."""
    whole, chosen = _unwrapped(data)
    samples = getattr(whole, "samples", None)
    if not isinstance(samples, Sequence) or not samples or not _is_sample(samples[0]):
        return None
    return samples if chosen is None else [samples[number] for number in chosen]


def _sample_rows(
    samples: Sequence[tuple[str | Path, Any]], data: Any, where: str
) -> Iterator[Given]:
    """Yield the files of a data set; its transform has no place there, its target's has."""
    whole, _ = _unwrapped(data)
    change = getattr(whole, "target_transform", None)
    names = () if change else _names(whole)
    for number, (path, target) in enumerate(samples):
        name = f"Sample {number}{where}"
        label = label_of(change(target) if change else target, name, names)
        yield Given(image_of(path, name), label)


def _elements(data: Any, where: str, root: Path) -> Iterator[Given]:
    """Read the pairs of a sequence by their positions, of an iterable in one pass."""
    whole, _ = _unwrapped(data)
    names = () if getattr(whole, "target_transform", None) else _names(whole)
    numbered: Iterator[tuple[int, Any]] = enumerate(data if not _is_sequence(data) else ())
    if _is_sequence(data):
        # torch's data sets have no __iter__; by the old protocol they would end by IndexError only.
        numbered = ((number, data[number]) for number in range(len(data)))
    elif _length(data) is None:
        numbered = itertools.islice(numbered, MOST + 1)
    for number, element in numbered:
        if number == MOST and _length(data) is None:
            raise UsageError(
                f"The data gave more than {MOST:,} images and does not know how many it has: it "
                "may be endless.",
                field="data",
                hint="Give a part of it, such as itertools.islice(data, 50_000), or a list.",
            )
        yield read_element(element, f"Element {number}{where}", names, root)


def _is_sequence(data: object) -> bool:
    return hasattr(data, "__getitem__") and hasattr(data, "__len__")


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:
        return None


def _parts(data: Mapping[Any, Any]) -> dict[Any, str | None]:
    """Return which part each entry is. One beside train alone is test, whatever it is called.

    Raises:
        UsageError: An entry that is no part, or two that are the same one.
    """
    parts = {name: PART_NAMES.get(str(name).lower()) for name in data}
    others = [name for name, part in parts.items() if part is None]
    if len(others) == 1 and sorted(map(str, parts.values())) == ["None", "train"]:
        parts[others[0]] = "test"
    elif others or not parts or len(set(parts.values())) < len(parts):
        raise UsageError(
            "A dict of data must have the keys train, val and test, one of each, or some of them; "
            f"not {', '.join(map(repr, list(data)[:20])) or 'none'}.",
            field="data",
            hint='Images with their labels: a pair (images, labels), or {"train": (images, …), …}.',
        )
    return parts


def _unwrapped(data: Any) -> tuple[Any, list[int] | None]:
    """Return the data set under torch's subsets, and which of its elements they chose."""
    chosen: list[int] | None = None
    while type(data).__name__ == "Subset" and hasattr(data, "indices"):
        indices = [int(index) for index in data.indices]
        chosen = indices if chosen is None else [indices[number] for number in chosen]
        data = data.dataset
    return data, chosen


def _names(data: Any) -> tuple[str, ...]:
    return class_names(getattr(data, "classes", None))


def _is_sample(sample: object) -> bool:
    return isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[0], (str, Path))
