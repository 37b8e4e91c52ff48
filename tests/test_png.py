"""PNG files of matplotlib's figures."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure
from PIL import Image

from headstart import png
from headstart.errors import ResourceError
from headstart.png import font_families, name_style, save_png


def drawn(text: str) -> Figure:
    figure = Figure(figsize=(1, 1), dpi=100)
    figure.text(0.5, 0.5, text, **name_style())
    return figure


def test_only_fonts_that_are_here_are_asked_for(monkeypatch):
    monkeypatch.setattr(png, "FALLBACKS", ("No Such Font", "DejaVu Serif", "STIXGeneral"))
    assert font_families() == ["DejaVu Sans", "DejaVu Serif", "STIXGeneral"]


def test_a_script_that_the_first_font_lacks_is_drawn_with_the_next(tmp_path, monkeypatch):
    files = []
    for fallbacks in ((), ("STIXGeneral",)):
        monkeypatch.setattr(png, "FALLBACKS", fallbacks)
        files.append(tmp_path / f"{len(fallbacks)}.png")
        save_png(drawn("\u1d8a"), files[-1])
    assert files[0].read_bytes() != files[1].read_bytes()


def test_a_script_that_no_font_has_and_a_dollar_sign_are_no_errors(tmp_path):
    save_png(drawn("\u2df1 $\\frac{1}{2"), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert (image.format, image.size) == ("PNG", (100, 100))


def test_the_same_figure_gives_the_same_bytes(tmp_path):
    for name in ("one.png", "two.png"):
        save_png(drawn("cat"), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"file"):
        save_png(drawn("cat"), tmp_path / "file" / "a.png")
