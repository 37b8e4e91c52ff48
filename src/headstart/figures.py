"""The figures of a run as PNG files, for papers and slides; the page draws its own.

Drawn with matplotlib's objects, never its pyplot, which would choose a window system and keep
global state. Names are drawn as they are: a dollar sign starts no formula.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.curves import Curves, Line, Point, read_curves
from headstart.matrix import Cell, Matrix, draw_matrix
from headstart.panels import stretch_labels, thinned, tone
from headstart.png import font_families, name_style, save_png
from headstart.report import Mistake, Report, printable, shortened
from headstart.scales import Scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

__all__ = ["RATE_COLOURS", "confusion_figure", "curves_figure", "mistakes_figure"]

_DPI = 150
_COLOURS = {"right": (23, 80, 143), "wrong": (221, 107, 16)}  # as in report.css
_LINE, _MUTED = "#e0e0dc", "#5a626b"
_STYLES = {"train": "#17508f", "val": "#b5540c", "solved": "#b5540c"}
RATE_COLOURS = (
    *("#17508f", "#147a9c", "#1a8a6c", "#5a8a22"),
    *("#987a0a", "#c0601a", "#b8423a", "#8e3a7a"),
)
_TITLES = {"loss": "loss", "accuracy": "val accuracy", "rate": "learning rate"}
_WIDE, _HIGH = 7.6, 2.0  # inches: a plot with its margins
_COLUMNS = 6
_TILE, _PICTURE, _CAPTION = 220, 204, 96  # pixels: a mistake's width, its picture, the text below


def confusion_figure(report: Report, path: Path) -> None:
    """Draw the confusion matrix on test: rows true, columns predicted, colour the row's share."""
    from matplotlib.figure import Figure

    matrix = draw_matrix(report)
    n = len(report.classes)
    side = max(2.2, 0.4 * n + 0.6) if matrix.numbered else 6.5
    figure = Figure(figsize=(side + 2.2, side + 1.6), dpi=_DPI, layout="tight")
    axes = figure.add_subplot(aspect="equal", xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    _draw_cells(axes, matrix.cells)
    style: dict[str, Any] = {**name_style(), "fontsize": 8}
    if matrix.numbered:
        between = np.arange(n - 1) + 0.5
        axes.hlines(between, -0.5, n - 0.5, color=_LINE, linewidth=0.6, zorder=0)
        axes.vlines(between, -0.5, n - 0.5, color=_LINE, linewidth=0.6, zorder=0)
        for cell in matrix.cells:
            colour = "white" if cell.ink == "deep" else "black"
            place: dict[str, Any] = {"ha": "center", "va": "center", "color": colour, "fontsize": 8}
            axes.text(cell.column, cell.row, str(cell.count), **place)
        labels = [printable(label) for label in matrix.labels]
        axes.set_xticks(range(n), labels, **style, **_slant(matrix))
        axes.set_yticks(range(n), labels, **style)
    else:
        numbers = [str(tick + 1) for tick in matrix.ticks]
        axes.set_xticks(matrix.ticks, numbers, **style)
        axes.set_yticks(matrix.ticks, numbers, **style)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.tick_params(length=0)
    axes.spines[:].set_color(_LINE)
    save_png(figure, path)


def mistakes_figure(mistakes: Sequence[Mistake], path: Path) -> None:
    """Draw the most confident mistakes, each with its true and its predicted class."""
    from matplotlib.figure import Figure
    from PIL import Image

    rows = max(1, -(-len(mistakes) // _COLUMNS))
    width, height = _COLUMNS * _TILE, rows * (_TILE + _CAPTION)
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    if not mistakes:
        figure.text(0.5, 0.5, "No mistake on test", ha="center", va="center")
    sheet = Image.new("RGB", (width, height), "white")
    style: dict[str, Any] = {**name_style(), "fontsize": 6.5}
    for index, mistake in enumerate(mistakes):
        row, column = divmod(index, _COLUMNS)
        left = column * _TILE + (_TILE - _PICTURE) // 2
        bottom = row * (_TILE + _CAPTION) + _TILE
        if mistake.thumbnail is not None:
            _paste(sheet, mistake.thumbnail, left, bottom)
        lines = (
            (f"is {shortened(mistake.label, 22)}", "black"),
            (f"said {shortened(mistake.predicted, 20)}", "#9c4307"),
            (f"{100 * mistake.probability:.1f} % sure", "black"),
            (shortened(mistake.name, 24), "#5a626b"),
        )
        for number, (line, colour) in enumerate(lines):
            x, y = left / width, 1 - (bottom + 4 + 20 * number) / height
            figure.text(x, y, printable(line), va="top", color=colour, **style)
    figure.figimage(np.asarray(sheet), zorder=-1)
    save_png(figure, path)


def curves_figure(report: Report, path: Path) -> bool:
    """Draw loss, val accuracy and rates over the epochs of all phases, one below the other.

    Args:
        report: The run.
        path: The PNG file.

    Returns:
        Whether there was anything to draw; where no phase trained, no file is written.
    """
    from matplotlib.figure import Figure

    curves = read_curves(report.training)
    if curves is None:
        return False
    panels = curves.panels()
    figure = Figure(figsize=(_WIDE, _HIGH * len(panels) + 0.5), dpi=_DPI, layout="constrained")
    plots = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for axes, (kind, lines, axis) in zip(plots, panels, strict=True):
        _draw_lines(axes, curves, kind, lines)
        _draw_scale(axes, axis, _TITLES[kind])
        for stretch in curves.stretches[1:]:
            axes.axvline(stretch.start, color=_MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
        _draw_legend(axes, len(lines))
    _draw_epochs(plots[0], plots[-1], curves)
    figure.align_ylabels()
    save_png(figure, path)
    return True


def _draw_lines(axes: Axes, curves: Curves, kind: str, lines: Sequence[Line]) -> None:
    for index, line in enumerate(lines):
        style: dict[str, Any] = {
            "color": _colour(kind, line, tone(index, len(lines))),
            "markersize": 4.4 if line.style == "solved" else 3.2,
        }
        for number, piece in enumerate(line.pieces):
            name = printable(line.name) if number == 0 else None
            marker = _marker(line, piece, curves.dotted)
            axes.plot(*_xy(piece), linewidth=1.4, marker=marker, clip_on=False, label=name, **style)
    rings = [point for panel, point in curves.kept if panel == kind]
    if rings:
        ring: dict[str, Any] = {"marker": "o", "markersize": 8, "markerfacecolor": "none"}
        ring |= {"color": "black", "linestyle": "none", "zorder": 5, "clip_on": False}
        axes.plot(*_xy(rings), label="kept" if kind == "loss" else None, **ring)


def _colour(kind: str, line: Line, number: int) -> str:
    return RATE_COLOURS[number] if kind == "rate" else _STYLES[line.style]


def _marker(line: Line, piece: Sequence[Point], dotted: bool) -> str | None:
    if line.style == "solved":
        return "D"
    return "o" if dotted or len(piece) == 1 else None


def _xy(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [point.x for point in points], [point.value for point in points]


def _draw_scale(axes: Axes, axis: Scale, title: str) -> None:
    if axis.logarithmic:
        axes.set_yscale("log")
    axes.set_yticks([value for value, _ in axis.ticks], [text for _, text in axis.ticks])
    axes.minorticks_off()
    axes.set_ylim(axis.low, axis.high)
    axes.margins(y=0.06)
    axes.set_ylabel(title, fontsize=9)
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)


def _draw_legend(axes: Axes, n_lines: int) -> None:
    """Name the lines beside the plot: at most eight, and the ring behind them."""
    handles, names = axes.get_legend_handles_labels()
    chosen = [*thinned(n_lines), *range(n_lines, len(names))]
    style: dict[str, Any] = {"frameon": False, "handlelength": 1.4}
    style["prop"] = {"family": font_families(), "size": 7.5}
    axes.legend(
        [handles[index] for index in chosen],
        [names[index] for index in chosen],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.02),
        labelspacing=0.35,
        **style,
    )


def _draw_epochs(first: Axes, last: Axes, curves: Curves) -> None:
    """Write the phases above the first plot and the epochs below the last."""
    pixels = 96 * 0.68 * _WIDE  # of the plot, beside its legend
    names = stretch_labels(curves.stretches, pixels / (curves.end - curves.start))
    for stretch, name in zip(curves.stretches, names, strict=True):
        place: dict[str, Any] = {"transform": first.get_xaxis_transform(), "ha": "center"}
        first.text(stretch.middle, 1.05, name, fontsize=8, color=_MUTED, **place)
    pad = 0.015 * (curves.end - curves.start)
    last.set_xlim(curves.start - pad, curves.end + pad)
    last.set_xticks(
        *zip(*curves.epoch_ticks(10), strict=True)
    ) if curves.epochs else last.set_xticks([])
    last.set_xlabel("epoch", fontsize=9)


def _draw_cells(axes: Axes, cells: Sequence[Cell]) -> None:
    from matplotlib.collections import PolyCollection

    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    squares = [corners + np.array([cell.column, cell.row]) for cell in cells]
    colours = [(*np.array(_COLOURS[cell.kind]) / 255, cell.depth) for cell in cells]
    axes.add_collection(PolyCollection(squares, facecolors=colours, linewidths=0))


def _slant(matrix: Matrix) -> dict[str, Any]:
    if not matrix.slanted:
        return {}
    return {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}


def _paste(sheet: Image, jpeg: bytes, left: int, bottom: int) -> None:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(jpeg)) as image:
        picture = ImageOps.contain(image.convert("RGB"), (_PICTURE, _PICTURE))
    sheet.paste(picture, (left + (_PICTURE - picture.width) // 2, bottom - picture.height))
