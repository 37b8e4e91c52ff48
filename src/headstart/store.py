"""A store of rows on disk: one array an image, found by the image's digest.

::

    CACHE/stores/STORE/
      key.json               the key in words: all that changes the numbers for every image
      SEGMENT.rows           rows, one after another
      SEGMENT.json           its manifest, written last: a segment without one is never read
      SEGMENT.tmp, .lock     a segment that a living process is writing

A store only grows, a segment at a time, so ten new images cost ten rows, and a killed run costs
at most the segment it was writing. Rows are read through memory maps. Several processes may read
and write one store; each writes segments of its own. No torch here.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import filelock
import numpy as np
import numpy.typing as npt

from headstart.errors import ModelError, ResourceError
from headstart.files import flush_folder, read_json, write_json

__all__ = ["Rows", "Store", "Writer", "remove_store", "rows_bytes"]

SEGMENT_BYTES = 256 << 20
_HINT = "Set HEADSTART_CACHE to a folder on a disk with room, or run: headstart cache clear"


class Store:
    """Rows of one shape and type, found by image digest. Made by ``Cache.store``.

    Args:
        folder: The store's own folder; made where it is not there.
        key: All that changes the numbers for every image, with the rows' ``shape`` and ``dtype``.
        trim: Called with the folder when a writer is done, so that the stores fit their limit.
    """

    def __init__(self, folder: Path, key: dict[str, Any], trim: Callable[[Path], None]) -> None:
        self.folder = folder
        self.key = key
        self.trim = trim
        self.shape = tuple(key["shape"])
        self.dtype = np.dtype(key["dtype"])
        self._segments: list[npt.NDArray[Any]] = []
        self._index: dict[str, tuple[int, int]] = {}
        self._opened: set[str] = set()
        self.mark()
        self.refresh()

    def mark(self) -> None:
        """Write the key where it is not there, and note that the store is used now."""
        marker = self.folder / "key.json"
        if not marker.exists():
            write_json(marker, self.key)
        with suppress(FileNotFoundError):  # another process is removing it
            os.utime(marker)

    def refresh(self) -> None:
        """Take in the segments that were finished since the store was opened."""
        for manifest in sorted(self.folder.glob("*.json")):
            if manifest.name != "key.json" and manifest.stem not in self._opened:
                self._open_segment(manifest)

    def _open_segment(self, manifest: Path) -> None:
        data = manifest.with_suffix(".rows")
        try:
            digests = read_json(manifest)["digests"]
            shape = (len(digests), *self.shape)
            if _size(data) != int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize:
                return  # not what the manifest promised: never believed
            segment = np.memmap(data, dtype=self.dtype, mode="r", shape=shape)
        except (ModelError, OSError, KeyError, TypeError):
            return  # damaged, or another process is removing it
        self._opened.add(manifest.stem)
        self._segments.append(segment)
        number = len(self._segments) - 1
        for row, image in enumerate(digests):
            self._index.setdefault(image, (number, row))

    def missing(self, digests: Sequence[str]) -> list[str]:
        """Return the digests that have no row yet, each once, in the order given."""
        return [image for image in dict.fromkeys(digests) if image not in self._index]

    def rows(self, digests: Sequence[str]) -> Rows:
        """Return the rows of these images, in this order; read when they are taken.

        Raises:
            KeyError: A digest has no row.
        """
        places = np.array([self._index[image] for image in digests], dtype=np.int64)
        return Rows(self._segments, places.reshape(-1, 2), self.shape, self.dtype)

    def writer(self) -> Writer:
        """Return a context manager that adds rows; what was added is kept even on an error."""
        return Writer(self)


class Rows:
    """Some rows of a store, by position: ``len(rows)``, ``rows.take(positions)``, ``rows.all()``.

    Args:
        segments: The memory-mapped segments.
        places: (N, 2) int64, the segment and the row in it.
        shape: Shape of one row.
        dtype: Type of the rows.
    """

    def __init__(
        self,
        segments: Sequence[npt.NDArray[Any]],
        places: npt.NDArray[np.int64],
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
    ) -> None:
        self._segments = segments
        self._places = places
        self.shape = shape
        self.dtype = dtype

    def __len__(self) -> int:
        return len(self._places)

    def take(self, positions: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Read the rows at ``positions`` into memory, as an array (n, *shape)."""
        places = self._places[np.asarray(positions, dtype=np.int64)]
        result = np.empty((len(places), *self.shape), dtype=self.dtype)
        for number in np.unique(places[:, 0]):
            here = places[:, 0] == number
            result[here] = self._segments[number][places[here, 1]]
        return result

    def all(self) -> npt.NDArray[Any]:
        """Read all rows into memory, as an array (N, *shape)."""
        return self.take(np.arange(len(self)))


class Writer:
    """Adds rows to a store. A segment counts from the moment its manifest is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._name = ""
        self._file: IO[bytes] | None = None
        self._lock: filelock.BaseFileLock | None = None
        self._digests: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._commit()
        self._store.refresh()
        self._store.trim(self._store.folder)

    def add(self, digests: Sequence[str], rows: npt.NDArray[Any]) -> None:
        """Add one row a digest.

        Args:
            digests: n image digests.
            rows: (n, *shape), converted to the store's type.

        Raises:
            ValueError: The rows don't fit the store's shape.
            ResourceError: The disk is full or can't be written.
        """
        if rows.shape != (len(digests), *self._store.shape):
            raise ValueError(f"rows {rows.shape} for {len(digests)} of shape {self._store.shape}")
        if not digests:
            return
        try:
            file = self._file or self._begin()
            file.write(np.ascontiguousarray(rows, dtype=self._store.dtype).tobytes())
            self._digests.extend(digests)
            if file.tell() >= SEGMENT_BYTES:
                self._commit()
        except OSError as error:
            self._end()
            raise self._no_room(error) from error

    def _begin(self) -> IO[bytes]:
        _remove_leftovers(self._store.folder)
        self._name = secrets.token_hex(8)
        self._lock = filelock.FileLock(self._path(".lock"))
        self._lock.acquire(timeout=10)
        self._store.mark()  # it may have been evicted since it was opened
        self._file = self._path(".tmp").open("xb")
        return self._file

    def _commit(self) -> None:
        if self._file is None:
            return
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._path(".tmp").replace(self._path(".rows"))
            flush_folder(self._store.folder)
            write_json(self._path(".json"), {"format": 1, "digests": self._digests})
        except OSError as error:
            raise self._no_room(error) from error
        finally:
            self._end()

    def _end(self) -> None:
        """Leave the segment; what has no manifest by now is removed."""
        with suppress(OSError):  # closing a file on a full disk fails as writing to it did
            if self._file is not None:
                self._file.close()
        with suppress(OSError):
            _remove_unfinished(self._path(".lock"))
        if self._lock is not None:
            self._lock.release()
        with suppress(OSError):
            self._path(".lock").unlink()
        self._file, self._lock, self._digests = None, None, []

    def _path(self, suffix: str) -> Path:
        return self._store.folder / (self._name + suffix)

    def _no_room(self, error: OSError) -> ResourceError:
        folder = self._store.folder.parents[1]
        reason = error.strerror or str(error)
        return ResourceError(
            f"The cache in {folder} can't be written: {reason}.", field=str(folder), hint=_HINT
        )


def _remove_leftovers(folder: Path) -> bool:
    """Remove what dead processes left in a store; say whether no living one is writing there."""
    alive = False
    for path in folder.glob("*.lock"):
        try:
            with filelock.FileLock(path, timeout=0):
                _remove_unfinished(path)
            path.unlink(missing_ok=True)
        except filelock.Timeout:
            alive = True
    return not alive


def _remove_unfinished(segment: Path) -> None:
    if not segment.with_suffix(".json").exists():
        for suffix in (".tmp", ".rows"):
            segment.with_suffix(suffix).unlink(missing_ok=True)


def remove_store(folder: Path) -> bool:
    """Remove a store that nobody is writing; say whether it is gone."""
    if not _remove_leftovers(folder):
        return False
    (folder / "key.json").unlink(missing_ok=True)  # without it nobody opens the store
    shutil.rmtree(folder, ignore_errors=True)
    return True


def rows_bytes(folder: Path) -> int:
    """Return how many bytes the rows of a store take."""
    return sum(max(_size(path), 0) for path in folder.glob("*.rows"))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1
