"""torchvision's data sets of one label an image, by name: ``torchvision:Flowers102``.

Their official splits are kept. torchvision finds, reads and downloads them; where it knows their
files these are used in place, and images that it unpacks into memory are written to the cache
(:mod:`headstart.data.objects.kept`). The CIFAR files are pickles: torchvision holds them to their
MD5 before it reads them.
"""

from __future__ import annotations

import errno
import http.client
import io
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from headstart.cache import Cache
from headstart.data.items import Dataset
from headstart.data.objects.given_rows import Given, GivenRows
from headstart.data.objects.kept import keep, root_of
from headstart.data.reading import Reading
from headstart.data.tabular.tables import read_table
from headstart.data.torchvision_files import torchvision_rows
from headstart.data.torchvision_names import SETS
from headstart.errors import DataError, MissingExtra, MissingWeights, ResourceError, UnknownName

__all__ = ["NAMES", "open_named"]

NAMES = tuple(SETS)
"""The names that can be opened, each with ``torchvision:`` before it."""

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS}
_TIMEOUT = 60.0  # seconds without a byte, after which a download is given up


def open_named(name: str, reading: Reading, *, cache: Cache | None = None) -> Dataset:
    """List the images of one of torchvision's sets.

    What is in ``reading.root`` (by default the folder ``torchvision`` in the cache) is used; no
    connection is opened for it. What is missing is downloaded there, unless ``HF_HUB_OFFLINE``
    forbids it.

    Args:
        name: One of :data:`NAMES`.
        reading: Only its ``root`` matters here.
        cache: Where images are written that torchvision unpacks into memory; the user's by default.

    Raises:
        UnknownName: There is no such set.
        MissingExtra: PCAM is kept in HDF5, and h5py is not installed.
        MissingWeights: It is not there and is not to be downloaded, or that failed.
        DataError: torchvision can't make sense of the files.
        ResourceError: The folder can't be written, or the disk is full.
    """
    if name not in SETS:
        raise UnknownName("data set", name, NAMES, field="data")
    known = SETS[name]
    cache = cache or Cache()
    root = Path(reading.root or cache.folder / "torchvision").expanduser().absolute()
    parts = {part: _opened(name, part, root) for part in known.parts}

    def rows() -> Iterator[Given]:
        for part, data in parts.items():
            yield from torchvision_rows(data, part, known.width)

    table = keep(GivenRows(rows, repeatable=True), cache.given)
    dataset = read_table(table, Reading(root=root_of(table, cache.given)))
    notes = [*dataset.notes, f"{name}: {_described(parts)}."]
    if known.note is not None:
        notes.append(known.note)
    return replace(dataset, name=name.partition(":")[2], notes=tuple(notes))


def _opened(name: str, part: str | None, root: Path) -> Any:
    """Open a part of a set from what is there, else from what can be downloaded."""
    from torchvision import datasets

    known = SETS[name]
    make = partial(getattr(datasets, known.kind), str(root), **known.further, **known.parts[part])
    try:
        return make(download=False) if known.has_download else make()
    except (RuntimeError, OSError) as error:  # so torchvision says that nothing is there
        if "h5py" in str(error):
            raise MissingExtra(name, "keras", field="data") from error
        absent = error
    except Exception as error:  # whatever damaged files lead torchvision into
        raise _damaged(name, root, error) from error
    return _downloaded(name, root, make, absent)


def _downloaded(name: str, root: Path, make: Callable[..., Any], absent: Exception) -> Any:
    from huggingface_hub import constants

    if not SETS[name].downloads:
        raise _missing(name, root, "torchvision can't download it", absent) from absent
    if constants.HF_HUB_OFFLINE:
        raise _missing(name, root, "HF_HUB_OFFLINE forbids to download it") from absent
    try:
        with _downloading():
            return make(download=True)
    except (RuntimeError, OSError, http.client.HTTPException) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split())
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            raise ResourceError(
                f"{name} can't be written to {root}: {error.strerror}.",
                field="root",
                hint="Choose another folder with --root FOLDER, or free some space.",
            ) from error
        raise _missing(name, root, f"it can't be downloaded: {reason.rstrip('.')}") from error
    except Exception as error:  # an archive that can't be unpacked
        raise _damaged(name, root, error) from error


@contextmanager
def _downloading() -> Iterator[None]:
    """Give up on a server that is silent; show progress to people only.

    torchvision sets no timeout of its own, and where a firewall drops packets it would wait for
    ever.
    """
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(before or _TIMEOUT)
    shown = nullcontext() if sys.stderr.isatty() else redirect_stderr(io.StringIO())
    try:
        with shown, redirect_stdout(sys.stderr):  # our stdout is data
            yield
    finally:
        socket.setdefaulttimeout(before)


def _missing(name: str, root: Path, reason: str, error: Exception | None = None) -> MissingWeights:
    hint = (
        f"Fetch it where there is a network: headstart check {name} --root FOLDER\n"
        "Then copy that folder here, and give it with --root FOLDER."
    )
    if error is not None:
        kind = SETS[name].kind
        hint = f"Lay its files there as torchvision.datasets.{kind} describes. It says: {error}"
    return MissingWeights(
        f"{name} is not in {root}, or not all of it, and {reason}.", field="data", hint=hint
    )


def _damaged(name: str, root: Path, error: Exception) -> DataError:
    return DataError(
        f"torchvision can't read {name} in {root}: {type(error).__name__}: {error}",
        field="data",
        hint="Delete its files there and it is downloaded again; or give another folder with "
        "--root FOLDER.",
    )


def _described(parts: dict[str | None, Any]) -> str:
    if None in parts:
        return f"{len(parts[None]):,} images, without a split of its own"
    sizes = ", ".join(f"{len(data):,} for {part}" for part, data in parts.items())
    return f"{sizes}, as its makers split it"
