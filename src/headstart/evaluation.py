"""A finished classifier on other labelled data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headstart.cache import Cache
from headstart.data.check import check, judge_failures
from headstart.data.items import Item
from headstart.data.read import Failure
from headstart.data.sources import open_dataset
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
    """

    split: Literal["test", "all"]
    evaluation: Evaluation
    failed: tuple[Failure, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the document that ``headstart evaluate --json`` prints."""
        failed = [{"path": failure.name, "reason": failure.reason} for failure in self.failed]
        return {"split": self.split, **self.evaluation.to_dict(), "failed": failed}


def evaluate(
    classifier: Classifier,
    data: str | Path,
    *,
    cache: Cache,
    max_bad: float,
    progress: Progress | None = None,
) -> Scores:
    """Score ``classifier`` on ``data``; see ``Classifier.evaluate``."""
    dataset = open_dataset(data, min_classes=1)
    checked = check(dataset, FileMemory(cache.files), max_bad=max_bad, progress=None)
    chosen = [i for i, item in enumerate(checked.items) if item.split == "test"]
    split: Literal["test", "all"] = "test" if chosen else "all"
    chosen = chosen or list(range(len(checked.items)))
    items = [checked.items[index] for index in chosen]
    _known(classifier, items, data)
    features = extract(
        classifier.backbone,
        [item.path for item in items],
        [checked.digests[index] for index in chosen],
        cache,
        classifier.path,
        names=[item.name for item in items],
        progress=progress,
    )
    early = _of_split(checked.failed, dataset.items, split)
    failed = (*early, *features.failed)
    judge_failures(len(items) + len(early), failed, max_bad)
    labels = [items[index].label for index in features.positions]
    probabilities = classifier.probabilities(features.rows.all())
    task = classifier.task
    return Scores(split, task.evaluate(probabilities, task.encode(labels)), failed)


def _known(classifier: Classifier, items: list[Item], data: str | Path) -> None:
    """Refuse labels that the classifier does not know; classes are matched by name."""
    labels = {item.label for item in items}
    unknown = sorted(labels - set(classifier.classes))
    if not unknown:
        return
    lower = {name.lower(): name for name in classifier.classes}
    twins = [f"{name} for {lower[name.lower()]}" for name in unknown if name.lower() in lower]
    raise DataError(
        f"{data} has classes that the classifier does not know: {', '.join(unknown[:10])}.\n"
        f"It knows: {', '.join(classifier.classes[:20])}.",
        field="classes",
        hint=f"Rename the folders: {', '.join(twins)}."
        if twins
        else "Leave these folders out, or rename them to the classes they are.",
    )


def _of_split(
    failed: tuple[Failure, ...], items: tuple[Item, ...], split: str
) -> tuple[Failure, ...]:
    """Keep the failures that belong to the part that is scored."""
    part = {item.name for item in items if split == "all" or item.split == split}
    return tuple(failure for failure in failed if failure.name in part)
