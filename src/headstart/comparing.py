"""Many fits on one split: every combination of strategy, backbone and seed, then the verdicts."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headstart import fitting
from headstart.cache import Cache
from headstart.comparison import Comparison, RunRow, read_comparison
from headstart.data.checks.check import check
from headstart.data.items import Dataset
from headstart.data.objects.in_memory import as_source
from headstart.data.sources import open_dataset
from headstart.division import planned_split
from headstart.errors import HeadstartError, ModelError
from headstart.files import write_json, write_text
from headstart.lineup import Entry, Lineup, make_lineup, safe_name
from headstart.log import Event
from headstart.memory import FileMemory
from headstart.options import DEFAULT_BACKBONE
from headstart.outcome import environment
from headstart.plan import data_spec
from headstart.report import Report
from headstart.run import Run, csv_text
from headstart.strategy.strategy import Strategy
from headstart.verdict import Answers, judge, read_answers

__all__ = ["STRATEGIES", "compare"]

Listener = Callable[[Event], None]
STRATEGIES = ("feature-extraction", "probe-then-fine-tune", "last-blocks:2")
_TRIES = 10_000


def compare(
    data: object,
    *,
    strategies: Sequence[str | Strategy] = STRATEGIES,
    backbones: Sequence[str] = (DEFAULT_BACKBONE,),
    seeds: int = 3,
    out: str | Path | None = None,
    listener: Listener | None = None,
    cache: Cache | None = None,
    command: str | None = None,
    **options: Any,
) -> Comparison:
    """Fit every combination of strategy, backbone and seed on one split, and compare them.

    Runs that are finished are not run again, so that the same call goes on where an earlier one
    stopped; where nothing is missing, it returns what is there. A run that fails is a row with
    its reason.

    Args:
        data: A folder, a table, a zip file, the name of a data set, or labelled images as Python
            objects (``docs/data.md``).
        strategies: Names, paths of TOML files, or ``Strategy`` objects.
        backbones: Networks as ``zoo:name``. A strategy that brings its own network runs on that.
        seeds: Run each combination with the seeds 0 to ``seeds`` - 1; the split stays the same.
        out: The comparison's folder; by default ``comparisons/DATA``, numbered if that holds
            another comparison.
        listener: Called with each event of each fit, and with ``run`` before and ``ran`` after it.
        cache: Where features are remembered; by default the user's cache folder.
        command: The command to show on the page; by default the Python call.
        **options: The fields of ``headstart.options.Options``, the same for all runs.

    Returns:
        The comparison, as comparison.json has it.

    Raises:
        UsageError: An option can't be used, or a name is unknown; before anything runs.
        DataError: The images can't be used, or the runs' test images are not the same.
        ModelError: ``out`` holds something else.
        ResourceError: A folder can't be written.
        HeadstartError: Every run failed; this is why the first did.
    """
    cache = cache or Cache()
    lineup = make_lineup(strategies, backbones, seeds, options)
    reading = lineup.entries[0].options.reading
    source = as_source(data, cache.given, reading)
    dataset = open_dataset(source, reading, cache=cache)
    spec = _spec(dataset, lineup, cache)
    images = dataset.root if Path(source).is_dir() else None
    folder = _folder(out, safe_name(dataset.name), spec, images)
    with folder.locked():
        done = _finished(folder, lineup)
        if done is not None:
            return done
        folder.write_spec(spec, environment())
        # The images are the same in all runs; ``headstart check --deep`` looks at them once.
        audit = bool(options.get("audit", False))
        field = _Field(source, folder.folder, lineup, listener or _nobody, cache, audit)
        rows, found, reports = field.run_all()
        comparison = judge(
            rows,
            found,
            data=dataset.name,
            command=command or f"headstart.compare({str(source)!r})",
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            setup=_setup(lineup, seeds, reports[0]),
            folder=folder.folder,
        )
        _write(comparison, folder.folder)
    return comparison


class _Field:
    """Where the runs take place: each leaves its row, its answers and its report."""

    def __init__(
        self,
        data: str | Path,
        folder: Path,
        lineup: Lineup,
        listener: Listener,
        cache: Cache,
        audit: bool,
    ) -> None:
        self.audit = audit
        self.data = data
        self.folder = folder
        self.lineup = lineup
        self.listener = listener
        self.cache = cache

    def run_all(
        self,
    ) -> tuple[list[RunRow], dict[tuple[str, str], dict[int, Answers]], list[Report]]:
        """Run what is missing; raise the first failure where nothing succeeds."""
        rows: list[RunRow] = []
        found: dict[tuple[str, str], dict[int, Answers]] = {}
        reports: list[Report] = []
        failures: list[HeadstartError] = []
        for number, entry in enumerate(self.lineup.entries, start=1):
            row = _row(entry)
            place = {"number": number, "of": len(self.lineup.entries)}
            self.listener({"event": "run", **place, **_told(row)})
            try:
                report = self._fit(entry, self.folder / row.run)
                found.setdefault(row.key, {})[row.seed] = read_answers(self.folder / row.run)
            except HeadstartError as error:
                failures.append(error)
                row = replace(row, failed=error.message)
            else:
                reports.append(report)
                row = replace(row, **row.measured(report))
            self.listener({"event": "ran", **place, **_told(row)})
            rows.append(row)
        if not reports:
            raise failures[0]
        return rows, found, reports

    def _fit(self, entry: Entry, out: Path) -> Report:
        words = [f"{name}={_plain(value)!r}" for name, value in entry.given.items()]
        return fitting.fit(
            self.data,
            out,
            listener=self.listener,
            cache=self.cache,
            command=f"headstart.fit({', '.join([repr(str(self.data)), repr(str(out)), *words])})",
            **{**entry.given, "audit": self.audit},
        ).report


def _row(entry: Entry) -> RunRow:
    return RunRow(
        strategy=entry.strategy.name,
        backbone=entry.options.backbone,
        seed=entry.options.seed,
        run=f"runs/{entry.name}",
    )


def _told(row: RunRow) -> dict[str, Any]:
    """Return what an event tells of a run."""
    return {
        "strategy": row.strategy,
        "backbone": row.backbone,
        "seed": row.seed,
        "accuracy": None if row.accuracy is None else row.accuracy.value,
        "took": row.seconds,
        "failed": row.failed,
    }


def _finished(folder: Run, lineup: Lineup) -> Comparison | None:
    """Return the comparison where nothing of it is missing and nothing has failed."""
    if not (folder.folder / "comparison.json").is_file():
        return None
    there = all(Run(folder.folder / _row(it).run).finished for it in lineup.entries)
    comparison = read_comparison(folder.folder)
    return comparison if there and not any(row.failed for row in comparison.rows) else None


def _nobody(event: Event) -> None:
    """Listen to nothing."""


def _spec(dataset: Dataset, lineup: Lineup, cache: Cache) -> dict[str, Any]:
    """Return what makes this comparison this comparison, as plain JSON."""
    options = lineup.entries[0].options
    checked = check(dataset, FileMemory(cache.files), max_bad=options.max_bad, progress=None)
    spec = {
        "comparison": 1,
        "data": data_spec(dataset, checked),
        "split": planned_split(checked.items, checked.digests, options).digest,
        **lineup.to_dict(),
    }
    return dict(json.loads(json.dumps(spec)))  # as it will be read again: tuples are lists


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _folder(out: str | Path | None, name: str, spec: dict[str, Any], images: Path | None) -> Run:
    """Find the folder and prove that it can be written; one that holds another is untouched."""
    return Run.open(_unnamed(name, spec) if out is None else out, name, spec, data=images)


def _unnamed(name: str, spec: dict[str, Any]) -> Path:
    for number in range(1, _TRIES):
        folder = Path("comparisons") / (name if number == 1 else f"{name}-{number}")
        if not folder.exists() or Run(folder).matches(spec):
            return folder
    raise ModelError(f"comparisons/ holds {_TRIES} named {name}.", hint="Name one with --out.")


def _setup(lineup: Lineup, seeds: int, report: Report) -> dict[str, Any]:
    """Return what all runs have in common."""
    return {
        "split": report.split,
        "seeds": seeds,
        "options": lineup.asked,
        "machine": {
            "cpus": os.cpu_count(),
            "device": report.engine["device"],
            "system": platform.platform(),
        },
        "versions": report.versions,
    }


def _write(comparison: Comparison, folder: Path) -> None:
    """Write the table, the figure and the page, and comparison.json last."""
    from headstart.comparison_page import accuracy_time_figure, render_comparison

    write_text(folder / "comparison.csv", csv_text(comparison.table()))
    accuracy_time_figure(comparison, folder / "figures" / "accuracy-time.png")
    write_text(folder / "comparison.html", render_comparison(comparison))
    write_json(folder / "comparison.json", comparison.to_dict())
