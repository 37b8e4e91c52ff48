"""The course of a training as curves: loss, val accuracy and rates over the epochs of all phases.

The phases stand behind each other on one axis. ``panels`` lays the curves out for the page,
``figures`` draws them with matplotlib.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from headstart.scales import Scale, loss_scale, rate_scale, round_step, share_scale
from headstart.training.record import gone_back

__all__ = ["Column", "Curves", "Line", "Point", "Stretch", "read_curves"]

DOTTED_UP_TO = 40  # epochs; above, a line has no dot for each
_SOLVED = 0.12  # of all epochs: the width of a phase that has none
_NO_DECAY = " (no decay)"


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a place on the axis of epochs."""

    x: float
    value: float


@dataclass(frozen=True, slots=True)
class Line:
    """A value over the epochs, in pieces: it ends with a phase, and where nothing was measured."""

    name: str
    pieces: tuple[tuple[Point, ...], ...]

    @property
    def style(self) -> str:
        """``train`` or ``val``; of a rate, the first word of its group."""
        return self.name.partition(" ")[0]

    @property
    def points(self) -> list[Point]:
        """All points."""
        return [point for piece in self.pieces for point in piece]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A phase's place on the axis.

    Attributes:
        number: Of the phase, from 1.
        kind: ``solve``, ``train``, or ``tried`` where what was trained was not kept.
        origin: Where its training starts; its epoch 3 ends 3 further on.
        start: From here on it is drawn.
        end: To here.
    """

    number: int
    kind: str
    origin: float
    start: float
    end: float

    @property
    def middle(self) -> float:
        """Halfway between."""
        return (self.start + self.end) / 2


@dataclass(frozen=True, slots=True)
class Column:
    """What is known of one epoch, in words, and the part of the axis that is nearest to it."""

    left: float
    right: float
    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    """Everything there is to draw; x counts epochs, a solved phase having a width of its own.

    Attributes:
        stretches: The phases.
        epochs: Where each epoch ends, the first first.
        columns: Each epoch in words, starts and solved phases too.
        loss: On train, then log loss on val if there is any.
        accuracy: On val while training, then of solved heads; none where there is no val.
        rates: Of each group that learns at a rate of its own.
        kept: Points of the weights that each phase kept, each with the kind of its panel.
    """

    stretches: tuple[Stretch, ...]
    epochs: tuple[float, ...]
    columns: tuple[Column, ...]
    loss: tuple[Line, ...]
    accuracy: tuple[Line, ...]
    rates: tuple[Line, ...]
    kept: tuple[tuple[str, Point], ...]

    @property
    def start(self) -> float:
        """Where the axis starts."""
        return self.stretches[0].start

    @property
    def end(self) -> float:
        """Where the axis ends."""
        return self.stretches[-1].end

    @property
    def dotted(self) -> bool:
        """Whether there are few enough epochs for a dot each."""
        return len(self.epochs) <= DOTTED_UP_TO

    def panels(self) -> list[tuple[str, tuple[Line, ...], Scale]]:
        """Return what has points, from top to bottom: its kind, lines and scale."""
        axes: dict[str, tuple[tuple[Line, ...], Callable[[Sequence[float]], Scale]]] = {
            "loss": (self.loss, loss_scale),
            "accuracy": (self.accuracy, share_scale),
            "rate": (self.rates, rate_scale),
        }
        found = []
        for kind, (lines, axis) in axes.items():
            values = [point.value for line in lines for point in line.points]
            if values:
                found.append((kind, lines, axis(values)))
        return found

    def epoch_ticks(self, most: int) -> list[tuple[float, str]]:
        """Return at most ``most`` places with the numbers of the epochs that end there."""
        step = round(round_step(max(1.0, len(self.epochs) / most)))
        numbered = enumerate(self.epochs, start=1)
        return [(x, str(number)) for number, x in numbered if number % step == 0]


def read_curves(training: Sequence[Mapping[str, Any]]) -> Curves | None:
    """Put the phases of ``Report.training`` behind each other; None where none has an epoch.

    A phase that was left out has no place.
    """
    training = [record for record in training if "skipped" not in record]
    n_epochs = sum(_length(record) for record in training if record["kind"] == "train")
    if not any(record.get("epochs") for record in training):
        return None
    stretches = _stretches(training, n_epochs)
    phases = list(zip(stretches, training, strict=True))
    trained = [(stretch, record["epochs"]) for stretch, record in phases if record.get("epochs")]
    solved = tuple(
        (Point(stretch.middle, record["val"]["accuracy"]),)
        for stretch, record in phases
        if record["kind"] == "solve" and record["val"]
    )
    losses = (
        Line("train", _pieces(trained, lambda epoch: epoch["loss"])),
        Line("val (log loss)", _pieces(trained, lambda epoch: _judged(epoch, "log_loss"))),
    )
    accuracies = (
        Line("val", _pieces(trained, lambda epoch: _judged(epoch, "accuracy"))),
        Line("solved head", solved),
    )
    return Curves(
        stretches=tuple(stretches),
        epochs=tuple(
            stretch.origin + epoch["epoch"]
            for stretch, epochs in trained
            for epoch in epochs
            if epoch["epoch"]
        ),
        columns=tuple(column for phase in phases for column in _columns(*phase)),
        loss=tuple(line for line in losses if line.pieces),
        accuracy=tuple(line for line in accuracies if line.pieces),
        rates=_rates(trained),
        kept=tuple(point for phase in phases for point in _kept_points(*phase)),
    )


def _stretches(training: Sequence[Mapping[str, Any]], n_epochs: int) -> list[Stretch]:
    stretches: list[Stretch] = []
    origin = 0.0
    for record in training:
        start, end = origin, origin + max(1.0, _SOLVED * n_epochs)
        if record["kind"] == "train":
            end = origin + _length(record)
            if not stretches and not any(epoch["epoch"] == 0 for epoch in record["epochs"]):
                start = 0.5  # nothing is known of the time before the first epoch
            if len(training) == end == 1:
                end = 1.5  # the only epoch stands in the middle
        kind = "tried" if gone_back(record) else record["kind"]
        stretches.append(Stretch(record["phase"], kind, origin, start, end))
        origin = end
    return stretches


def _length(record: Mapping[str, Any]) -> int:
    """Return how many epochs a phase took, at least 1 to be seen."""
    return max([1, *(int(epoch["epoch"]) for epoch in record["epochs"])])


def _judged(epoch: Mapping[str, Any], name: str) -> float | None:
    return None if epoch["val"] is None else float(epoch["val"][name])


def _pieces(
    trained: Iterable[tuple[Stretch, Sequence[Mapping[str, Any]]]],
    value_of: Callable[[Mapping[str, Any]], float | None],
) -> tuple[tuple[Point, ...], ...]:
    pieces: list[tuple[Point, ...]] = []
    for stretch, epochs in trained:
        piece: list[Point] = []
        for epoch in epochs:
            value = value_of(epoch)
            if value is not None:
                piece.append(Point(stretch.origin + epoch["epoch"], value))
            else:
                pieces.append(tuple(piece))
                piece = []
        pieces.append(tuple(piece))
    return tuple(piece for piece in pieces if piece)


def _kept(record: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the epoch whose weights a trained phase kept; None where it broke off within one.

    Of a phase that was not kept, that is epoch 0, the weights before it.
    """
    if (record["stopped"] or {}).get("why") == "not-finite" and record["best_epoch"] is None:
        return None
    last = record["epochs"][-1:]
    best = [epoch for epoch in record["epochs"] if epoch["epoch"] == record["best_epoch"]]
    return next(iter(best or last), None)


def _kept_points(stretch: Stretch, record: Mapping[str, Any]) -> Iterator[tuple[str, Point]]:
    """Yield them on val's curves, or on that of the loss on train where val was not measured."""
    epoch = _kept(record) if record["kind"] == "train" else None
    if epoch is None:
        return
    x = stretch.origin + epoch["epoch"]
    if epoch["val"] is not None:
        yield "loss", Point(x, epoch["val"]["log_loss"])
        yield "accuracy", Point(x, epoch["val"]["accuracy"])
    elif epoch["loss"] is not None:
        yield "loss", Point(x, epoch["loss"])


def _rates(trained: Sequence[tuple[Stretch, Sequence[Mapping[str, Any]]]]) -> tuple[Line, ...]:
    """Return a line a group; groups that differ by weight decay only are one."""
    found: dict[str, list[tuple[Point, ...]]] = {}
    for stretch, epochs in trained:
        groups: dict[tuple[float, ...], list[str]] = {}
        for name in epochs[0]["rates"]:
            groups.setdefault(tuple(epoch["rates"][name] for epoch in epochs), []).append(name)
        for values, names in groups.items():
            name = min(names, key=lambda name: name.endswith(_NO_DECAY)).removesuffix(_NO_DECAY)
            places = (stretch.origin + epoch["epoch"] for epoch in epochs)
            points = (Point(x, value) for x, value in zip(places, values, strict=True) if value > 0)
            found.setdefault(name, []).append(tuple(points))
    lines = (Line(name, tuple(filter(None, pieces))) for name, pieces in found.items())
    return tuple(line for line in lines if line.pieces)


def _columns(stretch: Stretch, record: Mapping[str, Any]) -> Iterator[Column]:
    if record["kind"] == "solve":
        val = record["val"]
        accuracy = [f"val accuracy {100 * val['accuracy']:.1f} %"] if val else []
        lines = (f"phase {stretch.number}: the head solved", *accuracy)
        yield Column(stretch.start, stretch.end, lines)
        return
    places = [stretch.origin + epoch["epoch"] for epoch in record["epochs"]]
    limits = [stretch.start, *((a + b) / 2 for a, b in pairwise(places)), stretch.end]
    kept, verdict = _kept(record), record.get("keep") or {}
    best = None if verdict.get("kept", True) else verdict["epoch"]
    for epoch, (left, right) in zip(record["epochs"], pairwise(limits), strict=False):
        mark = " (kept)" if epoch is kept else " (best, not kept)" if epoch["epoch"] == best else ""
        yield Column(left, right, tuple(_words(stretch.number, epoch, mark)))


def _words(number: int, epoch: Mapping[str, Any], mark: str) -> Iterator[str]:
    name = f"epoch {epoch['epoch']}" if epoch["epoch"] else "before its first step"
    yield f"phase {number}, {name}{mark}"
    if epoch["loss"] is not None:
        yield f"train loss {epoch['loss']:.4g}"
    if epoch["val"] is not None:
        yield f"val log loss {epoch['val']['log_loss']:.4g}"
        yield f"val accuracy {100 * epoch['val']['accuracy']:.1f} %"
    rates = sorted(set(epoch["rates"].values()))
    yield f"rate {rates[0]:.3g}" if len(rates) == 1 else f"rates {rates[0]:.3g} to {rates[-1]:.3g}"
