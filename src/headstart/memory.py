"""What was learnt of a file, remembered by its path, size and modification time."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from headstart.errors import ResourceError

__all__ = ["FileMemory"]

_CHUNK = 500
# A file that changed this recently may change again within one tick of its clock (2 s on FAT),
# which its size and time would not show; it is looked at again instead.
_SETTLED_NS = 2 * 10**9


class FileMemory:
    """Facts about files, such as an image's digest and header; forgotten when a file changes.

    Args:
        path: The SQLite file; created, with its folder, at the first use. A damaged one is
            replaced by an empty one: all it holds can be learnt again.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def recall(self, paths: Sequence[Path]) -> dict[Path, dict[str, Any]]:
        """Return what is known of those files that have not changed since."""
        known: dict[Path, dict[str, Any]] = {}
        with self._database() as database:
            for start in range(0, len(paths), _CHUNK):
                keys = {_key(path): path for path in paths[start : start + _CHUNK]}
                marks = ",".join("?" * len(keys))
                query = f"SELECT path, size, mtime, facts FROM files WHERE path IN ({marks})"
                for key, size, mtime, facts in database.execute(query, list(keys)):
                    if _state(keys[key]) == (size, mtime):
                        known[keys[key]] = json.loads(facts)
        return known

    def remember(
        self, facts: Mapping[Path, Mapping[str, Any]], *, since: int | None = None
    ) -> None:
        """Remember facts about files.

        Args:
            facts: Plain JSON types by file.
            since: When the first of the files was looked at, as ``time.time_ns()``; now if not
                given. What changed later, or shortly before, is not remembered.
        """
        settled = (time.time_ns() if since is None else since) - _SETTLED_NS
        rows = []
        for path, values in facts.items():
            state = _state(path)
            if state is not None and state[1] < settled:
                rows.append((_key(path), *state, json.dumps(values)))
        with self._database() as database:
            database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", rows)

    def forget(self) -> None:
        """Forget everything."""
        self.path.unlink(missing_ok=True)

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as database, database:
                yield database
        except (OSError, sqlite3.OperationalError) as error:
            raise ResourceError(
                f"The cache in {self.path.parent} can't be written: {error}.",
                field=str(self.path.parent),
                hint="Set HEADSTART_CACHE to a folder that can be written.",
            ) from error
        except sqlite3.DatabaseError:
            self.forget()  # damaged deeper than opening it shows

    def _connect(self) -> sqlite3.Connection:
        try:
            return _open(self.path)
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError:
            self.forget()
            return _open(self.path)


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=60)
    try:
        database.execute(
            "CREATE TABLE IF NOT EXISTS files"
            " (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, facts TEXT) WITHOUT ROWID"
        )
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _key(path: Path) -> bytes:
    return os.fsencode(os.path.abspath(path))  # noqa: PTH100  # resolve() would cost a stat a part


def _state(path: Path) -> tuple[int, int] | None:
    try:
        state = os.stat(path)  # noqa: PTH116  # 3x faster than Path.stat, and called for every file
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns
