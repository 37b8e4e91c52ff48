from __future__ import annotations

import subprocess
import sys

import pytest
from PIL import Image

from headstart.figures import confusion_figure, curves_figure, mistakes_figure
from reports import mistake, report, size_of, solved, trained, training

AWKWARD = ("$\\frac{1}{2", "<script>", "裂纹 خلية", "a\udcff\ud800", "n" * 60, "\t\n")


def colours(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}


@pytest.mark.parametrize("n", [2, 6, 120])
def test_the_confusion_figure_is_drawn(tmp_path, n):
    made = report([f"class {c}" for c in range(n)], n=400)
    confusion_figure(made, tmp_path / "figures" / "confusion.png")
    assert len(colours(tmp_path / "figures" / "confusion.png")) > 20


def test_names_are_drawn_as_they_are(tmp_path):
    confusion_figure(report(AWKWARD), tmp_path / "confusion.png")
    mistakes_figure([mistake(name, name, name) for name in AWKWARD], tmp_path / "mistakes.png")
    assert colours(tmp_path / "confusion.png")
    assert colours(tmp_path / "mistakes.png")


def test_the_mistakes_are_on_their_figure(tmp_path):
    mistakes_figure([], tmp_path / "none.png")
    mistakes_figure([mistake()] * 7, tmp_path / "seven.png")
    with Image.open(tmp_path / "none.png") as none, Image.open(tmp_path / "seven.png") as seven:
        assert seven.width == none.width
        assert seven.height == 2 * none.height
    assert len(colours(tmp_path / "seven.png")) > 100


def test_a_confusion_without_images_is_drawn(tmp_path):
    confusion_figure(report(confusion=((0, 0), (0, 0))), tmp_path / "confusion.png")
    assert colours(tmp_path / "confusion.png")


def test_the_same_report_gives_the_same_bytes(tmp_path):
    for name in ("one.png", "two.png"):
        confusion_figure(report(), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_pyplot_is_never_imported(tmp_path, monkeypatch):
    # Not by drawing, and not by our modules: others in this process may have it.
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    confusion_figure(report(), tmp_path / "confusion.png")
    assert "matplotlib.pyplot" not in sys.modules
    ours = "import headstart.figures, headstart.curves, headstart.scatter, headstart.png"
    asked = f"{ours}, sys; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


BLUE, ORANGE, BLACK = (23, 80, 143), (181, 84, 12), (0, 0, 0)
STAGES = tuple(f"blocks.{number}" for number in range(8))
COURSES = {
    "one epoch": (trained(1, 1),),
    "no val": (trained(1, 4, val=False),),
    "blockwise": (solved(), *(trained(number, 1) for number in range(2, 10))),
    "300 epochs": (solved(), trained(2, 300, groups=STAGES)),
    "17 groups": (trained(1, 3, groups=tuple(f"layer.{number}" for number in range(17))),),
}


@pytest.mark.parametrize("name", COURSES)
def test_the_curves_are_drawn(tmp_path, name):
    assert curves_figure(training(*COURSES[name]), tmp_path / "curves.png")
    found = colours(tmp_path / "curves.png")
    assert {BLUE, BLACK} <= found
    assert (ORANGE in found) == (name != "no val")


def test_a_run_without_val_has_one_plot_less(tmp_path):
    for name, val in (("with.png", True), ("without.png", False)):
        curves_figure(training(trained(1, 4, val=val)), tmp_path / name)
    sizes = [size_of((tmp_path / name).read_bytes()) for name in ("with.png", "without.png")]
    assert sizes[0][0] == sizes[1][0]
    assert sizes[0][1] - sizes[1][1] == 300


def test_a_run_that_only_solves_has_no_curves(tmp_path):
    assert not curves_figure(report(), tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_the_curves_of_awkward_names_are_drawn_as_they_are(tmp_path):
    assert curves_figure(training(trained(1, 2, groups=AWKWARD)), tmp_path / "curves.png")
