"""The page of a comparison, comparison.html, and its figure as a PNG file.

Like a run's page it needs nothing but a browser: no script, no request. Names are shown as they
are and never interpreted.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.comparison import Comparison
from headstart.markup import render
from headstart.png import name_style, save_png
from headstart.report import printable
from headstart.scatter import Dot, Scatter, draw_scatter

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["accuracy_time_figure", "render_comparison"]

_NARROW, _LOW = 340, 400  # pixels: the drawing on a phone
_FIGURE = (760, 440)
_KEY_LINE = 20  # pixels: a line of the key, where numbers stand for names
_DPI = 200
_SCREEN = 96  # pixels of the drawing to an inch
_RIGHT, _WRONG, _MUTED, _LINE = "#17508f", "#9c4307", "#5a626b", "#e0e0dc"  # as in report.css


def render_comparison(comparison: Comparison) -> str:
    """Return the page as HTML that can be encoded as UTF-8."""
    lows = [group.accuracy.low or 0.0 for group in comparison.summary]
    least, most = _reach(comparison)
    wide, narrow = draw_scatter(comparison), draw_scatter(comparison, _NARROW, _LOW)
    return render(
        "comparison.html.j2",
        "comparison.json",
        {
            "parameters": _parameters,
            "points": lambda value: f"{100 * value:.1f}".replace("-", "−"),
        },
        it=comparison,
        wide=wide,
        narrow=narrow,
        numbered=wide.numbered or narrow.numbered,
        floor=int(10 * min(lows)) / 10,
        least=least,
        most=most,
        failed=[row for row in comparison.rows if row.failed is not None],
        n_test=comparison.summary[0].accuracy.n,
    )


def accuracy_time_figure(comparison: Comparison, path: Path) -> None:
    """Draw accuracy on test against time as a PNG file."""
    from matplotlib.figure import Figure

    drawing = draw_scatter(comparison, *_FIGURE)
    names = [group.label for group in comparison.by_val] if drawing.numbered else []
    naming = name_style()
    height = drawing.height + _KEY_LINE * len(names)
    figure = Figure(figsize=(drawing.width / _SCREEN, height / _SCREEN), dpi=_DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(height, 0), frame_on=False)
    axes.set_axis_off()
    _draw_grid(axes, drawing)
    for dot in drawing.dots:
        _draw_dot(axes, dot, naming)
    for number, name in enumerate(names, start=1):
        place = (drawing.left, drawing.height + _KEY_LINE * (number - 0.5))
        axes.text(*place, f"{number}  {printable(name)}", va="center", fontsize=8.5, **naming)
    save_png(figure, path)


def _draw_grid(axes: Axes, drawing: Scatter) -> None:
    text: dict[str, Any] = {"color": _MUTED, "fontsize": 8.5}
    for tick in drawing.shares:
        axes.plot([drawing.left, drawing.right], [tick.at] * 2, color=_LINE, linewidth=0.8)
        axes.text(drawing.left - 8, tick.at, tick.text, ha="right", va="center", **text)
    for tick in drawing.times:
        axes.plot([tick.at] * 2, [drawing.bottom, drawing.bottom + 5], color=_MUTED, linewidth=0.8)
        axes.text(tick.at, drawing.bottom + 9, tick.text, ha="center", va="top", **text)
    axes.plot([drawing.left, drawing.right], [drawing.bottom] * 2, color=_MUTED, linewidth=0.8)
    place = (drawing.right, drawing.height - 4)
    axes.text(*place, "mean time of a run", ha="right", va="bottom", **text)
    axes.text(4, drawing.height - 4, "accuracy on test, 95 % interval", va="bottom", **text)


def _draw_dot(axes: Axes, dot: Dot, naming: Mapping[str, Any]) -> None:
    colour = _WRONG if dot.chosen else _RIGHT
    axes.plot([dot.x, dot.x], [dot.high, dot.low], color=colour, linewidth=1.2, alpha=0.55)
    for end in (dot.high, dot.low):
        axes.plot([dot.x - 4, dot.x + 4], [end, end], color=colour, linewidth=1.2, alpha=0.55)
    axes.plot([dot.x], [dot.y], "o", color=colour, markersize=6, markeredgecolor="white")
    label = dot.label
    if label.lead is not None:
        axes.plot([dot.x, label.lead[0]], [dot.y, label.lead[1]], color=_MUTED, linewidth=0.5)
    weight = "bold" if dot.chosen else "normal"
    style: dict[str, Any] = {"va": "center_baseline", "fontsize": 8.5, "fontweight": weight}
    axes.text(label.x, label.y, label.text, **style, **naming)


def _reach(comparison: Comparison) -> tuple[float, float]:
    """Return the ends of the scale on which differences are drawn; zero is on it."""
    lows = [pair.low for pair in comparison.pairs]
    highs = [pair.high for pair in comparison.pairs]
    return min([-0.01, *lows]), max([0.01, *highs])


def _parameters(value: int | None) -> str:
    """Return a number of parameters in short: ``3,843``, ``120 k``, ``3.4 M``."""
    if value is None:
        return "–"
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= 9.995 * size or (unit == "M" and value >= 0.9995 * size):
            return f"{value / size:.3g}\N{NO-BREAK SPACE}{unit}"
    return f"{value:,}"
