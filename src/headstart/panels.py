"""The curves of a training laid out for the page, in pixels from the upper left corner."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headstart.curves import Curves, Line, Point, Stretch
from headstart.report import text_width
from headstart.scales import Scale

__all__ = ["TONES", "Drawing", "Drawn", "Panel", "draw_curves", "stretch_labels", "thinned", "tone"]

TONES = 8  # colours of rates, from the first group to the last
_LETTER, _GAP = 6.2, 8.0  # a letter's width, and what is left around a label
_LEFT, _RIGHT, _HEAD, _TITLE, _FOOT = 52.0, 12.0, 16.0, 44.0, 40.0
_PAD = 8.0  # between the plot's edge and the first epoch
_HEIGHTS = {"loss": 180.0, "accuracy": 150.0, "rate": 130.0}
_TICK = 56.0  # at least so far from the next


def stretch_labels(stretches: Sequence[Stretch], scale: float) -> list[str]:
    """Name the phases as fully as all of them have room for; an empty text where there is none.

    Args:
        stretches: The phases.
        scale: Pixels an epoch.
    """
    rooms = [(stretch.end - stretch.start) * scale - _GAP for stretch in stretches]
    words = {"solve": "solved", "train": "trained", "tried": "not kept"}
    forms: list[list[str]] = [
        [f"phase {stretch.number}: {words[stretch.kind]}" for stretch in stretches],
        [
            f"phase {stretch.number}{': not kept' if stretch.kind == 'tried' else ''}"
            for stretch in stretches
        ],
        [f"phase {stretch.number}" for stretch in stretches],
    ]
    numbers = [str(stretch.number) for stretch in stretches]
    for form in forms:
        pairs = zip(form, rooms, strict=True)
        if all(text_width(text) * _LETTER <= room for text, room in pairs):
            return form
    return [
        text if len(text) * _LETTER <= room else ""
        for text, room in zip(numbers, rooms, strict=True)
    ]


def thinned(n: int, most: int = 8) -> list[int]:
    """Return at most ``most`` of the numbers 0 to n - 1, evenly, the first and the last among."""
    if n <= most:
        return list(range(n))
    return [round(k * (n - 1) / (most - 1)) for k in range(most)]


def tone(index: int, n: int) -> int:
    """Return which of the ``TONES`` the group ``index`` of ``n`` has; few groups lie far apart."""
    return round(index * (TONES - 1) / max(1, n - 1))


@dataclass(frozen=True, slots=True)
class Drawn:
    """A line of a panel.

    Attributes:
        name: What it shows.
        style: ``train``, ``val``, ``solved``, or ``rate`` with a number below ``TONES``.
        path: SVG's path data; empty for lone dots.
        dots: Places that have one.
    """

    name: str
    style: str
    path: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of the plots below each other.

    Attributes:
        kind: ``loss``, ``accuracy`` or ``rate``.
        top: Of the plot.
        bottom: Of the plot.
        ticks: Height and text.
        lines: What is drawn.
        rings: Places of what was kept.
    """

    kind: str
    top: float
    bottom: float
    ticks: tuple[tuple[float, str], ...]
    lines: tuple[Drawn, ...]
    rings: tuple[tuple[float, float], ...]

    @property
    def legend(self) -> list[Drawn]:
        """The lines to name, thinned where they are many."""
        return [self.lines[index] for index in thinned(len(self.lines))]


@dataclass(frozen=True, slots=True)
class Drawing:
    """The whole drawing, in pixels.

    Attributes:
        width: Of all.
        height: Of all.
        left: Of the plots.
        right: Of the plots.
        panels: From top to bottom.
        labels: Middle and name of each phase.
        boundaries: Between the phases.
        ticks: Place and number of epochs.
        columns: Left edge, width and words of each epoch.
    """

    width: float
    height: float
    left: float
    right: float
    panels: tuple[Panel, ...]
    labels: tuple[tuple[float, str], ...]
    boundaries: tuple[float, ...]
    ticks: tuple[tuple[float, str], ...]
    columns: tuple[tuple[float, float, str], ...]


def draw_curves(curves: Curves, width: float = 960.0) -> Drawing:
    """Lay the curves out below each other on one axis of epochs."""
    left, right = _LEFT, width - _RIGHT
    scale = (right - left - 2 * _PAD) / (curves.end - curves.start)

    def x_of(x: float) -> float:
        return left + _PAD + (x - curves.start) * scale

    panels: list[Panel] = []
    top = _HEAD
    for kind, lines, axis in curves.panels():
        top += _TITLE
        bottom = top + _HEIGHTS[kind]
        panels.append(_panel(curves, kind, lines, axis, x_of, (top, bottom)))
        top = bottom
    names = stretch_labels(curves.stretches, scale)
    return Drawing(
        width=width,
        height=top + _FOOT,
        left=left,
        right=right,
        panels=tuple(panels),
        labels=tuple(
            (x_of(stretch.middle), name)
            for stretch, name in zip(curves.stretches, names, strict=True)
        ),
        boundaries=tuple(x_of(stretch.start) for stretch in curves.stretches[1:]),
        ticks=tuple(
            (x_of(x), text) for x, text in curves.epoch_ticks(round((right - left) / _TICK))
        ),
        columns=tuple(
            (x_of(it.left), (it.right - it.left) * scale, "\n".join(it.lines))
            for it in curves.columns
        ),
    )


def _panel(
    curves: Curves,
    kind: str,
    lines: Sequence[Line],
    axis: Scale,
    x_of: Callable[[float], float],
    span: tuple[float, float],
) -> Panel:
    top, bottom = span

    def y_of(value: float) -> float:
        return bottom - (bottom - top) * axis.share(value)

    def place(point: Point) -> tuple[float, float]:
        return x_of(point.x), y_of(point.value)

    drawn = []
    for index, line in enumerate(lines):
        places = [[place(point) for point in piece] for piece in line.pieces]
        steps = (
            "L".join(f"{x:.1f} {y:.1f}" for x, y in piece) for piece in places if len(piece) > 1
        )
        shown = [piece for piece in places if curves.dotted or len(piece) == 1]
        drawn.append(
            Drawn(
                name=line.name,
                style=f"rate{tone(index, len(lines))}" if kind == "rate" else line.style,
                path="".join(f"M{step}" for step in steps),
                dots=tuple(spot for piece in shown for spot in piece),
            )
        )
    return Panel(
        kind=kind,
        top=top,
        bottom=bottom,
        ticks=tuple((y_of(value), text) for value, text in axis.ticks),
        lines=tuple(drawn),
        rings=tuple(place(point) for panel, point in curves.kept if panel == kind),
    )
