"""Data sets that have a name: ``elpv``, and torchvision's as ``torchvision:NAME``."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.data.items import Dataset, Item
from headstart.data.reading import Reading
from headstart.errors import MissingExtra, UnknownName

if TYPE_CHECKING:
    from headstart.cache import Cache

__all__ = ["NAMES", "as_text", "is_name", "open_name"]

NAMES = ("elpv",)
"""The names that stand for themselves."""

_TORCHVISION = "torchvision:"


def is_name(data: object) -> bool:
    """Tell whether DATA names a set; a ``Path`` never does, nor does ``./elpv``."""
    return isinstance(data, str) and (data in NAMES or data.startswith(_TORCHVISION))


def as_text(data: str | Path) -> str:
    """Return DATA as text that means the same: a ``Path`` that has a set's name stays a path."""
    text = str(data)
    return f"./{text}" if isinstance(data, Path) and is_name(text) else text


def open_name(name: str, reading: Reading, *, cache: Cache | None = None) -> Dataset:
    """List the images of a named set; nothing is decoded.

    Args:
        name: For which ``is_name`` is true.
        reading: Its ``root`` is where torchvision's sets are kept.
        cache: Where they are kept without a root; the user's cache by default.

    Raises:
        UnknownName: There is no such set.
        MissingExtra: The set's package is not installed.
        HeadstartError: Whatever else keeps it from being read.
    """
    if name.startswith(_TORCHVISION):
        from headstart.data.torchvision_sets import open_named

        return open_named(name, reading, cache=cache)
    if name == "elpv":
        return _elpv()
    raise UnknownName("data set", name, NAMES, field="data")


def _elpv() -> Dataset:
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra("The data set elpv", "samples", field="data")
    root = Path(found.submodule_search_locations[0]) / "data"
    items = []
    for line in (root / "labels.csv").read_text(encoding="utf-8").splitlines():
        name, probability, _cell = line.split()
        label = "defective" if float(probability) >= 0.5 else "functional"
        items.append(Item(root / name, name, label))
    return Dataset(
        name="elpv",
        root=root,
        items=tuple(sorted(items, key=lambda item: item.name)),
        classes=("defective", "functional"),
        notes=(
            "elpv: solar cells under electroluminescence (Buerhop-Lutz et al. 2018, Deitsch et al. "
            "2019 and 2021), licence CC BY-NC-SA 4.0: sample data, not for commercial use.",
            "A cell is defective where its defect probability is at least 0.5.",
        ),
        licence="CC BY-NC-SA 4.0",
    )
