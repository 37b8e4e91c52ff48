"""A finished classifier on other labelled data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headstart.cache import Cache
from headstart.data.checks.check import check, judge_failures
from headstart.data.items import Item
from headstart.data.objects.in_memory import as_source
from headstart.data.read import Failure
from headstart.data.reading import Reading
from headstart.data.sources import open_dataset
from headstart.data.symmetry import symmetries
from headstart.errors import DataError
from headstart.memory import FileMemory
from headstart.metrics import Evaluation
from headstart.training.features import extract

if TYPE_CHECKING:
    from headstart.classifier import Classifier

__all__ = ["Scores", "evaluate"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Scores:
    """What a classifier reached on a data set.

    Attributes:
        split: ``test`` where the data has a test part, else ``all``.
        evaluation: Metrics with intervals, confusion and scores by class; n counts what was read.
        failed: Images that could not be read, and are not in any number.
        notes: What was understood or left out when the data was listed.
    """

    split: Literal["test", "all"]
    evaluation: Evaluation
    failed: tuple[Failure, ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``headstart evaluate --json`` prints."""
        failed = [{"path": failure.name, "reason": failure.reason} for failure in self.failed]
        return {"split": self.split, **self.evaluation.to_dict(), "failed": failed}


def evaluate(
    classifier: Classifier,
    data: object,
    *,
    cache: Cache,
    reading: Reading | None = None,
    max_bad: float,
    progress: Progress | None = None,
) -> Scores:
    """Score ``classifier`` on ``data``; see ``Classifier.evaluate``."""
    data = as_source(data, cache.given, reading)
    dataset = open_dataset(data, reading, min_classes=1, cache=cache)
    held_out = tuple(item for item in dataset.items if item.split == "test")
    split: Literal["test", "all"] = "test" if held_out else "all"
    dataset = replace(dataset, items=held_out or dataset.items)
    _known(classifier, dataset.items, data)
    checked = check(dataset, FileMemory(cache.files), max_bad=max_bad, progress=None)
    views = [
        extract(
            classifier.backbone,
            [item.path for item in checked.items],
            checked.digests,
            cache,
            classifier.path,
            names=[item.name for item in checked.items],
            symmetry=view,
            progress=progress,
        )
        for view in symmetries(classifier.average)
    ]
    features = views[0]
    failed = (*checked.failed, *features.failed)
    judge_failures(len(dataset.items), failed, max_bad)
    labels = [checked.items[index].label for index in features.positions]
    probabilities = classifier.averaged([view.rows.all() for view in views])
    task = classifier.task
    return Scores(split, task.evaluate(probabilities, task.encode(labels)), failed, dataset.notes)


def _known(classifier: Classifier, items: Sequence[Item], data: str | Path) -> None:
    """Refuse labels that the classifier does not know; classes are matched by name."""
    labels = {item.label for item in items}
    unknown = sorted(labels - set(classifier.classes))
    if not unknown:
        return
    lower = {name.lower(): name for name in classifier.classes}
    twins = [f"{name} to {lower[name.lower()]}" for name in unknown if name.lower() in lower]
    raise DataError(
        f"{data} has classes that the classifier does not know: {', '.join(unknown[:10])}.\n"
        f"It knows: {', '.join(classifier.classes[:20])}.",
        field="classes",
        hint=f"Rename the folders: {', '.join(twins)}."
        if twins
        else "Leave these out with --classes, or rename them to the classes they are.",
    )
