"""Scales hold what is drawn, between round numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.scales import Scale, loss_scale, rate_scale, round_step, share_scale

losses = st.lists(st.floats(0, 1e6), min_size=1, max_size=9)
shares = st.lists(st.floats(0, 1), min_size=1, max_size=9)
rates = st.lists(st.floats(1e-12, 10), min_size=1, max_size=9)


def holds(scale: Scale, values: list[float]) -> bool:
    places = [scale.share(value) for value in (*values, *(value for value, _ in scale.ticks))]
    return all(-1e-6 <= place <= 1 + 1e-6 for place in places)


@given(losses)
def test_losses_stand_on_a_scale_from_nothing(values):
    scale = loss_scale(values)
    assert scale.low == 0
    assert holds(scale, values)
    assert 2 <= len(scale.ticks) <= 7


@given(shares)
def test_shares_stand_on_a_scale_that_makes_no_mountain_of_a_percent(values):
    scale = share_scale(values)
    assert holds(scale, values)
    assert 0 <= scale.low < scale.high <= 1 + 1e-9
    assert scale.high - scale.low >= 0.04 - 1e-9
    assert 3 <= len(scale.ticks) <= 7


@given(rates)
def test_rates_stand_between_powers_of_ten(values):
    scale = rate_scale(values)
    assert scale.logarithmic
    assert holds(scale, values)
    assert 2 <= len(scale.ticks) <= 6
    assert len({text for _, text in scale.ticks}) == len(scale.ticks)


@pytest.mark.parametrize(
    ("scale", "texts"),
    [
        (loss_scale([0.55]), "0 0.2 0.4 0.6"),
        (loss_scale([0.0]), "0 0.2 0.4 0.6 0.8 1"),
        (share_scale([0.6, 0.96]), "60 % 70 % 80 % 90 % 100 %"),
        (share_scale([0.875]), "85 % 86 % 87 % 88 % 89 % 90 %"),
        (share_scale([0.0]), "0 % 1 % 2 % 3 % 4 %"),
        (share_scale([1.0]), "96 % 97 % 98 % 99 % 100 %"),
        (rate_scale([1e-3]), "1e-3 1e-4"),
        (rate_scale([3e-4, 1e-9]), "1e-3 1e-5 1e-7 1e-9"),
    ],
)
def test_ticks_are_round(scale, texts):
    assert " ".join(text for _, text in scale.ticks) == texts


@given(st.floats(1e-9, 1e9))
def test_a_step_is_round_and_not_much_above_what_was_asked(wanted):
    step = round_step(wanted)
    assert wanted * (1 - 1e-6) <= step <= 2.5 * wanted * (1 + 1e-6)
    assert f"{step:e}"[0] in "125"
