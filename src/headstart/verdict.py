"""From the answers of finished runs to what a comparison may say of them.

All runs are judged on the same test images, so pairs are tested image by image
(``significance``). A choice is made by val alone: whoever picks the best of many on test reports
luck along with skill.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from headstart.comparison import Chosen, Comparison, Group, Pair, RunRow
from headstart.errors import DataError, ModelError
from headstart.metrics import Metric
from headstart.significance import Difference, holm, mean_accuracy, paired_bootstrap

__all__ = ["Answers", "judge", "read_answers"]

_COLUMNS = ("item", "split", "label", "predicted")
_ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Answers:
    """A finished run's test images and whether each is right.

    Attributes:
        items: Names of the N images.
        right: (N,).
    """

    items: tuple[str, ...]
    right: NDArray[np.bool_]


Found: TypeAlias = Mapping[tuple[str, str], Mapping[int, Answers]]  # by (strategy, backbone), seed


def judge(rows: Sequence[RunRow], found: Found, **facts: Any) -> Comparison:
    """Sum up runs and test each pair of strategy and backbone.

    Args:
        rows: One a run, failed ones too.
        found: The answers of the finished ones, by (strategy, backbone) and seed.
        **facts: The comparison's ``data``, ``command``, ``created``, ``setup`` and ``folder``.

    Raises:
        DataError: Two runs were not judged on the same test images.
    """
    _check_same_items(found)
    summary = tuple(_groups(rows, found))
    by_label = {group.label: found[group.strategy, group.backbone] for group in summary}
    return Comparison(
        rows=tuple(rows),
        summary=summary,
        pairs=tuple(_pairs(by_label)),
        best_on_val=_choose(summary),
        **facts,
    )


def read_answers(run: Path) -> Answers:
    """Read from predictions.csv whether a finished run is right on each test image.

    Raises:
        ModelError: There is no such file, or it lacks a column.
    """
    file = run / "predictions.csv"
    try:
        with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            header, *rows = csv.reader(lines)
    except OSError as error:
        raise ModelError(f"{file} can't be read: {error.strerror}.", field=str(file)) from error
    except ValueError as error:
        raise ModelError(f"{file} is empty.", field=str(file)) from error
    # By position: a class may be called as one of these columns is.
    for column in _COLUMNS:
        if column not in header[: len(_COLUMNS)]:
            raise ModelError(f"{file} has no column {column!r}.", field=str(file))
    item, split, label, predicted = (header.index(column) for column in _COLUMNS)
    test = [row for row in rows if row[split] == "test"]
    right = [row[label] == row[predicted] for row in test]
    return Answers(tuple(row[item] for row in test), np.array(right, dtype=bool))


def _check_same_items(found: Found) -> None:
    """Refuse runs whose test images are not the same in the same order."""
    runs = [
        (f"{strategy} on {backbone}, seed {seed}", answer.items)
        for (strategy, backbone), by_seed in found.items()
        for seed, answer in by_seed.items()
    ]
    for name, items in runs[1:]:
        if items != runs[0][1]:
            odd = sorted(set(items) ^ set(runs[0][1]))
            what = f"{odd[0]} is in one of them only" if odd else "their order differs"
            raise DataError(
                f"All runs must be judged on the same test images; {name} has {len(items)}, "
                f"{runs[0][0]} has {len(runs[0][1])}: {what}.",
                field="data",
                hint="An image may be unreadable at one size only: repair it, or take it out.",
            )


def _labels(rows: Sequence[RunRow]) -> dict[tuple[str, str], str]:
    """Name each group by its strategy, and by its backbone where that is not enough."""
    keys = list(dict.fromkeys(row.key for row in rows))
    plain = len({strategy for strategy, _ in keys}) == len(keys)
    return {key: key[0] if plain else f"{key[0]} on {key[1]}" for key in keys}


def _groups(rows: Sequence[RunRow], found: Found) -> Iterator[Group]:
    for key, label in _labels(rows).items():
        done = [row for row in rows if row.key == key and row.failed is None]
        if not done:
            continue
        right = np.stack([found[key][row.seed].right for row in done])
        interval = mean_accuracy(right)
        val = [row.val_accuracy.value for row in done if row.val_accuracy is not None]
        on_val = [value for value in val if value is not None]
        yield Group(
            strategy=key[0],
            backbone=key[1],
            label=label,
            seeds=len(done),
            accuracy=Metric(interval.value, interval.low, interval.high, right.shape[1]),
            val_accuracy=float(np.mean(on_val)) if on_val else None,
            seconds=float(np.mean([row.seconds for row in done])),
            trainable=done[0].trainable,
            total=done[0].total,
        )


def _choose(groups: Sequence[Group]) -> Chosen | None:
    """Return what val would choose, the first of equals; test has no say."""
    best = None
    for group in groups:
        if group.val_accuracy is None:
            continue
        if best is None or group.val_accuracy > best.val_accuracy:
            best = Chosen(
                strategy=group.strategy,
                backbone=group.backbone,
                label=group.label,
                val_accuracy=group.val_accuracy,
                accuracy=group.accuracy,
            )
    return best


def _pairs(answers: Mapping[str, Mapping[int, Answers]]) -> Iterator[Pair]:
    """Test each two groups over the seeds that both have, the better one first."""
    names, differences, n_images = [], [], 0
    for a, b in combinations(answers, 2):
        common = sorted(answers[a].keys() & answers[b].keys())
        if common:
            of_a, of_b = (np.stack([answers[x][s].right for s in common]) for x in (a, b))
            if of_b.mean() > of_a.mean():
                (a, of_a), (b, of_b) = (b, of_b), (a, of_a)
            names.append((a, b))
            differences.append(paired_bootstrap(of_a, of_b))
            n_images = of_a.shape[1]
    adjusted = holm([difference.p_value for difference in differences])
    for (a, b), it, p_value in zip(names, differences, adjusted, strict=True):
        verdict = _verdict(a, b, it, p_value, n_images)
        yield Pair(a, b, it.value, it.low, it.high, p_value, verdict)


def _verdict(a: str, b: str, it: Difference, p_value: float, n: int) -> str:
    value, low, high = (100 * number for number in (it.value, it.low, it.high))
    chance = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.{3 if p_value < 0.1 else 2}f}"
    if p_value > _ALPHA:
        images = f"{n:,} test image{'' if n == 1 else 's'}"
        return (
            f"{a} and {b} can't be told apart with {images} "
            f"(difference {value:.1f} points, {low:.1f} to {high:.1f}; {chance})"
        )
    return f"{a} is better than {b} by {value:.1f} points ({low:.1f} to {high:.1f}), {chance}"
