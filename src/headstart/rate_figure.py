"""Range tests as a figure: the loss over the rate, a curve for each group of rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.figures import RATE_COLOURS
from headstart.panels import tone
from headstart.png import font_families, save_png
from headstart.report import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from headstart.training.range_record import RangeTest

__all__ = ["called", "rate_figure"]

_DPI = 150
_LINE, _MUTED = "#e0e0dc", "#5a626b"
_WIDE, _HIGH = 7.6, 3.6  # inches
_LOGARITHMIC = 10.0  # times the lowest smoothed loss: from then on losses stand on a log axis
_ROOM = 1.25  # above the highest smoothed loss that is of interest


def called(group: str) -> str:
    """Return what to call a test of this group."""
    return "all together" if group == "all" else printable(group)


def rate_figure(tests: Sequence[RangeTest], path: Path) -> None:
    """Draw each step's loss as a dot, the smoothed loss as a line, and the suggestion upon it.

    Rates that the phase has are dashed lines. Losses are on a logarithmic axis where they span
    more than a factor of ten; dots that lie far above the curves are left out.

    Args:
        tests: Of all rates together, then of groups.
        path: The PNG file.

    Raises:
        ResourceError: The file can't be written.
    """
    from matplotlib.figure import Figure

    drawn = [test for test in tests if test.rates]
    figure = Figure(figsize=(_WIDE, _HIGH), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot(xscale="log")
    for index, test in reversed(list(enumerate(drawn))):  # the first lies on top of the others
        _draw_test(axes, test, RATE_COLOURS[tone(index, len(drawn))])
    if drawn:
        _draw_scales(axes, drawn)
    for planned in sorted({test.planned for test in drawn}):
        axes.axvline(planned, color=_MUTED, linewidth=0.9, linestyle=(0, (3, 3)), zorder=1)
    axes.set_xlabel("learning rate", fontsize=9)
    axes.set_ylabel("loss on train", fontsize=9)
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, which="both")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_MUTED)
    _draw_legend(axes)
    save_png(figure, path)


def _draw_test(axes: Axes, test: RangeTest, colour: str) -> None:
    dots: dict[str, Any] = {"marker": "o", "markersize": 2.2, "linestyle": "none", "alpha": 0.3}
    axes.plot(test.rates, test.losses, color=colour, markeredgewidth=0, **dots)
    rate = test.suggestion
    said = "none" if rate is None else f"{rate:.1e}"
    label = f"{called(test.group)}: {said}"
    axes.plot(test.rates, test.smoothed, color=colour, linewidth=1.6, label=label)
    if rate is not None:
        at = min(range(len(test.rates)), key=lambda step: abs(math.log(test.rates[step] / rate)))
        ring: dict[str, Any] = {"marker": "o", "markersize": 7, "markeredgecolor": "black"}
        axes.plot([rate], [test.smoothed[at]], color=colour, linestyle="none", zorder=5, **ring)


def _draw_scales(axes: Axes, tests: Sequence[RangeTest]) -> None:
    """Choose what of the losses is shown: the curves up to their start, and a little above it."""
    start = max(test.smoothed[0] for test in tests)
    lowest = min(min(test.smoothed) for test in tests)
    if start > _LOGARITHMIC * lowest:
        axes.set_yscale("log")
        axes.set_ylim(lowest / 2, start * 2)
    else:
        dots = sorted(loss for test in tests for loss in test.before)
        usual = dots[round(0.98 * (len(dots) - 1))]
        axes.set_ylim(0, _ROOM * max(start, usual))
    rates = [rate for test in tests for rate in (test.rates[0], test.rates[-1], test.planned)]
    axes.set_xlim(min(rates) / 1.2, max(rates) * 1.2)


def _draw_legend(axes: Axes) -> None:
    """Name the curves beside the plot, the first on top, and what the other marks are."""
    from matplotlib.lines import Line2D

    handles, names = axes.get_legend_handles_labels()
    handles, names = handles[::-1], names[::-1]
    ring: dict[str, Any] = {"marker": "o", "markersize": 6, "markeredgecolor": "black"}
    handles.append(Line2D([], [], color="white", linestyle="none", **ring))
    handles.append(Line2D([], [], color=_MUTED, linewidth=0.9, linestyle=(0, (3, 3))))
    axes.legend(
        handles,
        [*names, "suggested", "planned"],
        loc="upper left",
        bbox_to_anchor=(1.0, 1.02),
        frameon=False,
        handlelength=1.6,
        labelspacing=0.4,
        prop={"family": font_families(), "size": 7.5},
    )
