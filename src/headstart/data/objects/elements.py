"""One (image, label) pair of a Python object, whatever library made it.

==========================================  ================================================
image                                       becomes
==========================================  ================================================
PIL image                                   upright 8-bit pixels (:mod:`headstart.data.modes`)
uint8 (H, W), (H, W, 1|3|4)                 pixels; a fourth channel is alpha, laid over white
torch tensor uint8, also (1|3|4, H, W)      the same
bytes                                       an image file's content, kept as it is
str, Path                                   a file, used where it is
==========================================  ================================================

Pixels become uncompressed PPM or PGM: the same pixels are the same bytes with every version of
every library, and an image's digest, which decides its place in the split, hangs on nothing else.
Tensors of torch, TensorFlow and JAX are told by what they can do; none of them is imported.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
from PIL import Image

from headstart.data.objects.given_rows import Given
from headstart.data.read import decode
from headstart.errors import BadImage, DataError, UsageError

__all__ = ["as_array", "cell_of", "class_names", "image_of", "label_of", "plain", "read_element"]

_CHANNELS = (1, 3, 4)
_FURTHER = ("split", "group", "weight")


def read_element(
    element: object, where: str, classes: Sequence[str] = (), root: Path | None = None
) -> Given:
    """Read a pair (image, label), or a dict with ``image`` and ``label``.

    A dict may have ``split``, ``group`` and ``weight`` too.

    Args:
        element: What the data set gave.
        where: ``Element 7``, for messages.
        classes: The names of integer labels.
        root: The folder that paths are relative to; None is the current one.

    Raises:
        UsageError: It is no such pair, a batch of them, or of values that are not understood.
        BadImage: The image is damaged.
    """
    further: dict[str, Any] = {}
    if isinstance(element, Mapping) and {"image", "label"} <= set(element):
        image, label = element["image"], element["label"]
        further = {key: plain(element[key]) for key in _FURTHER if element.get(key) is not None}
    elif isinstance(element, (tuple, list)) and len(element) == 2:
        image, label = element
    else:
        raise UsageError(
            f'{where} must be a pair (image, label) or a dict with "image" and "label", '
            f"not {_described(element)}.",
            field="data",
        )
    _refuse_batch(image, label, where)
    if "group" in further:
        further["group"] = str(further["group"])
    return Given(image_of(image, where, root), label_of(label, where, classes), **further)


def image_of(image: object, where: str, root: Path | None = None) -> bytes | Path:
    """Return an image as the content of a file, or as the path of the file it is.

    Args:
        image: One of the kinds in the table above.
        where: ``Element 7``, for messages.
        root: The folder that a path is relative to; None is the current one.

    Raises:
        UsageError: It is none of them.
        BadImage: A PIL image that can't be decoded.
    """
    if isinstance(image, (str, Path)):
        file = os.path.join(root or "", image)  # noqa: PTH118 - as abspath, which lets ".." go
        return Path(os.path.abspath(file))  # noqa: PTH100 - "..", which would hide the folder, goes
    source = image if isinstance(image, Image.Image) else as_array(image, where)
    if isinstance(source, bytes):
        return source
    try:
        pixels = decode(source)
    except BadImage as error:
        raise BadImage(where, error.reason) from error
    except UsageError as error:
        raise UsageError(f"{where}: {error.message}", field="data", hint=error.hint) from error
    kind = "P5" if pixels.mode == "L" else "P6"
    return f"{kind}\n{pixels.width} {pixels.height}\n255\n".encode() + pixels.tobytes()


def as_array(image: object, where: str) -> npt.NDArray[np.uint8] | bytes:
    """Return an array or a tensor as a uint8 array with its channels last; bytes as they are."""
    channels_first = hasattr(image, "detach")  # a tensor of torch
    if hasattr(image, "detach"):
        image = image.detach().cpu()
    kind = str(getattr(image, "dtype", ""))
    if kind and "uint8" not in kind and "string" not in kind and "S" not in kind:
        _refuse_values(kind, where)
    if hasattr(image, "numpy"):
        image = image.numpy()
    if isinstance(image, bytes):
        return image
    if not hasattr(image, "__array__"):
        raise UsageError(
            f"{where}: the image must be a PIL image, a uint8 array or tensor, a path, or the "
            f"bytes of an image file, not {_described(image)}.",
            field="data",
        )
    array = np.asarray(image)
    return _channels_last(array, where) if channels_first and array.ndim == 3 else array


def label_of(label: object, where: str, classes: Sequence[str] = ()) -> str:
    """Return a label as the name of its class.

    Args:
        label: A text or an integer; of Python, or as an array or tensor of one value.
        where: ``Element 7``, for messages.
        classes: The names of integer labels; without them an integer is its own name.

    Raises:
        UsageError: It is neither, or an integer that no class has.
    """
    value = plain(label)
    empty = isinstance(value, str) and not value
    if value is None or empty or (isinstance(value, float) and math.isnan(value)):
        raise UsageError(
            f"{where} has no label.", field="data", hint="Leave unlabelled images out."
        )
    if isinstance(value, (str, bool)):
        return value if isinstance(value, str) else str(value).lower()  # as in tables
    if not isinstance(value, int):
        hint = "Give one integer or text an image: one-hot rows become that by argmax(axis=-1)."
        raise UsageError(
            f"{where}: the label must be an integer or a text, not {_described(value)}.",
            field="data",
            hint=hint,
        )
    if not classes:
        return str(value)
    if not 0 <= value < len(classes):
        raise UsageError(
            f"{where}: the label {value} is none of 0 to {len(classes) - 1}, as there are "
            f"{len(classes)} class names.",
            field="data",
            hint="Leave unlabelled images (-1, mostly) out." if value < 0 else None,
        )
    return classes[value]


def class_names(classes: object) -> tuple[str, ...]:
    """Return the names of a data set's ``classes``, all different; none where it has none.

    Of several names of one class (ImageNet's) the first is taken; where two classes have the same
    one, their numbers tell them apart.
    """
    if not isinstance(classes, (list, tuple)):
        return ()
    names = [str(name[0] if isinstance(name, tuple) else name) for name in classes]
    often = Counter(names)
    return tuple(f"{n} ({i})" if often[n] > 1 else n for i, n in enumerate(names))


def cell_of(role: str, cell: Any, where: str) -> Any:
    """Return a table's cell in the column ``split``, ``group`` or ``weight``, of any type but None.

    Raises:
        DataError: A weight that is no number.
    """
    value = plain(cell)
    if role != "weight":
        return str(value)
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{where}: the weight must be a number, not {cell!r}.", field="weight"
        ) from error


def plain(value: Any) -> Any:
    """Return a scalar of any library as Python's own; anything else as it is."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if hasattr(value, "numpy"):
        value = value.numpy()
    if isinstance(value, (np.generic, np.ndarray)) and value.size == 1:
        value = value.reshape(()).item()
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _channels_last(array: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    first, last = array.shape[0] in _CHANNELS, array.shape[2] in _CHANNELS
    if first and last:
        raise UsageError(
            f"{where}: a tensor of shape {array.shape} may be (C, H, W) or (H, W, C).",
            field="data",
            hint="Give it as an array (H, W, C): tensor.permute(1, 2, 0).numpy().",
        )
    return array.transpose(1, 2, 0) if first else array


def _refuse_batch(image: object, label: object, where: str) -> None:
    sizes, labels = (tuple(getattr(value, "shape", ())) for value in (image, label))
    if len(sizes) == 4 or (labels and len(sizes) > 2 and 1 < labels[0] == sizes[0]):
        raise UsageError(
            f"{where} is a batch: images of shape {sizes}.",
            field="data",
            hint="Give single images: a loader's .dataset, or .unbatch() of a tf.data.Dataset.",
        )


def _refuse_values(kind: str, where: str) -> NoReturn:
    hint = "Whole numbers within 0..255 become uint8 by astype('uint8')."
    if "float" in kind:
        hint = (
            "Take ToTensor, ToDtype and Normalize out of the data set's transform (PILToTensor "
            "may stay).\nFloats within 0..1 become uint8 by (pixels * 255).round() in uint8."
        )
    raise UsageError(
        f"{where}: the image must be uint8, 0 to 255, not {kind.removeprefix('torch.')}.",
        field="data",
        hint=hint,
    )


def _described(value: object) -> str:
    shape = getattr(value, "shape", None)
    many = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{type(value).__name__}{many}" + (f" of shape {tuple(shape)}" if shape else "")
