"""Arrays of images with their labels: (N, H, W[, C]) uint8 and (N,), in memory or in an .npz file.

An ``.npz`` file holds one pair of arrays, or one a part::

    x, y          images, labels                 the whole data set
    x_train, y_train, x_test, y_test             as Keras's data sets are kept
    train_images, train_labels, test_images, …   as MedMNIST's are
"""

from __future__ import annotations

import itertools
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from headstart.data.class_folders import PART_NAMES
from headstart.data.objects.elements import class_names, image_of, label_of
from headstart.data.objects.given_rows import Given
from headstart.errors import DataError, ResourceError, UsageError

__all__ = ["are_arrays", "array_rows", "read_npz"]

_PAIRS = (("x", "y"), ("images", "labels"), ("image", "label"), ("data", "labels"))
_NAMED = ("classes", "class_names")


def are_arrays(data: object) -> bool:
    """Tell whether ``data`` is a pair of arrays or tensors: images, labels."""
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        return False
    images, labels = data
    return len(getattr(images, "shape", ())) in (3, 4) and (
        len(getattr(labels, "shape", ())) in (1, 2) or isinstance(labels, (list, tuple))
    )


def array_rows(
    images: Any, labels: Any, where: str = "", classes: Sequence[str] = ()
) -> Iterator[Given]:
    """Yield the rows of a pair of arrays.

    Args:
        images: (N, H, W) or (N, H, W, C) uint8; a tensor of torch may be (N, C, H, W).
        labels: (N,) or (N, 1) integers or texts.
        where: `` of test``, for messages.
        classes: The names of integer labels.

    Raises:
        UsageError: Other shapes or types.
    """
    if len(images) != len(labels):
        raise UsageError(
            f"There are {len(images):,} images{where}, but {len(labels):,} labels.", field="data"
        )
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        name = f"Image {number}{where}"
        yield Given(image_of(image, name), label_of(label, name, classes))


def read_npz(path: Path) -> tuple[dict[str | None, tuple[Any, Any]], tuple[str, ...]]:
    """Read the arrays of an ``.npz`` file; nothing in it is unpickled.

    Returns:
        (images, labels) of each part, the part None being the whole; and the names of the classes,
        where the file holds ``classes``.

    Raises:
        DataError: The file can't be read, or holds other arrays.
        ResourceError: The arrays need more memory than there is.
    """
    try:
        with path.open("rb") as file, np.load(_zip(file), allow_pickle=False) as archive:
            pairs = list(_pairs(archive.files))
            found = dict(pairs) if _is_clear(pairs) else {}
            names = next((archive[name].tolist() for name in _NAMED if name in archive), None)
            parts = {part: (archive[x], archive[y]) for part, (x, y) in found.items()}
            held = ", ".join(sorted(archive.files)[:20])
    except MemoryError as error:
        raise ResourceError(
            f"The arrays of {path} need more memory than there is.",
            field=str(path),
            hint="Write the images as files in class folders.",
        ) from error
    # numpy and zipfile raise whatever a damaged file leads them into.
    except Exception as error:
        raise DataError(
            f"{path} can't be read as an .npz file: {_reason(error)}.",
            field=str(path),
            hint="Write it with numpy.savez; texts as str arrays, not as objects.",
        ) from error
    if len(pairs) > len(parts):
        raise DataError(
            f"{path} holds more images with labels than can be told apart: "
            f"{', '.join(' with '.join(names) for _, names in pairs)}.",
            field=str(path),
            hint="Keep one pair, x and y, or one a part: x_train, y_train, x_test and y_test.",
        )
    if not parts:
        raise DataError(
            f"{path} holds no images with labels. Its arrays: {held or 'none'}.",
            field=str(path),
            hint="Name them x and y, or x_train, y_train, x_test and y_test.",
        )
    return parts, class_names(names)


def _pairs(names: Sequence[str]) -> Iterator[tuple[str | None, tuple[str, str]]]:
    """Yield all images with labels, as (part, (name of the images, name of the labels))."""
    there = {name.lower(): name for name in names}
    for x, y in _PAIRS:
        if x in there and y in there:
            yield None, (there[x], there[y])
    for (x, y), part in itertools.product(_PAIRS, PART_NAMES):
        for images, labels in ((f"{x}_{part}", f"{y}_{part}"), (f"{part}_{x}", f"{part}_{y}")):
            if images in there and labels in there:
                yield part, (there[images], there[labels])


def _is_clear(pairs: Sequence[tuple[str | None, tuple[str, str]]]) -> bool:
    """Tell whether there is one pair that is the whole, or none, and one of each part at most."""
    parts = [part for part, _ in pairs]
    return len(set(parts)) == len(parts) and (None not in parts or len(parts) == 1)


def _zip(file: IO[bytes]) -> IO[bytes]:
    """Return a file that is a zip; of any other, numpy.load would make something else."""
    if not zipfile.is_zipfile(file):
        raise zipfile.BadZipFile
    file.seek(0)
    return file


def _reason(error: Exception) -> str:
    if isinstance(error, zipfile.BadZipFile):
        return "it is damaged, or no zip file"
    return (str(error) or type(error).__name__).rstrip(".")[:200]
