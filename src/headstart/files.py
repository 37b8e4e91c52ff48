"""Every write of the product goes through here, and so do digests and locks.

A file is written to a temporary name beside its target, flushed to the disk and renamed, and the
folder is flushed too: after a crash the target is either the old file or the new one, never a
part. A marker that is written last (report.json, MANIFEST.json) therefore means what it says.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from headstart.errors import ModelError, ResourceError

__all__ = [
    "check_writable",
    "digest",
    "file_digest",
    "read_json",
    "replacing",
    "write_bytes",
    "write_json",
    "write_text",
]

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CHUNK = 1 << 20


def flush_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut (POSIX; a no-op where folders can't open)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a binary file that takes the place of ``path`` when the block ends without an error.

    Raises:
        ResourceError: The folder can't be written, or the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise _resource_error(error, path) from error
    finally:
        with suppress(OSError):  # absent after a success; after a failure its reason is the first
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` atomically."""
    with replacing(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text to ``path`` atomically.

    File names may hold bytes that are not UTF-8; they are kept (``surrogateescape``).
    """
    write_bytes(path, content.encode("utf-8", "surrogateescape"))


def write_json(path: Path, document: Any) -> None:
    """Write ``document`` as indented JSON to ``path`` atomically."""
    write_text(path, json.dumps(document, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON document that headstart wrote.

    Raises:
        ModelError: The file is missing, can't be read, or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{path} can't be read: {error.strerror}.", field=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not valid JSON: {error}.", field=str(path)) from error


def digest(*parts: bytes | str) -> str:
    """Return the SHA-256 of the parts as hexadecimal digits; part boundaries count."""
    state = hashlib.sha256()
    for part in parts:
        content = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        state.update(len(content).to_bytes(8, "little"))
        state.update(content)
    return state.hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as hexadecimal digits.

    Raises:
        OSError: The file can't be read.
    """
    state = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


def check_writable(folder: Path) -> None:
    """Create ``folder`` and prove that a file can be written there.

    Raises:
        ResourceError: It can't, with the reason.
    """
    probe = Path(folder) / f".writable-{secrets.token_hex(4)}"
    try:
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"headstart")
        probe.unlink()
    except OSError as error:
        with suppress(OSError):
            probe.unlink()
        raise _resource_error(error, Path(folder)) from error


def _resource_error(error: OSError, path: Path) -> ResourceError:
    reason = error.strerror or str(error)
    hint = "Choose another folder, or make this one writable."
    if error.errno in _NO_SPACE:
        hint = "Free some space, or choose a folder on another disk."
    return ResourceError(f"{path} can't be written: {reason}.", field=str(path), hint=hint)
