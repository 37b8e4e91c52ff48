"""The cache: what was computed for an image, found again by the image's digest.

::

    CACHE/
      files.sqlite             what was learnt of a file, by (path, size, mtime)
      paths.json               which inference path was chosen for a network on this machine
      undecodable.json         which images can't be decoded, and why
      stores/STORE/            STORE is the digest of the store's key; headstart.store has the rest
      archives/DIGEST/         what was in a zip file; headstart.data.unpacked has the rest
      given/DIGEST/            what was given as Python objects; headstart.data.objects.kept
      torchvision/             where torchvision downloads its data sets to

The stores stay within a limit of bytes: the one that was used least recently goes first. What was
unpacked or given stays until it is cleared, downloads until the user deletes them. No torch here.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.errors import ModelError, UsageError
from headstart.files import digest, read_json
from headstart.store import Store, remove_store, rows_bytes

__all__ = ["Cache", "StoreInfo", "default_folder", "size_limit"]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def default_folder() -> Path:
    """Return ``HEADSTART_CACHE``, or the user's cache folder of this platform."""
    import platformdirs

    return Path(os.environ.get("HEADSTART_CACHE") or platformdirs.user_cache_dir("headstart"))


def size_limit(folder: Path) -> int:
    """Return how many bytes the stores may take.

    ``HEADSTART_CACHE_SIZE`` (``500MB``, ``20GB``, or bytes) decides; otherwise 20 GB or a tenth
    of what the disk could give the cache, whichever is less.

    Raises:
        UsageError: ``HEADSTART_CACHE_SIZE`` is not a size.
    """
    text = os.environ.get("HEADSTART_CACHE_SIZE", "").strip().upper()
    if not text:
        used = sum(info.bytes for info in Cache(folder).stores())
        places = (folder.absolute(), *folder.absolute().parents)
        disk = next(place for place in places if place.exists())
        return min(20 * 10**9, (shutil.disk_usage(disk).free + used) // 10)
    number = text.rstrip("KMGTB ")
    try:
        size = float(number) * _UNITS[text[len(number) :].strip()]
    except (KeyError, ValueError):
        size = math.nan
    if not 0 <= size < math.inf:
        raise UsageError(
            f"HEADSTART_CACHE_SIZE must be a size such as 500MB or 20GB, not {text!r}.",
            field="HEADSTART_CACHE_SIZE",
        )
    return int(size)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """One store on disk: its folder, its key, its size in bytes, and when it was last used."""

    folder: Path
    key: dict[str, Any]
    bytes: int
    rows: int
    last_used: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "folder": str(self.folder),
            "key": self.key,
            "bytes": self.bytes,
            "rows": self.rows,
            "last_used": self.last_used,
        }


class Cache:
    """The cache folder. ``folder`` is ``default_folder()`` unless given."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(folder) if folder is not None else default_folder()

    @property
    def files(self) -> Path:
        """Where a ``FileMemory`` keeps what was learnt of files."""
        return self.folder / "files.sqlite"

    @property
    def paths(self) -> Path:
        """Where it is kept which inference path was chosen for a network."""
        return self.folder / "paths.json"

    @property
    def undecodable(self) -> Path:
        """Where it is kept which images can't be decoded."""
        return self.folder / "undecodable.json"

    @property
    def archives(self) -> Path:
        """Where what was in zip files is kept."""
        return self.folder / "archives"

    @property
    def given(self) -> Path:
        """Where images that were given as Python objects are kept."""
        return self.folder / "given"

    def store(self, key: Mapping[str, Any], shape: Sequence[int], dtype: str) -> Store:
        """Open the store of ``key``, creating it if it is new.

        Args:
            key: All that changes the numbers for every image; plain JSON types.
            shape: Shape of one image's row.
            dtype: numpy name of the row's type.

        Raises:
            ResourceError: The cache folder can't be written.
        """
        full = {"format": 1, **key, "shape": list(shape), "dtype": dtype}
        name = digest(json.dumps(full, sort_keys=True))[:32]
        return Store(self.folder / "stores" / name, full, trim=self.trim)

    def stores(self) -> list[StoreInfo]:
        """List the stores, the least recently used first."""
        found = []
        for marker in (self.folder / "stores").glob("*/key.json"):
            try:
                key, used = read_json(marker), marker.stat().st_mtime
                row = int(np.prod(key["shape"], dtype=np.int64)) * np.dtype(key["dtype"]).itemsize
            except (ModelError, OSError, KeyError, TypeError):
                continue  # damaged, or another process is removing it
            total = rows_bytes(marker.parent)
            found.append(StoreInfo(marker.parent, key, total, total // max(row, 1), used))
        return sorted(found, key=lambda info: info.last_used)

    def clear(self) -> int:
        """Remove every store that nobody is writing, and what was learnt of files and paths.

        Returns:
            How many bytes of rows were freed.
        """
        sizes = {folder: rows_bytes(folder) for folder in (self.folder / "stores").glob("*")}
        self.files.unlink(missing_ok=True)
        self.paths.unlink(missing_ok=True)
        self.undecodable.unlink(missing_ok=True)
        return sum(size for folder, size in sizes.items() if remove_store(folder))

    def trim(self, keep: Path | None = None) -> None:
        """Remove the least recently used stores until the rest fit the limit; ``keep`` stays."""
        stores = self.stores()
        excess = sum(info.bytes for info in stores) - size_limit(self.folder)
        for info in stores:
            if excess <= 0:
                return
            if info.folder != keep and remove_store(info.folder):
                excess -= info.bytes
