"""What was in zip files, unpacked once and kept.

::

    ARCHIVES/
      DIGEST/NAME/           what was in the zip file NAME.zip
      DIGEST.json            its name, how many files and bytes; written last
      DIGEST.tmp, .lock      a living process is unpacking it

DIGEST names the content of the zip file, so it is unpacked once, wherever it lies. Without its
manifest a folder is never used, and what a killed process left is removed by the next.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from headstart.data.archive import Refusal, extract, unreadable, unwritable
from headstart.errors import DataError, ModelError
from headstart.files import file_digest, read_json, write_json
from headstart.memory import FileMemory

__all__ = ["Unpacked", "forget", "unpack", "unpacked"]


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was unpacked from a zip file: where it is, and how many files and bytes it has."""

    folder: Path
    files: int
    bytes: int
    last_used: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "folder": str(self.folder),
            "files": self.files,
            "bytes": self.bytes,
            "last_used": self.last_used,
        }


def unpack(
    path: Path, folder: Path, *, memory: FileMemory | None = None, error: Refusal = DataError
) -> Path:
    """Return the folder that holds what is in a zip file; unpacked once, then used again.

    Args:
        path: The file.
        folder: Below which unpacked files are kept.
        memory: Where the file's digest is remembered, so that it is not read again.
        error: What a refusal is raised as.

    Raises:
        HeadstartError: As ``extract``.
        ResourceError: The file can't be read, there is no room, or the folder can't be written.
    """
    kept = folder / _digest(path, memory)[:32]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(kept.with_suffix(".lock")):
            known = _known(kept.with_suffix(".json"))
            if known is None or not _is_whole(known):
                _remove(kept)
                _unpack(path, kept, error)
                known = _known(kept.with_suffix(".json"))
            kept.with_suffix(".json").touch()
    except OSError as problem:
        raise unwritable(folder, problem) from problem
    return kept / _name(path) if known is None else known.folder


def _unpack(path: Path, kept: Path, error: Refusal) -> None:
    """Unpack into a folder of its own, give it its name, and write its manifest."""
    work, name = kept.with_suffix(".tmp"), _name(path)
    try:
        files = [it for it in extract(path, work / name, error=error) if not it.is_folder]
        work.rename(kept)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    total = sum(entry.bytes for entry in files)
    manifest = {"format": 1, "name": name, "files": len(files), "bytes": total}
    write_json(kept.with_suffix(".json"), manifest)


def _name(path: Path) -> str:
    """Return the name of a zip file as that of a folder in another, which ``..`` is not."""
    return path.stem if path.stem.strip(".") else "content"


def unpacked(folder: Path) -> list[Unpacked]:
    """List what ``unpack`` keeps below ``folder``, the least recently used first."""
    found = [known for file in folder.glob("*.json") if (known := _known(file)) is not None]
    return sorted(found, key=lambda item: item.last_used)


def forget(folder: Path) -> int:
    """Remove all that ``unpack`` keeps below ``folder``, but what is being unpacked just now.

    Returns:
        How many bytes of files were freed.
    """
    freed = 0
    sizes = {item.folder.parent: item.bytes for item in unpacked(folder)}
    for kept in {path.with_suffix("") for path in folder.glob("*")}:
        lock = kept.with_suffix(".lock")
        try:
            with filelock.FileLock(lock, timeout=0):
                _remove(kept)
            lock.unlink(missing_ok=True)
        except (filelock.Timeout, OSError):
            continue
        freed += sizes.get(kept, 0)
    return freed


def _remove(kept: Path) -> None:
    """Remove a folder, its manifest first, and what a killed process left of it."""
    kept.with_suffix(".json").unlink(missing_ok=True)
    for folder in (kept, kept.with_suffix(".tmp")):
        shutil.rmtree(folder, ignore_errors=True)


def _known(manifest: Path) -> Unpacked | None:
    try:
        known, used = read_json(manifest), manifest.stat().st_mtime
        content = manifest.with_suffix("") / str(known["name"])
        return Unpacked(content, int(known["files"]), int(known["bytes"]), used)
    except (ModelError, OSError, KeyError, TypeError, ValueError):
        return None  # damaged, or another process is removing it


def _is_whole(known: Unpacked) -> bool:
    """Tell whether all of it is still there, by number and sizes of the files."""
    sizes = [path.stat().st_size for path in known.folder.rglob("*") if path.is_file()]
    return (len(sizes), sum(sizes)) == (known.files, known.bytes)


def _digest(path: Path, memory: FileMemory | None) -> str:
    """Return the digest of a file, read once in its life where there is a memory."""
    known = {} if memory is None else memory.recall([path]).get(path, {})
    if isinstance(known.get("archive"), str):
        return str(known["archive"])
    try:
        digest = file_digest(path)
    except OSError as problem:
        raise unreadable(path, problem) from problem
    if memory is not None:
        memory.remember({path: {"archive": digest}})
    return digest
