"""The curves laid out: everything within its plot, names where there is room for them."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from headstart.curves import read_curves
from headstart.panels import TONES, Drawing, draw_curves, stretch_labels, thinned, tone
from headstart.report import text_width
from reports import ladder, solved, trained

STAGES = tuple(f"blocks.{number}" for number in range(8))
COURSES = {
    "one epoch": (trained(1, 1),),
    "no val": (trained(1, 5, val=False),),
    "last blocks": (solved(), trained(2, 10, best=4)),
    "blockwise": (solved(), *(trained(number, 1) for number in range(2, 10))),
    "300 epochs": (solved(), trained(2, 300, groups=STAGES)),
    "long and short": (trained(1, 200), trained(2, 1), trained(3, 1)),
}


def drawn(name: str, width: float) -> Drawing:
    curves = read_curves(COURSES[name])
    assert curves is not None
    return draw_curves(curves, width)


@pytest.mark.parametrize("width", [340.0, 960.0])
@pytest.mark.parametrize("name", COURSES)
def test_everything_is_within_its_plot(name, width):
    drawing = drawn(name, width)
    for panel in drawing.panels:
        places = [*panel.rings, *(dot for line in panel.lines for dot in line.dots)]
        numbers = [float(n) for line in panel.lines for n in re.findall("[0-9.]+", line.path)]
        places += zip(numbers[::2], numbers[1::2], strict=True)
        assert places
        for x, y in places:
            assert drawing.left < x < drawing.right
            assert panel.top - 0.1 <= y <= panel.bottom + 0.1
    bottoms = [panel.bottom for panel in drawing.panels]
    assert bottoms == sorted(bottoms)
    assert bottoms[-1] < drawing.height


@pytest.mark.parametrize("width", [340.0, 960.0])
@pytest.mark.parametrize("name", COURSES)
def test_names_and_numbers_do_not_run_into_each_other(name, width):
    drawing = drawn(name, width)
    for words in (drawing.labels, drawing.ticks):
        spans = [(x - 3.1 * text_width(t), x + 3.1 * text_width(t)) for x, t in words if t]
        assert all(a[1] < b[0] for a, b in pairwise(spans))
    assert drawing.ticks


def test_phases_are_named_as_fully_as_all_have_room():
    stretches = read_curves(COURSES["last blocks"]).stretches
    assert stretch_labels(stretches, 200) == ["phase 1: solved", "phase 2: trained"]
    assert stretch_labels(stretches, 50) == ["phase 1", "phase 2"]
    assert stretch_labels(stretches, 20) == ["1", "2"]
    assert stretch_labels(stretches, 2) == ["", "2"]
    stretches = read_curves(ladder().training).stretches
    assert stretch_labels(stretches, 200)[-1] == "phase 3: not kept"
    assert stretch_labels(stretches, 56) == ["phase 1", "phase 2", "phase 3: not kept"]


def test_few_epochs_have_dots_and_many_have_not():
    assert sum(len(line.dots) for line in drawn("last blocks", 960).panels[0].lines) == 10 + 11
    loss, accuracy, _ = drawn("300 epochs", 960).panels
    assert not any(line.dots for line in loss.lines)
    assert [len(line.dots) for line in accuracy.lines] == [0, 1]


def test_many_groups_are_named_in_part():
    assert thinned(3) == [0, 1, 2]
    assert thinned(8) == list(range(8))
    assert thinned(17) == [0, 2, 5, 7, 9, 11, 14, 16]
    assert thinned(100, 2) == [0, 99]


@pytest.mark.parametrize("n", [1, 2, 3, 8, 40])
def test_groups_have_colours_from_the_first_to_the_last(n):
    tones = [tone(index, n) for index in range(n)]
    assert tones == sorted(tones)
    assert tones[0] == 0
    assert tones[-1] == (TONES - 1 if n > 1 else 0)
    assert len(set(tones)) == min(n, TONES)
