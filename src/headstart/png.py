"""Figures as PNG files: fonts for names in any script, and the bytes on disk."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FALLBACKS", "font_families", "name_style", "save_png"]

# Names in scripts that matplotlib's own font lacks are drawn with the first of these that is here.
FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Arial Unicode MS",
    "Noto Sans Arabic",
    "Noto Sans Devanagari",
)


def font_families() -> list[str]:
    """Return matplotlib's own font, then those of ``FALLBACKS`` that this machine has."""
    from matplotlib.font_manager import fontManager

    here = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in here)]


def name_style() -> dict[str, Any]:
    """Return how matplotlib draws a name as it is: a dollar sign starts no formula."""
    return {"parse_math": False, "fontfamily": font_families()}


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure; the same figure gives the same bytes.

    Raises:
        ResourceError: The file can't be written.
    """
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
