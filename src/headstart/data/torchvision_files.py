"""The images of torchvision's data sets: their files where torchvision knows them, else pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headstart.data.objects.elements import class_names, image_of, label_of
from headstart.data.objects.given_rows import Given

__all__ = ["torchvision_rows"]

# Under which names the classes of torchvision keep (file, label), and files beside labels.
_PAIRED = ("_samples", "samples", "imgs")
_BESIDE = (("_image_files", "_labels"), ("_images", "_labels"))
_CALTECH = {
    "Caltech101": ("101_ObjectCategories", "image_{image:04d}.jpg"),
    "Caltech256": ("256_ObjectCategories", "{label:03d}_{image:04d}.jpg"),
}
_BLOCK = 1024  # images of PCAM that are read at once


def torchvision_rows(data: Any, part: str | None, width: int = 1) -> Iterator[Given]:
    """Yield the rows of one part of a data set.

    Args:
        data: An object of one of torchvision's classes, without transforms.
        part: train, val or test, or None.
        width: Digits of a label, where torchvision gives no names.

    Raises:
        UsageError: An image without a label.
    """
    names = class_names(getattr(data, "classes", getattr(data, "categories", None)))
    files = _files(data)
    pairs: Any = files if files is not None else _pixels(data)
    for number, (image, label) in enumerate(pairs):
        where = f"Image {number}{f' of {part}' if part else ''}"
        text = label_of(label, where, names)
        yield Given(image_of(image, where), text if names else text.zfill(width), part)


def _files(data: Any) -> Sequence[tuple[str | Path, int]] | None:
    """Return (file, label) of all images, or None where torchvision holds pixels."""
    if type(data).__name__ in _CALTECH:
        return _caltech(data)
    for name in _PAIRED:
        pairs = getattr(data, name, None)
        if pairs and isinstance(pairs[0][0], (str, Path)):
            return list(pairs)
    for files, labels in _BESIDE:
        if hasattr(data, files) and hasattr(data, labels):
            return list(zip(getattr(data, files), getattr(data, labels), strict=True))
    return None


def _caltech(data: Any) -> list[tuple[Path, int]]:
    folder, pattern = _CALTECH[type(data).__name__]
    return [
        (
            Path(data.root)
            / folder
            / data.categories[label]
            / pattern.format(label=label + 1, image=image),
            label,
        )
        for image, label in zip(data.index, data.y, strict=True)
    ]


def _pixels(data: Any) -> Iterator[tuple[Any, Any]]:
    if type(data).__name__ == "PCAM":
        return _pcam(data)
    return (data[number] for number in range(len(data)))


def _pcam(data: Any) -> Iterator[tuple[Any, Any]]:
    """Read in blocks: one image at a time, both files would be opened for each of 327,680."""
    import h5py

    images, labels = (data._FILES[data._split][what][0] for what in ("images", "targets"))
    with h5py.File(data._base_folder / images) as x, h5py.File(data._base_folder / labels) as y:
        for start in range(0, len(x["x"]), _BLOCK):
            block = slice(start, start + _BLOCK)
            yield from zip(x["x"][block], y["y"][block].reshape(-1), strict=True)
