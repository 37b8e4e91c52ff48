"""Accuracy against time as a drawing: where points, ticks and labels go, for page and figure alike.

All places are in pixels from the upper left corner. Labels never cover a point, an error bar or
each other: each takes the first free place around its point, and a line leads there from afar.
Where the names don't all find a place, numbers stand for them, in the order of ``by_val``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headstart.comparison import Comparison
from headstart.report import printable, shortened, text_width

__all__ = ["Dot", "Label", "Scatter", "Tick", "draw_scatter"]

_TOP, _RIGHT, _BOTTOM, _LEFT = 16.0, 20.0, 48.0, 56.0
_LINE, _COLUMN = 16.0, 7.4  # pixels: a label's height, and a character's width at most
_REACH, _CAP = 8.0, 4.0  # half sizes: a point, the end of an error bar
_MOST_COLUMNS = 40
_BESIDE, _RINGS = 6, 6  # boxes right beside a point, and circles of boxes around those
_TIME_TICKS = (
    *((value, f"{value:g} s") for value in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)),
    *((60 * value, f"{value:g} min") for value in (1, 2, 5, 10, 30)),
    *((3600 * value, f"{value:g} h") for value in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
)
_STEPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_TICKS = 7
_BETWEEN_TICKS = 52.0


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Label:
    """A name beside a point; ``x`` and ``y`` are the middle of its left edge.

    Attributes:
        text: The name, cut to fit, or a number.
        x: Left edge.
        y: Middle.
        width: At most so wide.
        lead: Where a line from the point ends, or None where it stands right beside it.
    """

    text: str
    x: float
    y: float
    width: float
    lead: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Dot:
    """A group: its mean time and accuracy, and the interval of the latter."""

    x: float
    y: float
    high: float
    low: float
    chosen: bool
    title: str
    label: Label


@dataclass(frozen=True, slots=True)
class Scatter:
    """The whole drawing; ``left``, ``top``, ``right``, ``bottom`` bound the plot within it.

    ``numbered`` tells whether the labels are the dots' numbers, counted from 1.
    """

    width: float
    height: float
    left: float
    top: float
    right: float
    bottom: float
    times: tuple[Tick, ...]
    shares: tuple[Tick, ...]
    dots: tuple[Dot, ...]
    numbered: bool


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def holds(self, other: _Box) -> bool:
        across = self.left <= other.left and other.right <= self.right
        return across and self.top <= other.top and other.bottom <= self.bottom


def draw_scatter(comparison: Comparison, width: float = 1000, height: float = 480) -> Scatter:
    """Lay out the groups of a comparison: time on a logarithmic axis, accuracy on test upwards.

    Args:
        comparison: With at least one group.
        width: Of the whole drawing, in pixels.
        height: Likewise.
    """
    left, right, top, bottom = _LEFT, width - _RIGHT, _TOP, height - _BOTTOM
    groups = comparison.by_val
    seconds = [max(group.seconds, 1e-3) for group in groups]
    first, last = _time_range(seconds)
    lows = [group.accuracy.low or 0.0 for group in groups]
    highs = [group.accuracy.high or 0.0 for group in groups]
    floor, ceiling, step = _share_range(min(lows), max(highs))

    def x_of(value: float) -> float:
        return left + (right - left) * math.log(value / first) / math.log(last / first)

    def y_of(share: float) -> float:
        return bottom - (bottom - top) * (share - floor) / (ceiling - floor)

    places = [
        (x_of(s), y_of(g.accuracy.value or 0.0)) for s, g in zip(seconds, groups, strict=True)
    ]
    spans = [(y_of(high), y_of(low)) for high, low in zip(highs, lows, strict=True)]
    plot = _Box(left, top, right, bottom)
    labels, free = _place_labels([group.label for group in groups], places, spans, plot)
    if not free:
        numbers = [str(number) for number in range(1, len(groups) + 1)]
        labels, _ = _place_labels(numbers, places, spans, plot)
    chosen = comparison.best_on_val.label if comparison.best_on_val else None
    dots = tuple(
        Dot(*place, *span, group.label == chosen, _title(group.label, group.seconds), label)
        for place, span, group, label in zip(places, spans, groups, labels, strict=True)
    )
    n_steps = round((ceiling - floor) / step)
    shares = tuple(
        Tick(y_of(floor + step * k), f"{100 * (floor + step * k):g} %") for k in range(n_steps + 1)
    )
    return Scatter(
        width=width,
        height=height,
        left=left,
        top=top,
        right=right,
        bottom=bottom,
        times=tuple(_time_ticks(first, last, x_of(first), x_of(last))),
        shares=shares,
        dots=dots[::-1],  # the best on val is drawn over the others
        numbered=not free,
    )


def _title(label: str, seconds: float) -> str:
    return f"{printable(label)}: {seconds:.1f} s"


def _time_range(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the ends of the time axis: some room on both sides, and a factor of 4 at least."""
    first, last = min(seconds), max(seconds)
    room = max(1.25, (last / first) ** 0.08, 2 / math.sqrt(last / first))
    return first / room, last * room


def _share_range(low: float, high: float) -> tuple[float, float, float]:
    """Return floor, ceiling and step of the accuracy axis."""
    span = max(high - low, 0.02)
    step = next((s for s in _STEPS if span / s <= _MOST_TICKS - 2), _STEPS[-1])
    floor = max(0.0, step * math.floor(low / step - 0.25))
    ceiling = min(1.0, step * math.ceil(high / step + 0.25))
    return round(floor, 6), round(max(ceiling, floor + step), 6), step


def _time_ticks(first: float, last: float, left: float, right: float) -> Iterator[Tick]:
    """Yield ticks that are far enough apart to be read."""
    before = -math.inf
    for value, text in _TIME_TICKS:
        if first <= value <= last:
            at = left + (right - left) * math.log(value / first) / math.log(last / first)
            if at - before >= _BETWEEN_TICKS:
                before = at
                yield Tick(at, text)


def _place_labels(
    names: Sequence[str],
    places: Sequence[tuple[float, float]],
    spans: Sequence[tuple[float, float]],
    plot: _Box,
) -> tuple[list[Label], bool]:
    """Give each name the first free place, those with the most neighbours first.

    Returns:
        The labels, and whether each is whole and has a place of its own.
    """
    taken = [_Box(x - _REACH, y - _REACH, x + _REACH, y + _REACH) for x, y in places]
    taken += [
        _Box(x - _CAP, high, x + _CAP, low)
        for (x, _), (high, low) in zip(places, spans, strict=True)
    ]
    labels: dict[int, Label] = {}
    all_free = True
    crowd = [sum(math.dist(place, other) < 120 for other in places) for place in places]
    for index in sorted(range(len(names)), key=lambda i: (-crowd[i], places[i])):
        most = max(4, min(_MOST_COLUMNS, int((plot.right - plot.left) / _COLUMN) - 2))
        text = shortened(printable(names[index]), most)
        width = _COLUMN * text_width(text)
        box, far, free = _free(places[index], width, taken, plot)
        all_free &= free and text == printable(names[index])
        taken.append(box)
        x, y = box.left, (box.top + box.bottom) / 2
        lead = _nearest(box, places[index]) if far else None
        labels[index] = Label(text, x, y, width, lead)
    return [labels[index] for index in range(len(names))], all_free


def _free(
    place: tuple[float, float], width: float, taken: Sequence[_Box], plot: _Box
) -> tuple[_Box, bool, bool]:
    """Return the first free box for a label, whether it needs a line, and whether it is free."""
    boxes = list(_around(place, width))
    for number, box in enumerate(boxes):
        if plot.holds(box) and not any(box.meets(other) for other in taken):
            return box, number >= _BESIDE, True
    return min(boxes, key=lambda box: sum(box.meets(other) for other in taken)), True, False


def _around(place: tuple[float, float], width: float) -> Iterator[_Box]:
    """Yield boxes around a point: right and left of it, a bit higher or lower, then farther out."""
    x, y = place
    gap = _REACH + 3
    for off in (0.0, -12.0, 12.0):
        for left in (x + gap, x - gap - width):
            yield _Box(left, y + off - _LINE / 2, left + width, y + off + _LINE / 2)
    for ring in range(1, _RINGS + 1):
        for side in (1, -1):
            for slide in (0.2, -0.2, 0.0, 0.6, -0.6):
                middle_y = y + side * ring * (_LINE + 2)
                left = x + slide * width + (gap * ring / 2 if slide > 0 else -gap * ring / 2)
                left -= 0.0 if slide > 0 else width if slide < 0 else width / 2
                yield _Box(left, middle_y - _LINE / 2, left + width, middle_y + _LINE / 2)


def _nearest(box: _Box, place: tuple[float, float]) -> tuple[float, float]:
    """Return the point of the box's edge that is nearest to ``place``."""
    x, y = place
    return min(max(x, box.left), box.right), min(max(y, box.top), box.bottom)
