"""A run's folder: where it is, what state it is in, and what is written there.

report.json is written last and atomically: that it exists means the run is done.
"""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headstart.errors import ModelError, ResourceError, UsageError
from headstart.files import check_writable, read_json, write_json, write_text
from headstart.report import Report

__all__ = ["Event", "Log", "Row", "Run", "csv_text", "read_report"]

Event = dict[str, Any]
_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Row:
    """One line of predictions.csv."""

    item: str
    split: str
    label: str
    predicted: str
    probabilities: Sequence[float]


class Log:
    """The events of a run: kept in log.jsonl once there is a folder, and told to a listener.

    Args:
        listener: Called with each event as it happens.
    """

    def __init__(self, listener: Callable[[Event], None] | None = None) -> None:
        self._listener = listener
        self._start = time.monotonic()
        self._early: list[str] | None = []
        self._path: Path | None = None

    def write_to(self, path: Path) -> None:
        """From now on keep the events, those so far included, in this file."""
        self._path = path
        write_text(path, "".join(self._early or []))
        self._early = None

    def emit(self, event: str, **values: Any) -> None:
        """Tell that something happened; ``progress`` events go to the listener only."""
        record = {"event": event, "seconds": round(time.monotonic() - self._start, 3), **values}
        if self._listener is not None:
            self._listener(record)
        if event == "progress":
            return
        line = json.dumps(record) + "\n"
        if self._early is not None:
            self._early.append(line)
        elif self._path is not None:
            self._append(self._path, line)

    @staticmethod
    def _append(path: Path, line: str) -> None:
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:  # the folder has vanished, or the disk is full
            raise ResourceError(
                f"{path} can't be written: {error.strerror}.",
                field=str(path),
                hint="Leave the run folder alone while it is written, and fit again.",
            ) from error

    def progress(self, stage: str) -> Callable[[int, int], None]:
        """Return a function (done, total) that emits the progress of a stage."""
        return lambda done, total: self.emit("progress", stage=stage, done=done, total=total)


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

    def write_spec(self, spec: dict[str, Any], environment: dict[str, Any]) -> None:
        """Write spec.json: what the run is, and in which environment it is made."""
        write_json(self.folder / "spec.json", {"spec": spec, "environment": environment})

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
            found = f"holds another run ({_difference(there, spec)})"
        elif any(self.folder.iterdir()):
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


def _difference(there: dict[str, Any], spec: dict[str, Any]) -> str:
    changed = [key for key in spec if there.get(key) != spec[key]]
    return f"other {', '.join(changed)}" if changed else "of another version"


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Return rows as CSV, with quotes where a field needs them."""
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
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
