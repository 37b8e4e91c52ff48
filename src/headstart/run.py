"""A run's folder: where it is, what state it is in, and what is written there.

report.json is written last and atomically: that it exists means the run is done.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock

from headstart.difference import differences
from headstart.errors import ModelError, ResourceError, UsageError
from headstart.files import check_writable, read_json, write_json, write_text
from headstart.log import Event, Log
from headstart.report import Report

__all__ = ["Event", "Log", "Row", "Run", "csv_text", "read_report"]

_TRIES = 10_000
_LOCK, _HOLDER = ".lock", ".pid"
# What lies in a folder while a run in it is begun, or after that was cut short.
_PASSING = (_LOCK, _HOLDER, f".{_HOLDER}.", ".writable-", ".spec.json.")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of predictions.csv."""

    item: str
    split: str
    label: str
    predicted: str
    probabilities: Sequence[float]


@dataclass(frozen=True)
class Run:
    """The folder of one run.

    Attributes:
        folder: Where its files are.
    """

    folder: Path

    @property
    def finished(self) -> bool:
        """Whether report.json, which is written last, exists."""
        return (self.folder / "report.json").is_file()

    def matches(self, spec: dict[str, Any]) -> bool:
        """Whether the folder holds a run of this very spec."""
        return bool(self._spec() == spec)

    def _spec(self) -> Any:
        """Return the spec in the folder, or None where there is none."""
        file = self.folder / "spec.json"
        document = read_json(file) if file.is_file() else None
        return document.get("spec") if isinstance(document, dict) else None

    def write_spec(
        self,
        spec: dict[str, Any],
        environment: dict[str, Any],
        invocation: dict[str, Any] | None = None,
    ) -> None:
        """Write spec.json.

        Args:
            spec: What the run is.
            environment: Versions, threads and machine that it is made with.
            invocation: What it takes to start it again: data, options, command; plain JSON.
        """
        document = {"spec": spec, "environment": environment}
        if invocation is not None:
            document["invocation"] = invocation
        write_json(self.folder / "spec.json", document)

    def environment(self) -> dict[str, Any]:
        """Return the environment that the run was begun in.

        Raises:
            ModelError: The folder holds no run.
        """
        return self._kept("environment")

    def invocation(self) -> dict[str, Any]:
        """Return what it takes to start the run again.

        Raises:
            ModelError: The folder holds no run, or one of a version that did not keep this.
        """
        return self._kept("invocation")

    def difference(self, spec: dict[str, Any]) -> list[str]:
        """Compare the run's spec with another, a line a value that differs.

        ``"data.digest: was 1f0c…, is now 77ab…"``; empty where the two are equal.

        Raises:
            ModelError: The folder holds no run.
        """
        return list(differences(self._kept("spec"), spec))

    def _kept(self, part: str) -> dict[str, Any]:
        """Return a part of spec.json."""
        file = self.folder / "spec.json"
        document = read_json(file) if file.is_file() else None
        if not isinstance(document, dict) or not isinstance(document.get("spec"), dict):
            raise ModelError(
                f"{self.folder} holds no run of headstart's: it has no spec.json of one.",
                field=str(self.folder),
                hint=f"Name the folder of a run; to make one: headstart fit --out {self.folder}",
            )
        if not isinstance(document.get(part), dict):
            raise ModelError(
                f"{self.folder} was made by a version of headstart that kept no {part}.",
                field=str(self.folder),
                hint=f"Give the command it was made with again, with --out {self.folder}",
            )
        kept: dict[str, Any] = document[part]
        return kept

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the run while the block lasts.

        The lock goes with its process, however that ends; what it leaves behind locks nobody out.

        Raises:
            ResourceError: Another process is writing the run, or the folder can't be locked.
        """
        lock = filelock.FileLock(self.folder / _LOCK, timeout=0)
        try:
            lock.acquire()
        except filelock.Timeout as error:
            raise ResourceError(
                f"{self.folder} is being written by {self._holder()}.",
                field=str(self.folder),
                hint="Wait until it is done, or name another folder with --out.",
            ) from error
        except OSError as error:
            raise ResourceError(
                f"{self.folder} can't be locked: {error.strerror or error}.",
                field=str(self.folder),
                hint="Name a folder that can be written with --out.",
            ) from error
        try:
            write_text(self.folder / _HOLDER, f"{os.getpid()}\n")
            yield
        finally:
            # While it is still locked: afterwards it may already be another's.
            for name in (_HOLDER, _LOCK):
                with suppress(OSError):
                    (self.folder / name).unlink()
            lock.release()

    def _holder(self) -> str:
        """Return who holds the lock, in words."""
        with suppress(OSError, ValueError):
            return f"process {int((self.folder / _HOLDER).read_text('utf-8'))}"
        return "another process"

    def write_predictions(self, classes: Sequence[str], rows: Iterable[Row]) -> None:
        """Write predictions.csv: item, split, label, predicted, probability of every class."""
        lines = [["item", "split", "label", "predicted", *classes]]
        for row in rows:
            shares = [f"{share:.6f}" for share in row.probabilities]
            lines.append([row.item, row.split, row.label, row.predicted, *shares])
        write_text(self.folder / "predictions.csv", csv_text(lines))

    @classmethod
    def open(
        cls, out: str | Path | None, name: str, spec: dict[str, Any], *, data: Path | None = None
    ) -> Run:
        """Find the folder for a run of ``spec`` and prove that it can be written.

        Args:
            out: The folder the user named, or None for ``runs/NAME``, numbered if that holds
                another run.
            name: What to call it where the user did not.
            spec: The run's spec.
            data: The folder of the images, in which no run may lie.

        Raises:
            UsageError: The folder would lie among the images.
            ModelError: The named folder holds something else; it is left untouched.
            ResourceError: The folder can't be written.
        """
        try:
            folder = Path("runs") if out is None else Path(out)
            if data is not None and folder.resolve().is_relative_to(data.resolve()):
                raise _among_images(folder, data)
            run = cls._find(out, name, spec)
        except OSError as error:  # a folder above it is not to be looked into
            raise ResourceError(
                f"{folder} can't be used: {error.strerror}.",
                field="out",
                hint="Name another folder with --out.",
            ) from error
        if not run.finished:
            check_writable(run.folder)
        return run

    @classmethod
    def _find(cls, out: str | Path | None, name: str, spec: dict[str, Any]) -> Run:
        if out is None:
            return cls._unnamed(name, spec)
        run = cls(Path(out))
        run._refuse_foreign(spec)
        return run

    @classmethod
    def _unnamed(cls, name: str, spec: dict[str, Any]) -> Run:
        for number in range(1, _TRIES):
            run = cls(Path("runs") / (name if number == 1 else f"{name}-{number}"))
            if not run.folder.exists() or run.matches(spec):
                return run
        raise ModelError(f"runs/ holds {_TRIES} runs named {name}.", hint="Name one with --out.")

    def _refuse_foreign(self, spec: dict[str, Any]) -> None:
        """Refuse a folder that holds anything but this run."""
        if not self.folder.exists() or self.matches(spec):
            return
        if not self.folder.is_dir():
            found = "is a file"
        elif isinstance(there := self._spec(), dict):
            found = f"holds another run ({_other(there, spec)})"
        elif any(not path.name.startswith(_PASSING) for path in self.folder.iterdir()):
            found = "is not empty and holds no run of headstart's"
        else:
            return
        raise ModelError(
            f"{self.folder} {found}; it was left as it is.",
            field="out",
            hint="Name another folder with --out, or leave --out away to have one named.",
        )


def _among_images(folder: Path, data: Path) -> UsageError:
    return UsageError(
        f"The run folder {folder} would lie in {data}, and its pictures among the images there.",
        field="out",
        hint="Name a folder outside of the data with --out.",
    )


def _other(there: dict[str, Any], spec: dict[str, Any]) -> str:
    changed = [key for key in spec if there.get(key) != spec[key]]
    return f"other {', '.join(changed)}" if changed else "of another version"


def csv_text(rows: Iterable[Sequence[str]], delimiter: str = ",") -> str:
    """Return rows as CSV, with quotes where a field needs them."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n", delimiter=delimiter)
    quoted = csv.writer(text, lineterminator="\n", delimiter=delimiter, quoting=csv.QUOTE_ALL)
    for row in rows:
        # Python's csv leaves a carriage return unquoted, and then can't read it.
        (quoted if any("\r" in field for field in row) else plain).writerow(row)
    return text.getvalue()


def read_report(folder: str | Path) -> Report:
    """Read the report of a finished run.

    Raises:
        ModelError: The run is not finished, or the report can't be read.
    """
    return Report.from_dict(read_json(Path(folder) / "report.json"))
