"""Checkpoints of a run, from which it goes on exactly where it stopped.

::

    RUN/checkpoints/
      000012.safetensors   the tensors: model, optimizer, best weights so far
      000012.json          where the run was, and the digests of both; written last

A checkpoint counts from the moment its JSON file is there: whatever instant a process dies at,
what is found afterwards is the state before the save or the state after it. The one before is
kept, so that a damaged file costs one interval and not the run. No pickle: only numbers.
"""

from __future__ import annotations

import errno
import hashlib
import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from headstart.errors import ModelError, ResourceError, UsageError
from headstart.files import file_digest, read_json, replacing, write_json
from headstart.training.tensorfile import TensorFile, read_tensors

__all__ = ["Checkpoints", "State"]

_FORMAT = 1
_OURS = re.compile(r"(\d{6,})\.(json|safetensors)")
_TEMPORARY = re.compile(r"\.\d{6,}\.(json|safetensors)\.[0-9a-f]+\.tmp")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class State:
    """All that a run needs to go on as if it had never stopped.

    Attributes:
        position: Where it is: phase, epoch, step, histories; plain JSON with finite numbers.
            Floats come back exactly.
        tensors: What it has learnt, by free names such as ``"model.blocks.0.conv.weight"``; on
            the CPU and contiguous when loaded.
    """

    position: dict[str, Any]
    tensors: dict[str, torch.Tensor]


class Checkpoints:
    """The checkpoints of one run. Only one process may write them (``Run.locked``).

    Args:
        folder: Where they are: ``RUN/checkpoints``; made by the first save.
        keep: How many to keep, from 1; with 2 or more a damaged one can be gone back from.

    Raises:
        UsageError: ``keep`` is below 1.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        if keep < 1:
            raise UsageError(
                f"At least 1 checkpoint must be kept, not {keep}.",
                field="keep",
                hint="Keep 2: where the newest is damaged, the one before it is used.",
            )
        self.folder = Path(folder)
        self.keep = keep
        self._damaged: set[int] = set()

    def save(self, state: State) -> Path:
        """Write a checkpoint, then remove those beyond the newest ``keep``.

        Tensors are written one after another, so that a save needs little memory of its own.

        Returns:
            Its JSON file.

        Raises:
            ResourceError: The disk is full or the folder can't be written; the checkpoints so far
                are as they were.
            ValueError: The position is not plain JSON, or a tensor can't be held by safetensors.
        """
        document = {"format": _FORMAT, **_described(state.position)}
        content = TensorFile(state.tensors)
        number = max(self._numbers("json", "safetensors"), default=0) + 1
        self._remove_leftovers()
        try:
            marker = self._write(number, document, content)
        except ResourceError as error:
            with suppress(OSError):  # its room is needed; the first reason is the one to tell
                if not self._path(number, "json").exists():
                    self._path(number, "safetensors").unlink()
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _NO_SPACE:
                raise self._no_room(number, content.nbytes, error.__cause__) from error
            raise
        for old in self._numbers("json")[: -self.keep]:
            self._remove(old)
        return marker

    def load(self) -> tuple[State | None, tuple[str, ...]]:
        """Read the newest checkpoint that is whole.

        Returns:
            Its state, or None where no checkpoint was ever finished, and a note on each newer
            one that is damaged.

        Raises:
            ModelError: There are checkpoints, and none of them is whole.
            ResourceError: The folder can't be read.
        """
        number, position, damaged = self._search()
        if number is not None:
            self._damaged.update(damaged)
            state = State(position, read_tensors(self._path(number, "safetensors")))
            back = f"went back to {number:06}"
            notes = (f"checkpoint {n:06} is damaged ({why}); {back}" for n, why in damaged.items())
            return state, tuple(notes)
        if not damaged:
            return None, ()
        reasons = "; ".join(f"{bad:06}: {reason}" for bad, reason in damaged.items())
        raise ModelError(
            f"No checkpoint in {self.folder} is whole ({reasons}).",
            field=str(self.folder),
            hint="Start again in another folder: name it with --out.",
        )

    def clear(self) -> None:
        """Remove all checkpoints, and their folder if nothing else is in it.

        Raises:
            ResourceError: A file can't be removed.
        """
        for number in self._numbers("json"):
            self._remove(number)
        self._remove_leftovers()
        with suppress(OSError):  # something of another's is in it, or it was never made
            self.folder.rmdir()

    def _write(self, number: int, document: dict[str, Any], content: TensorFile) -> Path:
        """Write the two files of a checkpoint, the one that makes it count last."""
        path, marker = self._path(number, "safetensors"), self._path(number, "json")
        with replacing(path) as file:
            sha256 = content.write(file)
        about = {"file": path.name, "bytes": content.nbytes, "sha256": sha256}
        write_json(marker, {**document, **about})
        return marker

    def _search(self) -> tuple[int | None, dict[str, Any], dict[int, str]]:
        """Return the newest whole checkpoint, its position, and what ails each newer one."""
        damaged: dict[int, str] = {}
        for number in reversed(self._numbers("json")):
            try:
                return number, self._verified(number), damaged
            except ModelError as error:
                damaged[number] = error.message.rstrip(".")
        return None, {}, damaged

    def _verified(self, number: int) -> dict[str, Any]:
        """Return a checkpoint's position, if both files are what was written.

        Raises:
            ModelError: They are not; the message is the reason.
        """
        path = self._path(number, "safetensors")
        document = read_json(self._path(number, "json"))
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise ModelError(f"its {number:06}.json is not of format {_FORMAT}")
        position = document.get("position")
        if not isinstance(position, dict) or document.get("position_sha256") != _sha256(position):
            raise ModelError("its position's sha256 is another")
        try:
            size, sha256 = path.stat().st_size, file_digest(path)
        except OSError as error:
            raise ModelError(f"its {path.name} can't be read: {error.strerror}") from error
        if (document.get("file"), document.get("bytes")) != (path.name, size):
            raise ModelError(f"its {path.name} has {size} bytes, not {document.get('bytes')}")
        if document.get("sha256") != sha256:
            raise ModelError("its sha256 is another")
        return position

    def _no_room(self, number: int, needed: int, error: OSError) -> ResourceError:
        """Return the error of a full disk, after a look at what there is to go on from."""
        whole, _, _ = self._search()
        so_far = "No checkpoint was saved before"
        if whole is not None:
            so_far = f"Checkpoint {whole:06} is intact: headstart resume {self.folder.parent}"
        # The folder itself may be what there was no room for.
        there = next(path for path in (self.folder, *self.folder.parents) if path.exists())
        free = shutil.disk_usage(there).free
        return ResourceError(
            f"Checkpoint {number:06} needs {_amount(needed)}, {_amount(free)} free in "
            f"{self.folder} ({error.strerror}).",
            field=str(self.folder),
            hint=f"Free some space. {so_far}.",
        )

    def _path(self, number: int, kind: str) -> Path:
        return self.folder / f"{number:06}.{kind}"

    def _listing(self) -> list[Path]:
        """Return what is in the folder, by name; nothing where there is none."""
        try:
            return sorted(self.folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ResourceError(
                f"{self.folder} can't be read: {error.strerror}.",
                field=str(self.folder),
                hint="Make it a folder that can be read, or start again in another with --out.",
            ) from error

    def _numbers(self, *kinds: str) -> list[int]:
        """Return the numbers that have a file of one of these kinds, the oldest first."""
        found = (_OURS.fullmatch(path.name) for path in self._listing())
        return sorted({int(match[1]) for match in found if match and match[2] in kinds})

    def _remove_leftovers(self) -> None:
        """Remove what killed saves left behind, and what ``load`` found damaged."""
        for number in self._damaged:
            self._remove(number)
        self._damaged.clear()
        finished = set(self._numbers("json"))
        for path in self._listing():
            match = _OURS.fullmatch(path.name)
            if _TEMPORARY.fullmatch(path.name) or (match and int(match[1]) not in finished):
                _unlink(path)

    def _remove(self, number: int) -> None:
        """Remove a checkpoint: first what makes it count, then the rest."""
        _unlink(self._path(number, "json"))
        _unlink(self._path(number, "safetensors"))


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            f"{path} can't be removed: {error.strerror}.",
            field=str(path),
            hint="Make its folder writable, and go on with: headstart resume.",
        ) from error


def _described(position: dict[str, Any]) -> dict[str, Any]:
    """Return a position with its digest.

    Raises:
        ValueError: It would not come back as it is: a tuple, a NaN, a key that is no name.
    """
    if json.loads(json.dumps(position, allow_nan=False)) != position:
        raise ValueError("a position must be plain JSON: lists, and dicts with names as keys")
    return {"position": position, "position_sha256": _sha256(position)}


def _sha256(position: dict[str, Any]) -> str:
    text = json.dumps(position, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _amount(size: int) -> str:
    """Return a number of bytes for people: ``60 kB``, ``96 MB``, ``1.5 GB``."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            value = size / unit
            return f"{value:.1f} {name}" if value < 9.95 and name == "GB" else f"{value:.0f} {name}"
    return f"{size} B"
