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
from headstart.data.objects.kept import keep
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
        reading: Its ``columns`` and ``root`` are those of a ``DataFrame``; the table that is
            written is to be read with it too.

    Raises:
        UsageError: ``data`` is none of these kinds, or holds something that is not understood.
        DataError: An ``.npz`` file or an image that can't be read.
        ResourceError: The folder can't be written, or the disk is full.
    """
    reading, folder = reading or Reading(), Path(folder)
    if isinstance(data, (str, Path)):
        if Path(data).suffix.lower() != ".npz" or not Path(data).is_file():
            return data
        return keep(_npz_rows(Path(data)), folder, reading.columns)
    return keep(_rows(data, reading), folder, reading.columns)


def _rows(data: object, reading: Reading) -> GivenRows:
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(map(are_arrays, data)):
        data = {"train": data[0], "test": data[1]}  # as keras.datasets.….load_data()
    if not isinstance(data, Mapping):
        return _part_rows(data, "", reading)
    parts = _parts(data)
    sources = {name: _part_rows(data[name], f" of {name}", reading) for name in parts}

    def chained() -> Iterator[Given]:
        for name, part in parts.items():
            yield from (replace(row, split=part) for row in sources[name].make())

    return GivenRows(chained, all(rows.repeatable for rows in sources.values()))


def _npz_rows(path: Path) -> GivenRows:
    arrays, classes = read_npz(path)
    parts: dict[Any, str | None] = {None: None} if None in arrays else _parts(arrays)

    def chained() -> Iterator[Given]:
        for name, (images, labels) in arrays.items():
            rows = array_rows(images, labels, f" of {name}" if name else "", classes)
            yield from (replace(row, split=parts[name]) for row in rows)

    return GivenRows(chained, repeatable=True)


def _part_rows(data: Any, where: str, reading: Reading) -> GivenRows:
    if is_hugging_face(data):
        return GivenRows(partial(hugging_face_rows, data, where), hasattr(data, "__len__"))
    if is_frame(data):
        return GivenRows(partial(frame_rows, data, reading), repeatable=True)
    if are_arrays(data):
        return GivenRows(partial(array_rows, data[0], data[1], where), repeatable=True)
    if (samples := _samples(data)) is not None:
        return GivenRows(partial(_sample_rows, samples, data, where), repeatable=True)
    if not isinstance(data, (bytes, bytearray)) and (
        _is_sequence(data) or isinstance(data, Iterable)
    ):
        return GivenRows(partial(_elements, data, where), repeatable=_is_sequence(data))
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


def _elements(data: Any, where: str) -> Iterator[Given]:
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
        yield read_element(element, f"Element {number}{where}", names)


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
