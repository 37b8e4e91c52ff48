"""The page of a comparison and its figure."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from comparisons import SKILLS, comparison
from headstart import png
from headstart.comparison_page import accuracy_time_figure, render_comparison
from pages import HOSTILE, Page


def test_the_page_says_what_was_found():
    made = comparison()
    text = Page(render_comparison(made)).words
    assert "4 ways to classify photos" in text
    assert f"{100 * made.best_on_val.accuracy.value:.1f}" in text
    assert "probe-then-fine-tune has the highest mean accuracy on val" in text
    for pair in made.pairs:
        assert pair.verdict in text
    for group in made.summary:
        assert f"{100 * group.accuracy.low:.1f} % to" in text
    assert "3,843 of 3.4 M" in text
    assert "paired bootstrap over images and seeds" in text
    assert "headstart compare photos" in text


def test_the_page_needs_nothing_but_itself():
    page = Page(render_comparison(comparison()))
    assert page.requests == []
    assert "script" not in page.tags


def test_one_seed_is_told_as_one_and_mcnemar_named():
    text = Page(render_comparison(comparison(seeds=1))).words
    assert "1 seed each" in text
    assert "McNemar's exact test" in text


def test_failed_runs_are_told_with_their_reason():
    html = render_comparison(comparison(failed=["scratch"]))
    assert "Runs that failed" in html
    assert html.count("The loss is not finite.") == 3
    assert "Runs that failed" not in render_comparison(comparison())


@pytest.mark.parametrize("hostile", HOSTILE)
def test_names_are_never_interpreted(hostile):
    def page(name: str) -> Page:
        return Page(render_comparison(comparison({name: (0.5, 1.0, 1), "b": (0.7, 2.0, 5)})))

    shown = page(hostile)
    assert set(shown.tags) <= set(page("a").tags)
    assert shown.handlers == []
    assert "1337" not in shown.text
    assert hostile.replace("\udcff\ud800", "\\xff\ufffd") in shown.text


def test_without_val_images_nothing_is_chosen():
    made = comparison({"only": (0.5, 1.0, 1)}, seeds=1, best_on_val=None)
    text = Page(render_comparison(made)).words
    assert "There are no val images to choose on." in text
    assert "What can be told apart" not in text


def test_the_numbers_in_the_drawing_are_those_of_the_table():
    crowd = {f"gradual:epochs={k}/3/4": (0.9 + 0.0005 * k, 100.0 + 0.3 * k, 10) for k in range(12)}
    html = render_comparison(comparison(crowd, seeds=1))
    assert "Numbers are those of the table" in html
    assert '<span class="muted">12</span>' in html
    assert "Numbers are those" not in render_comparison(comparison(seeds=1))


@pytest.mark.parametrize("crowded", [False, True])
def test_the_figure_is_a_picture_with_points_in_both_colours(crowded, tmp_path):
    skills = (
        {f"$gradual_{k}, a name that is far too long": (0.9, 10.0 * 2**k, 10) for k in range(8)}
        if crowded
        else SKILLS
    )
    accuracy_time_figure(comparison(skills, seeds=1), tmp_path / "figures" / "a.png")
    with Image.open(tmp_path / "figures" / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
        assert image.width > 1500
        assert (image.height > 930) == crowded  # a line of the key for each
    for colour in ((0x17, 0x50, 0x8F), (0x9C, 0x43, 0x07)):
        assert np.sum(np.abs(pixels - colour).max(axis=1) < 8) > 50


@pytest.mark.parametrize("skills", [{"$ⷱ": (0.9, 1.0, 1)}, {"ⷱ": (0.9, 1.0, 1)}])
def test_a_name_that_no_font_has_is_no_error(skills, tmp_path):
    accuracy_time_figure(comparison(skills, seeds=1), tmp_path / "a.png")
    assert (tmp_path / "a.png").is_file()


def test_names_are_drawn_in_the_fonts_of_every_figure(tmp_path, monkeypatch):
    drawn = []
    for fallbacks in ((), ("STIXGeneral",)):
        monkeypatch.setattr(png, "FALLBACKS", fallbacks)
        skills = {"\u1d8a": (0.6, 1.0, 1), "b": (0.9, 5.0, 1)}  # a letter DejaVu Sans lacks
        accuracy_time_figure(comparison(skills, seeds=1), tmp_path / "a.png")
        drawn.append((tmp_path / "a.png").read_bytes())
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    ("count", "text"), [(3_843, "3,843"), (120_400, "120"), (999_900, "1"), (25_600_000, "25.6")]
)
def test_parameters_are_told_in_short(count, text):
    html = render_comparison(comparison({"a": (0.5, 1.0, count)}, seeds=1))
    unit = "" if count < 9995 else "\N{NO-BREAK SPACE}" + ("M" if count > 999_000 else "k")
    assert f">{text}{unit} of " in html
