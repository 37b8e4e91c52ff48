"""Files of weights that Keras wrote, read without Keras and without running code.

Keras 3's ``.weights.h5``, the ``.h5`` files of Keras 1 and 2 and whole models in that format are
all HDF5: arrays in groups, which is what is read. What a file says about layers' classes, functions
or programs is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from headstart.errors import HeadstartError, MissingExtra, ModelError, UnsafeFile

__all__ = ["Array", "Layer", "is_h5", "read_h5", "read_layers"]

Array = npt.NDArray[Any]
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MARGIN = 1 << 20
_LONGEST_NAME = 1000  # in bytes; Keras's own have a few dozen


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer in a file.

    Attributes:
        path: Names of what it is in, and its own.
        variables: Name, or place as a number in words, and values of each.
    """

    path: tuple[str, ...]
    variables: tuple[tuple[str, Array], ...]


def is_h5(path: Path) -> bool:
    """Whether a file is HDF5, by its content."""
    try:
        with path.open("rb") as file:
            return file.read(len(_HDF5)) == _HDF5
    except OSError:
        return False


def read_h5(path: Path) -> dict[str, Array]:
    """Read all arrays of a Keras file, by the names of their layers: ``block_1_expand.kernel``.

    Files of Keras 3 number a layer's arrays: ``block_1_expand.0``.

    Raises:
        MissingExtra: The package that reads HDF5 is not installed.
        UnsafeFile: It points to other files, or unpacks to more than it is.
        ModelError: It can't be read, or is no file of weights of Keras's.
    """
    return {
        ".".join((*layer.path, name)): value
        for layer in read_layers(path)
        for name, value in layer.variables
    }


def read_layers(path: Path) -> list[Layer]:
    """Read the layers of a Keras file, in the order in which they are saved.

    Raises:
        MissingExtra: The package that reads HDF5 is not installed.
        UnsafeFile: It points to other files, or unpacks to more than it is.
        ModelError: It can't be read, or is no file of weights of Keras's.
    """
    with _opened(path) as file:
        _check(file, path)
        root = file.get("model_weights", file)
        if "layer_names" in root.attrs or "layer_names0" in root.attrs:
            layers = list(_classic(root))
        else:
            layers = list(_keras3(file))
    if not any(layer.variables for layer in layers):
        raise ModelError(
            f"{path} is HDF5, but holds no weights as Keras writes them.",
            field=str(path),
            hint="Save them with: model.save_weights('x.weights.h5')",
        )
    return layers


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise MissingExtra(f"Reading {path.name}", "keras", field="weights") from error
    try:
        with h5py.File(path, "r") as file:
            yield file
    except HeadstartError:
        raise
    except Exception as error:  # a list may be a number, a group an array: whatever that leads to
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise ModelError(f"{path} can't be read as HDF5: {reason}.", field=str(path)) from error


def _check(file: Any, path: Path) -> None:
    """Refuse links to other files, and arrays that would fill the memory."""
    import h5py

    size = 0
    groups = [file]
    seen = {h5py.h5o.get_info(file.id).addr}
    while groups:
        group = groups.pop()
        for name in group:
            # A link to another file must not even be followed.
            plain = isinstance(group.get(name, getlink=True), h5py.HardLink)
            address = h5py.h5o.get_info(group[name].id).addr if plain else None
            if address is None or address in seen:
                raise UnsafeFile(f"{path} points elsewhere with {name}.", field=str(path))
            seen.add(address)
            item = group[name]
            if isinstance(item, h5py.Group):
                groups.append(item)
            elif item.external or item.is_virtual or not _has_numbers(item):
                raise UnsafeFile(
                    f"{path}: {item.name} is not a plain array of numbers.", field=str(path)
                )
            elif item.id.get_create_plist().get_nfilters():
                # One part may unpack to any size, whatever the size of the array. Keras packs none.
                raise UnsafeFile(
                    f"{path}: {item.name} is compressed.",
                    field=str(path),
                    hint=f"Where you trust the file: h5repack -f NONE {path.name} plain.h5",
                )
            else:
                size += item.nbytes
        if size > 2 * path.stat().st_size + _MARGIN:
            raise UnsafeFile(f"{path} would unpack to {size:,} bytes and more.", field=str(path))


def _has_numbers(item: Any) -> bool:
    return item.shape is not None and item.dtype.kind in "fiub" and item.dtype.itemsize <= 8


def _classic(root: Any) -> Iterator[Layer]:
    """Read what Keras 1 and 2 wrote: each layer's group lists its arrays by name."""
    import h5py

    read: set[int] = set()
    for group_name in _list(root, "layer_names"):
        group = root[group_name]
        found: dict[tuple[str, ...], list[tuple[str, Array]]] = {}
        for name in _list(group, "weight_names"):
            # A list may name one array many times, each of which would be a copy.
            address = h5py.h5o.get_info(group[name].id).addr
            if address in read:
                raise ValueError(f"{group_name} names {name} again")
            read.add(address)
            *inside, variable = re.sub(r":\d+$", "", name).split("/")
            where = tuple(inside) or tuple(group_name.split("/"))
            found.setdefault(where, []).append((variable, group[name][()]))
        if not found:
            yield Layer((group_name,), ())
        for where, variables in found.items():
            yield Layer(where, tuple(variables))


def _list(group: Any, name: str) -> list[str]:
    """Read a list of names, which may be in several attributes."""
    whole = [name] if name in group.attrs else []
    parts = whole or sorted(
        (key for key in group.attrs if re.fullmatch(rf"{name}\d+", key)),
        key=lambda key: int(key[len(name) :]),
    )
    values = [value for part in parts for value in group.attrs[part]]
    return [_name(v.decode("utf-8") if isinstance(v, bytes) else str(v)) for v in values]


def _name(text: str) -> str:
    if len(text.encode("utf-8")) > _LONGEST_NAME:
        raise ValueError(f"a name has {len(text):,} characters")
    return text


def _keras3(file: Any) -> Iterator[Layer]:
    """Read what Keras 3 writes: groups named ``vars``, which say which layer they are of."""
    groups = [file]
    while groups:
        group = groups.pop()
        for name, item in group.items():
            if name == "vars":
                own = _name(str(item.attrs.get("name", group.name.rpartition("/")[2])))
                numbers = sorted((key for key in item if key.isdecimal()), key=int)
                yield Layer((own,), tuple((key, item[key][()]) for key in numbers))
            elif hasattr(item, "items") and name != "optimizer":
                groups.append(item)
