"""What happens in a run, event by event: kept in log.jsonl, and told to whoever listens."""

from __future__ import annotations

import errno
import json
import os
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from headstart.errors import ResourceError
from headstart.files import write_text

__all__ = ["Event", "Log"]

Event = dict[str, Any]


class Log:
    """The events of a run: kept in log.jsonl once there is a folder, and told to a listener.

    Args:
        listener: Called with each event as it happens.
    """

    def __init__(self, listener: Callable[[Event], None] | None = None) -> None:
        self._listener = listener
        self._start = time.monotonic()
        self._early: list[Event] | None = []
        self._path = Path()
        self._file: BinaryIO | None = None

    def write_to(self, path: Path) -> None:
        """From now on keep the events, those so far included, in this file, begun anew.

        Raises:
            ResourceError: The file can't be written.
        """
        write_text(path, "")
        self._open(path)

    def continue_in(self, path: Path, *, earlier: float = 0.0) -> None:
        """From now on keep the events, those so far included, behind the lines of this file.

        A last line that a killed process did not finish is cut off.

        Args:
            path: The file.
            earlier: Seconds that the run took before; those of the events count on from there.

        Raises:
            ResourceError: The file can't be written.
        """
        try:
            content = path.read_bytes() if path.exists() else b""
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.truncate(path, whole)
        except OSError as error:
            raise _unwritable(path, error) from error
        self._start -= earlier
        for event in self._early or []:
            event["seconds"] = round(event["seconds"] + earlier, 3)
        self._open(path)

    def _open(self, path: Path) -> None:
        self.close()
        self._path = path
        try:
            # Without a buffer: each line is on its way to the disk when emit returns.
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            raise _unwritable(path, error) from error
        weakref.finalize(self, self._file.close)  # should nobody call close
        early, self._early = self._early or [], None
        self._append("".join(map(_line, early)))

    def close(self) -> None:
        """Close the file; events from now on go to the listener only."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def emit(self, event: str, **values: Any) -> None:
        """Tell that something happened; ``progress`` events go to the listener only.

        Raises:
            ResourceError: The file can't be written, or is no longer there.
        """
        record = {"event": event, "seconds": round(time.monotonic() - self._start, 3), **values}
        if self._listener is not None:
            self._listener(record)
        if event == "progress":
            return
        if self._early is not None:
            self._early.append(dict(record))
        else:
            self._append(_line(record))

    def _append(self, lines: str) -> None:
        if self._file is None:
            return
        try:
            if os.fstat(self._file.fileno()).st_nlink == 0:  # an open file outlives its name
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            content = lines.encode()
            while content:  # a disk that is nearly full takes a part
                content = content[self._file.write(content) :]
        except OSError as error:  # the folder has vanished, or the disk is full
            raise _unwritable(self._path, error) from error

    def progress(self, stage: str) -> Callable[[int, int], None]:
        """Return a function (done, total) that emits the progress of a stage."""
        return lambda done, total: self.emit("progress", stage=stage, done=done, total=total)


def _line(event: Event) -> str:
    return json.dumps(event) + "\n"


def _unwritable(path: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"{path} can't be written: {error.strerror}.",
        field=str(path),
        hint="Leave the run folder alone while it is written, and fit again.",
    )
