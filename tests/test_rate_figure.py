"""Range tests as a figure: curves, marks, scales."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from headstart.figures import RATE_COLOURS
from headstart.rate_figure import called, rate_figure
from headstart.training.range_record import RangeTest


def made(group: str = "all", start: float = 0.6, lowest: float = 0.4, n: int = 40) -> RangeTest:
    rates = tuple(np.geomspace(1e-6, 1.0, n).tolist())
    smoothed = tuple(np.geomspace(start, lowest, n).tolist())
    return RangeTest(
        group=group,
        planned=1e-3,
        rates=rates,
        losses=smoothed,
        before=(start,) * n,
        guessing=0.69,
        smoothed=smoothed,
        suggestion=3e-4,
        highest_good_rate=1e-2,
        reason="",
        rules={},
        stopped=None,
        seconds=1.0,
    )


def colours(path) -> set[tuple[int, int, int]]:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return {colour for _, colour in image.convert("RGB").getcolors(1 << 24)}


def rgb(text: str) -> tuple[int, ...]:
    return tuple(int(text[at : at + 2], 16) for at in (1, 3, 5))


@pytest.mark.parametrize("n", [1, 3, 10])
def test_each_group_has_a_curve_of_its_own_colour(tmp_path, n):
    tests = [replace(made(f"stage:{k}"), planned=1e-3 / (k + 1)) for k in range(n)]
    rate_figure(tests, tmp_path / "figures" / "rates.png")
    found = colours(tmp_path / "figures" / "rates.png")
    assert rgb(RATE_COLOURS[0]) in found
    assert len(found & {rgb(colour) for colour in RATE_COLOURS}) == min(n, len(RATE_COLOURS))


@pytest.mark.parametrize("start", [0.6, 200.0])
def test_a_curve_of_any_height_is_drawn(tmp_path, start):
    rate_figure([made(start=start)], tmp_path / "rates.png")
    assert rgb(RATE_COLOURS[0]) in colours(tmp_path / "rates.png")


def test_the_suggestion_is_marked(tmp_path):
    rate_figure([made()], tmp_path / "with.png")
    rate_figure([replace(made(), suggestion=None)], tmp_path / "without.png")
    drawn = [
        np.asarray(Image.open(tmp_path / f"{n}.png").convert("L")) for n in ("with", "without")
    ]
    black = [int((pixels[:, : pixels.shape[1] // 2] < 20).sum()) for pixels in drawn]
    assert black[0] > black[1] + 20


def test_a_test_that_took_no_step_is_left_out(tmp_path):
    empty = replace(made(), rates=(), losses=(), before=(), smoothed=(), suggestion=None)
    rate_figure([empty], tmp_path / "none.png")
    assert rgb(RATE_COLOURS[0]) not in colours(tmp_path / "none.png")
    rate_figure([empty, made("head")], tmp_path / "one.png")
    assert rgb(RATE_COLOURS[0]) in colours(tmp_path / "one.png")


def test_the_same_tests_give_the_same_bytes(tmp_path):
    for name in ("one.png", "two.png"):
        rate_figure([made(), made("head")], tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_what_a_group_is_called():
    assert called("all") == "all together"
    assert called("stage:-2..-1") == "stage:-2..-1"
