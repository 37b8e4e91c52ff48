"""What a comparison found: its runs, what they add up to, and what may be said of each pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from headstart.errors import ModelError
from headstart.files import read_json
from headstart.metrics import Metric
from headstart.report import Report

__all__ = ["Chosen", "Comparison", "Group", "Pair", "RunRow", "read_comparison"]

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of a comparison; what was measured is None where it failed.

    Attributes:
        strategy: Name of the strategy.
        backbone: ``zoo:name`` of the network.
        seed: Decides all that is drawn in the run; the split is the same for all.
        accuracy: On test.
        val_accuracy: On val, by which choices are made.
        macro_f1: On test.
        seconds: What the run took, without what an earlier run had left in the cache.
        trainable: Parameters that its phases train, the most that any of them does.
        total: Parameters of the network and its head.
        run: The run's folder, below the comparison's.
        failed: Why there is no result; None where there is one.
    """

    strategy: str
    backbone: str
    seed: int
    run: str
    accuracy: Metric | None = None
    val_accuracy: Metric | None = None
    macro_f1: Metric | None = None
    seconds: float | None = None
    trainable: int | None = None
    total: int | None = None
    failed: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """The strategy and the backbone."""
        return self.strategy, self.backbone

    def measured(self, report: Report) -> dict[str, Any]:
        """Return the fields that a finished run's report gives."""
        return {
            "accuracy": report.test["accuracy"],
            "val_accuracy": report.val["accuracy"],
            "macro_f1": report.test["macro_f1"],
            "seconds": report.timings["total_s"],
            **report.parameters,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """All finished runs of a strategy on a backbone.

    Attributes:
        strategy: Name of the strategy.
        backbone: ``zoo:name`` of the network.
        label: What to call the group among the others: the strategy, and the backbone if needed.
        seeds: How many runs there are.
        accuracy: Mean over the seeds on test, its interval over images and seeds; ``n`` images.
        val_accuracy: Mean over the seeds on val; None without val images.
        seconds: Mean over the seeds.
        trainable: Parameters trained.
        total: Parameters of the network and its head.
    """

    strategy: str
    backbone: str
    label: str
    seeds: int
    accuracy: Metric
    val_accuracy: float | None
    seconds: float
    trainable: int | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two groups on the same test images, over the seeds that both finished.

    Attributes:
        a: Label of the group with the higher accuracy.
        b: Label of the other.
        difference: Accuracy of ``a`` minus accuracy of ``b``, at least 0.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: Two-sided, adjusted for the number of pairs (Holm).
        verdict: What this allows to say, in a sentence.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The group with the highest mean accuracy on val, and what it then reached on test."""

    strategy: str
    backbone: str
    label: str
    val_accuracy: float
    accuracy: Metric


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Strategies and backbones on one split, over several seeds.

    Attributes:
        data: Name of the data set.
        command: The command that made it.
        created: When it was done, in ISO 8601.
        setup: ``split`` (digest and sizes), ``seeds``, ``options`` that are not the defaults, and
            ``machine``.
        rows: One a run.
        summary: One a strategy and backbone with a finished run.
        pairs: Each two of ``summary``.
        best_on_val: The choice that val makes; None without val images.
        folder: Where its files are; not in the document.
    """

    data: str
    command: str
    created: str
    setup: dict[str, Any]
    rows: tuple[RunRow, ...]
    summary: tuple[Group, ...]
    pairs: tuple[Pair, ...]
    best_on_val: Chosen | None
    folder: Path | None = field(default=None, compare=False)

    @property
    def by_val(self) -> tuple[Group, ...]:
        """The groups, that with the highest mean accuracy on val first."""
        return tuple(sorted(self.summary, key=lambda group: -(group.val_accuracy or 0.0)))

    def to_dict(self) -> dict[str, Any]:
        """Return comparison.json's document; ``from_dict`` turns it back."""
        chosen = self.best_on_val
        return {
            "format": FORMAT,
            "data": self.data,
            "command": self.command,
            "created": self.created,
            "setup": self.setup,
            "rows": [asdict(row) for row in self.rows],
            "summary": [asdict(group) for group in self.summary],
            "pairs": [asdict(pair) for pair in self.pairs],
            "best_on_val": None if chosen is None else asdict(chosen),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], *, folder: Path | None = None) -> Comparison:
        """Build a comparison from ``to_dict``'s result.

        Raises:
            ModelError: It is of another format, or not a comparison.
        """
        try:
            fields = dict(document)
            found = fields.pop("format")
            if found != FORMAT:
                raise ModelError(
                    f"comparison.json must be of format {FORMAT}, this one is of {found!r}.",
                    hint="Read it with the version of headstart that wrote it.",
                )
            chosen = fields["best_on_val"]
            fields["rows"] = tuple(RunRow(**_with_metrics(row)) for row in fields["rows"])
            fields["summary"] = tuple(Group(**_with_metrics(g)) for g in fields["summary"])
            fields["pairs"] = tuple(Pair(**pair) for pair in fields["pairs"])
            fields["best_on_val"] = None if chosen is None else Chosen(**_with_metrics(chosen))
            return cls(**fields, folder=folder)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"Not a comparison: {error!r}.", field="comparison.json") from error

    def table(self) -> list[list[str]]:
        """Return comparison.csv's lines, a run each, the header first."""
        header = ["strategy", "backbone", "seed", "accuracy", "accuracy_low", "accuracy_high"]
        header += ["val_accuracy", "macro_f1", "seconds", "trainable", "total", "run", "failed"]
        nothing = Metric(None, None, None, 0)
        lines = [header]
        for row in self.rows:
            test = row.accuracy or nothing
            measured = [test.value, test.low, test.high, (row.val_accuracy or nothing).value]
            measured += [(row.macro_f1 or nothing).value]
            texts = ["" if value is None else f"{value:.6f}" for value in measured]
            counts = [row.seconds, row.trainable, row.total]
            texts += ["" if value is None else str(value) for value in counts]
            names = [row.strategy, row.backbone, str(row.seed)]
            lines.append([*names, *texts, row.run, row.failed or ""])
        return lines


def read_comparison(folder: str | Path) -> Comparison:
    """Read a finished comparison.

    Raises:
        ModelError: It is not finished, or can't be read.
    """
    folder = Path(folder)
    return Comparison.from_dict(read_json(folder / "comparison.json"), folder=folder)


def _with_metrics(document: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the metrics of a row, group or choice back into ``Metric``."""
    return {
        name: Metric.from_dict(value) if isinstance(value, Mapping) else value
        for name, value in document.items()
    }
