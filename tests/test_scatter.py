"""The geometry of accuracy against time: to scale, inside, and never one thing over another."""

from __future__ import annotations

import itertools
import math

import pytest

from comparisons import SKILLS, comparison
from headstart.scatter import draw_scatter

CROWD = {f"gradual:epochs={k}/3/4": (0.9 + 0.0005 * k, 100.0 + 0.3 * k, 10) for k in range(12)}


def boxes(drawing):
    """Return the box of every label, as (left, top, right, bottom)."""
    labels = [dot.label for dot in drawing.dots]
    return [(it.x, it.y - 7, it.x + it.width, it.y + 7) for it in labels]


def meet(a, b) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@pytest.mark.parametrize("size", [(1000, 480), (760, 440), (340, 400)])
@pytest.mark.parametrize("skills", [SKILLS, CROWD], ids=["few", "many"])
def test_labels_cover_neither_each_other_nor_a_point_and_stay_inside(skills, size):
    drawing = draw_scatter(comparison(skills, seeds=1, n=200), *size)
    assert len(drawing.dots) == len(skills)
    found = boxes(drawing)
    for left, top, right, bottom in found:
        assert drawing.left <= left < right <= drawing.right + 1e-6
        assert drawing.top <= top < bottom <= drawing.bottom
    assert not [pair for pair in itertools.combinations(found, 2) if meet(*pair)]
    points = [(dot.x - 4, dot.y - 4, dot.x + 4, dot.y + 4) for dot in drawing.dots]
    assert not [pair for pair in itertools.product(found, points) if meet(*pair)]


def test_names_become_numbers_where_they_find_no_place():
    few = draw_scatter(comparison(seeds=1))
    assert not few.numbered
    assert {dot.label.text for dot in few.dots} == set(SKILLS)
    crowd = comparison(CROWD, seeds=1, n=200)
    many = draw_scatter(crowd, 340, 400)
    assert many.numbered
    assert sorted(int(dot.label.text) for dot in many.dots) == list(range(1, 13))
    first = next(dot for dot in many.dots if dot.label.text == "1")
    assert first.chosen
    assert first.title.startswith(f"{crowd.by_val[0].label}:")


def test_time_is_logarithmic_and_accuracy_to_scale():
    drawing = draw_scatter(
        comparison({"a": (0.5, 10.0, 1), "b": (0.7, 100.0, 1), "c": (0.6, 1000.0, 1)})
    )
    a, b, c = (next(dot for dot in drawing.dots if dot.label.text == name) for name in "abc")
    assert b.x - a.x == pytest.approx(c.x - b.x)
    assert a.y > c.y > b.y
    for dot in drawing.dots:
        assert drawing.top <= dot.high <= dot.y <= dot.low <= drawing.bottom
    at = {tick.text: tick.at for tick in drawing.times}
    assert at["1 min"] - at["10 s"] == pytest.approx((b.x - a.x) * math.log10(6))


def test_ticks_can_be_read():
    for seconds in (0.02, 3.0, 7000.0):
        drawing = draw_scatter(comparison({"a": (0.9, seconds, 1), "b": (0.8, 1.5 * seconds, 1)}))
        for ticks in (drawing.times, drawing.shares):
            places = [tick.at for tick in ticks]
            assert len(places) >= 1
            assert all(abs(a - b) > 20 for a, b in itertools.pairwise(places))
        assert 2 <= len(drawing.shares) <= 9


def test_a_single_perfect_group_can_be_drawn():
    drawing = draw_scatter(comparison({"only": (2.0, 3.0, 1)}, seeds=1, n=9))
    (dot,) = drawing.dots
    assert dot.y == dot.high == drawing.top
    assert drawing.left < dot.x < drawing.right


def test_the_best_on_val_is_marked_and_drawn_last():
    drawing = draw_scatter(comparison())
    assert [dot.chosen for dot in drawing.dots] == [False, False, False, True]
    assert drawing.dots[-1].label.text == "probe-then-fine-tune"
