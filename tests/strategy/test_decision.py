"""Decisions as data, and the numbers that they are told in."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.strategy.decision import Decision, Tried, duration, percent, points

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
plain = st.none() | st.booleans() | numbers | st.text(max_size=5)
inner = st.lists(plain, max_size=3) | st.dictionaries(st.text(max_size=5), plain, max_size=3)
_SECONDS = {"s": 1, "min": 60, "h": 3600}


@settings(deadline=None)
@given(*[st.text(max_size=9)] * 4, st.dictionaries(st.text(max_size=5), plain | inner, max_size=3))
def test_a_decision_goes_through_json(question, choice, reason, otherwise, numbers) -> None:
    decision = Decision(question, choice, reason, otherwise, numbers)
    document = json.loads(json.dumps(decision.to_dict(), allow_nan=False))
    assert Decision.from_dict(document) == decision


def test_the_numbers_of_what_was_tried_are_rounded_json() -> None:
    tried = Tried("pad", 2 / 3, 300, -0.01234567, 0.00987654, None, log_loss=1.23456789)
    numbers = {
        "accuracy": 0.6667,
        "n": 300,
        "difference": -0.0123,
        "noise": 0.0099,
        "log_loss": 1.2346,
    }
    assert tried.numbers == numbers
    assert Tried("pad", 2 / 3, 300, knn=1 / 3).numbers["knn"] == 0.3333


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0\N{NO-BREAK SPACE}%"),
        (0.8644, "86.4\N{NO-BREAK SPACE}%"),
        (0.99951, "100.0\N{NO-BREAK SPACE}%"),
        (1.0, "100.0\N{NO-BREAK SPACE}%"),
    ],
)
def test_shares_are_told_in_percent(share, text) -> None:
    assert percent(share) == text


def test_differences_are_told_in_points_with_their_sign() -> None:
    assert points(0.012) == "+1.2 points"
    assert points(-0.062) == "-6.2 points"
    assert points(0.0) == "+0.0 points"
    assert points(0.012, sign=False) == "1.2 points"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 s"),
        (0.01, "1 s"),
        (8.4, "8 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (60.0, "1 min"),
        (200.0, "3 min 20 s"),
        (599.4, "9 min 59 s"),
        (599.6, "10 min"),
        (631.0, "11 min"),
        (3569.0, "59 min"),
        (3571.0, "1 h"),
        (3900.0, "1 h 5 min"),
        (7200.0, "2 h"),
        (90_000.0, "25 h"),
    ],
)
def test_seconds_are_told_as_people_say_them(seconds, text) -> None:
    assert duration(seconds) == text


@settings(deadline=None)
@given(st.floats(0, 1e6))
def test_what_is_told_of_a_time_is_near_it(seconds) -> None:
    parts = re.findall(r"(\d+) (h|min|s)", duration(seconds))
    told = sum(int(number) * _SECONDS[unit] for number, unit in parts)
    tolerance = 1.0 if seconds < 600 else 30.5
    assert abs(told - seconds) <= tolerance
    # No number reaches the next larger unit.
    assert all(int(number) < 60 for number, unit in parts if unit != "h")
