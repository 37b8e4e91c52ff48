"""Shortcuts: facts that betray the label without a look at what the picture shows.

If a tree of depth three can tell a class by the width of its files, a network may learn where the
pictures come from instead of what is on them, and will fail where that is different. Each fact is
tried alone, by a decision tree on out-of-fold images, and then all facts of the file together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from headstart.data.checks.findings import Finding
from headstart.file_facts import Fact, Seen
from headstart.overlap import balanced_accuracy

if TYPE_CHECKING:
    from sklearn.tree import DecisionTreeClassifier

__all__ = ["Shortcut", "finding", "shortcuts"]

Labels = npt.NDArray[np.int64]
Columns = npt.NDArray[np.float32]

_DEPTH = 3
_LEAST_IMAGES = 10  # of a class, to speak of it
_LEAST = 0.75  # lower end of the interval of a class against the others, to be worth a note
_STRONG = 0.9  # from here on, a warning
_BETTER = 0.05  # that all facts together must add to the best alone
_MOST_WORDS = 20  # of a fact in words that become columns
_MOST_FILES = 100
_MOST_CLASSES = 5  # that a message lists


@dataclass(frozen=True, slots=True)
class Shortcut:
    """A fact that betrays classes.

    Attributes:
        facts: Its name; several names where a tree needed them together.
        reveals: The classes it tells from all others, surest first.
        accuracy: Balanced accuracy of the surest class against all others; chance is 0.5.
        low: Lower end of its 95 % interval.
        high: Upper end.
        named: Balanced accuracy of naming the right one of all C classes; chance is 1 / C.
        also: Other facts that tell the same classes.
        seen: As ``Fact.seen``.
        habit: As ``Fact.habit``.
        positions: Images of these classes that the fact alone puts right.
    """

    facts: tuple[str, ...]
    reveals: tuple[str, ...]
    accuracy: float
    low: float
    high: float
    named: float
    also: tuple[str, ...]
    seen: Seen
    habit: bool
    positions: tuple[int, ...]


def shortcuts(
    facts: Sequence[Fact],
    labels: Labels,
    units: Labels,
    fold: Labels,
    classes: Sequence[str],
) -> tuple[Shortcut, ...]:
    """Find the facts that tell a class from all others, the strongest first.

    A class is told where the lower end of the interval of its balanced accuracy against all
    others is at least 0.75. The interval counts units, not images: a hundred frames of one film
    are one witness. A class that several facts tell is put down to the best of them, the others
    are named beside it. Classes of fewer than 10 images are not judged.

    Args:
        facts: What is known of the N images.
        labels: (N,) in 0..C-1.
        units: (N,) a number that each image shares with its copies and group.
        fold: (N,) the fold of each image, in which it is judged by a tree of the others.
        classes: Names of the C classes.
    """
    varied = [(fact, columns) for fact in facts if (columns := _columns(fact)).size]
    if not varied or len(np.unique(labels)) < 2:
        return ()
    trials = [_try(fact, columns, labels, units, fold) for fact, columns in varied]
    files = [(fact, columns) for fact, columns in varied if not fact.habit]
    if len(files) > 1:
        trials += _together(files, trials, labels, units, fold)
    return _told(trials, labels, classes)


@dataclass(frozen=True)
class _Trial:
    """What a tree on some facts tells: for each class (C,) its accuracy against all others."""

    fact: Fact
    facts: tuple[str, ...]
    accuracy: npt.NDArray[np.float64]
    low: npt.NDArray[np.float64]
    high: npt.NDArray[np.float64]
    named: float
    right: npt.NDArray[np.bool_]


def _columns(fact: Fact) -> Columns:
    """Return a fact as numbers (N, K): words become one column each; no column does not vary."""
    if isinstance(fact.values, np.ndarray):
        columns = np.nan_to_num(fact.values.astype(np.float32))[:, None]
    else:
        common = [word for word, _ in Counter(fact.values).most_common(_MOST_WORDS)]
        values = np.array(fact.values, dtype=object)
        columns = np.stack([(values == word).astype(np.float32) for word in common], axis=1)
    return columns[:, np.ptp(columns, axis=0) > 0]


def _try(
    fact: Fact,
    columns: Columns,
    labels: Labels,
    units: Labels,
    fold: Labels,
) -> _Trial:
    """Let trees of the other folds name each image's class by these columns alone."""
    # Words are looked up, one split each: a table and not a curve, however many they are.
    depth = _DEPTH if isinstance(fact.values, np.ndarray) else columns.shape[1]
    predicted = np.full(len(labels), -1)
    for number in np.unique(fold):
        out = fold == number
        if len(np.unique(labels[~out])) > 1:
            tree = _tree(depth).fit(columns[~out], labels[~out])
            predicted[out] = tree.predict(columns[out])
    n_classes = int(labels.max()) + 1
    scores = np.array([_against_others(predicted, labels, units, c) for c in range(n_classes)])
    accuracy, low, high = scores.T
    sizes = np.maximum(np.bincount(labels, minlength=n_classes), 1)
    recalls = np.bincount(labels[predicted == labels], minlength=n_classes) / sizes
    return _Trial(
        *(fact, (fact.name,), accuracy, low, high),
        named=float(recalls[np.unique(labels)].mean()),
        right=predicted == labels,
    )


def _tree(depth: int) -> DecisionTreeClassifier:
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(
        max_depth=depth, class_weight="balanced", min_samples_leaf=2, random_state=0
    )


def _against_others(
    predicted: Labels, labels: Labels, units: Labels, label: int
) -> tuple[float, float, float]:
    """Return the balanced accuracy of one class against all others, and its interval."""
    own = labels == label
    if min(own.sum(), (~own).sum()) < _LEAST_IMAGES:
        return 0.5, 0.0, 1.0
    right = (predicted == label) == own
    shares = [right[part].mean() for part in (own, ~own)]
    witnesses = [len(np.unique(units[part])) for part in (own, ~own)]
    return balanced_accuracy(
        [share * n for share, n in zip(shares, witnesses, strict=True)], witnesses
    )


def _together(
    files: Sequence[tuple[Fact, Columns]],
    trials: Sequence[_Trial],
    labels: Labels,
    units: Labels,
    fold: Labels,
) -> Iterator[_Trial]:
    """Yield the trial of all facts of the file at once, where it tells more than each alone."""
    columns = np.concatenate([some for _, some in files], axis=1)
    both = Fact("together", np.empty(0), "traces")
    trial = _try(both, columns, labels, units, fold)
    best = np.max([one.low for one in trials if not one.fact.habit], axis=0)
    better = trial.low > best + _BETTER
    if not better.any():
        return
    owner = np.repeat(np.arange(len(files)), [some.shape[1] for _, some in files])
    splits = _tree(_DEPTH).fit(columns, labels).tree_.feature  # root first; leaves are negative
    used = [files[place][0] for place in dict.fromkeys(owner[splits[splits >= 0]].tolist())]
    if any(fact.seen == "seen" for fact in used):
        both = replace(both, seen="seen")
    low = np.where(better, trial.low, 0.0)
    yield replace(trial, fact=both, facts=tuple(fact.name for fact in used), low=low)


def _told(trials: Sequence[_Trial], labels: Labels, classes: Sequence[str]) -> tuple[Shortcut, ...]:
    """Put each class that is told down to the fact that tells it best, habits apart."""
    found = []
    for habit in (False, True):
        kind = [trial for trial in trials if trial.fact.habit == habit]
        if not kind:
            continue
        lows = np.stack([trial.low for trial in kind])  # (trials, C)
        best = lows.argmax(axis=0)
        for number, trial in enumerate(kind):
            told = np.flatnonzero((best == number) & (lows[number] >= _LEAST))
            if len(told):
                others = (lows[:, told] >= _LEAST).any(axis=1)
                also = tuple(kind[i].facts[0] for i in np.flatnonzero(others) if i != number)
                found.append(_shortcut(trial, told, also, labels, classes))
    return tuple(sorted(found, key=lambda one: (one.habit, -one.low, one.facts)))


def _shortcut(
    trial: _Trial, told: Labels, also: tuple[str, ...], labels: Labels, classes: Sequence[str]
) -> Shortcut:
    told = told[np.argsort(-trial.accuracy[told], kind="stable")]
    first = told[0]
    return Shortcut(
        facts=trial.facts,
        reveals=tuple(classes[label] for label in told),
        accuracy=float(trial.accuracy[first]),
        low=float(trial.low[first]),
        high=float(trial.high[first]),
        named=trial.named,
        also=also,
        seen=trial.fact.seen,
        habit=trial.fact.habit,
        positions=tuple(np.flatnonzero(np.isin(labels, told) & trial.right).tolist()),
    )


def finding(shortcut: Shortcut, names: Sequence[str], classes: Sequence[str]) -> Finding:
    """Return the finding about a shortcut.

    Args:
        shortcut: From :func:`shortcuts`.
        names: Names of all images.
        classes: Names of all classes.
    """
    strong = shortcut.low >= _STRONG and not shortcut.habit
    severity: Literal["note", "warning"] = "warning" if strong else "note"
    files = tuple(names[position] for position in shortcut.positions[:_MOST_FILES])
    return Finding("shortcut", severity, files, _message(shortcut, classes), _hint(shortcut))


def _message(shortcut: Shortcut, classes: Sequence[str]) -> str:
    facts = " and ".join(shortcut.facts)
    verb = "together tell" if shortcut.facts[1:] else "alone tells"
    first = shortcut.reveals[0]
    if len(classes) == 2:
        what = f"{classes[0]} from {classes[1]}"
    elif len(shortcut.reveals) == 1:
        what = f"{first} from the other classes"
    else:
        more = ", …" if len(shortcut.reveals) > _MOST_CLASSES else ""
        what = f"{', '.join(shortcut.reveals[:_MOST_CLASSES])}{more} from the others, {first}"
    low, value, high = (f"{100 * x:.0f}" for x in (shortcut.low, shortcut.accuracy, shortcut.high))
    message = f"{facts} {verb} {what} in {value} % ({low} to {high}; chance 50 %)."
    if len(classes) > 2:
        message += (
            f" The right class of {len(classes)} is named in {100 * shortcut.named:.0f} % "
            f"(chance {100 / len(classes):.0f} %)."
        )
    if shortcut.also:
        message += f" So {'do' if shortcut.also[1:] else 'does'} {', '.join(shortcut.also)}."
    return message[0].upper() + message[1:]


def _hint(shortcut: Shortcut) -> str:
    if shortcut.habit:
        return (
            "A habit of naming: the network never sees it. It may show that the classes were "
            "collected apart; look whether they differ in more than what they show."
        )
    if shortcut.seen == "unseen":
        return (
            "The network does not see it, but it shows that the classes come from different "
            "sources; what else differs between these, the network does see. Mix the sources."
        )
    if shortcut.seen == "traces":
        return (
            "Every picture is resized, so the network does not see the size itself; but enlarged "
            "pictures are soft and classes of different sizes come from different sources, and "
            "that it sees. Take all classes from the same sources, or save all at one size from "
            "the originals, and measure on pictures of another source."
        )
    return (
        "The network can see it. If it belongs to the things themselves (some are darker), that "
        "is fair; if it comes from how the pictures were made, it will mislead: make them alike, "
        "and measure on pictures of another source."
    )
