from __future__ import annotations

import numpy as np
import pytest

from headstart.matrix import NUMBERED_UP_TO, confused_pairs, draw_matrix
from reports import report


def classes(n):
    return [f"class {c}" for c in range(n)]


@pytest.mark.parametrize("n", [2, 3, 6, 12, 25, 26, 120, 1000])
def test_every_image_is_in_exactly_one_cell(n):
    made = report(classes(n), n=300)
    matrix = draw_matrix(made)
    assert sum(cell.count for cell in matrix.cells) == 300
    assert all(made.confusion[c.row][c.column] == c.count for c in matrix.cells)
    assert all(0 < cell.depth <= 1 for cell in matrix.cells)
    assert matrix.numbered == (n <= NUMBERED_UP_TO)
    assert len(matrix.labels) == (n if matrix.numbered else 0)
    assert matrix.numbered or 2 <= len(matrix.ticks) <= 12


def test_the_shares_of_a_row_sum_to_one():
    matrix = draw_matrix(report(classes(6)))
    rows = np.zeros(6)
    for cell in matrix.cells:
        rows[cell.row] += cell.share
    assert np.allclose(rows, 1)


def test_a_larger_share_is_drawn_deeper_and_the_diagonal_is_right():
    cells = sorted(draw_matrix(report(classes(4))).cells, key=lambda cell: cell.share)
    assert [c.depth for c in cells] == sorted(c.depth for c in cells)
    assert all((c.kind == "right") == (c.row == c.column) for c in cells)


def test_long_names_stand_slanted_and_are_cut():
    level, slanted = draw_matrix(report()), draw_matrix(report(("ok", "n" * 60)))
    assert not level.slanted
    assert slanted.slanted
    assert slanted.labels == ("ok", "n" * 21 + "…")


def test_the_most_confused_pairs_come_first():
    made = report(classes(5), confusion=((9, 1, 0, 0, 0), (4, 1, 0, 0, 0), *((0,) * 5,) * 3))
    pairs = confused_pairs(made, 5)
    assert [(p.label, p.predicted, p.count) for p in pairs] == [
        ("class 1", "class 0", 4),
        ("class 0", "class 1", 1),
    ]
    assert pairs[0].share == 0.8
    assert len(confused_pairs(made, 1)) == 1
