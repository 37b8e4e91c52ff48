"""The figures of a run as PNG files, for papers and slides; the page draws its own.

Drawn with matplotlib's objects, never its pyplot, which would choose a window system and keep
global state. Names are drawn as they are: a dollar sign starts no formula.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.files import write_bytes
from headstart.matrix import Cell, Matrix, draw_matrix
from headstart.report import Mistake, Report, printable, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = ["confusion_figure", "mistakes_figure"]

_DPI = 150
_COLOURS = {"right": (23, 80, 143), "wrong": (221, 107, 16)}  # as in report.css
_LINE = "#e0e0dc"
_COLUMNS = 6
_TILE, _PICTURE, _CAPTION = 220, 204, 96  # pixels: a mistake's width, its picture, the text below
# Names in scripts that matplotlib's own font lacks are drawn with the first of these that is here.
_FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
)


def confusion_figure(report: Report, path: Path) -> None:
    """Draw the confusion matrix on test: rows true, columns predicted, colour the row's share."""
    from matplotlib.figure import Figure

    matrix = draw_matrix(report)
    n = len(report.classes)
    side = max(2.2, 0.4 * n + 0.6) if matrix.numbered else 6.5
    figure = Figure(figsize=(side + 2.2, side + 1.6), dpi=_DPI, layout="tight")
    axes = figure.add_subplot(aspect="equal", xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5))
    _draw_cells(axes, matrix.cells)
    style: dict[str, Any] = {"parse_math": False, "fontfamily": _families(), "fontsize": 8}
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
    _save(figure, path)


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
    style: dict[str, Any] = {"parse_math": False, "fontfamily": _families(), "fontsize": 6.5}
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
    _save(figure, path)


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


def _families() -> list[str]:
    from matplotlib.font_manager import fontManager

    here = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in _FALLBACKS if name in here)]


def _save(figure: Figure, path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    with warnings.catch_warnings():
        # A script that no font here has is drawn as boxes; the page shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        FigureCanvasAgg(figure)  # becomes the figure's canvas
        figure.savefig(
            file, format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 3}
        )
    write_bytes(path, file.getvalue())
