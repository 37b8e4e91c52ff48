"""Epochs that fit in the time left, by a clock that the tests turn."""

from __future__ import annotations

import itertools
import math

import pytest

from headstart.training.deadline import Deadline, Pace, fit_in, pace_of
from headstart.training.position import Position


def test_a_deadline_tells_the_seconds_left():
    moments = iter([10.0, 95.0, 101.5])
    deadline = Deadline(100.0, lambda: next(moments))
    assert [deadline.left() for _ in range(3)] == [90.0, 5.0, -1.5]


@pytest.mark.parametrize(
    ("left", "views", "fitting"),
    [(100, 0, 10), (99, 0, 9), (9, 0, 0), (-1, 0, 0), (10, 0, 1), (100, 2, 6), (49, 1, 2),
     (1000, 3, 20), (29, 5, 0)],
)  # fmt: skip
def test_new_views_take_their_seconds_only_while_there_are_new_ones(left, views, fitting):
    assert Pace(10.0, 20.0).fitting(left, 20, views) == fitting


def test_what_is_done_of_an_epoch_needs_no_more_time():
    assert Pace(10.0).fitting(24, 5, 0) == 2
    assert Pace(10.0).fitting(24, 5, 0, begun=0.6) == 3
    position = Position(epoch=2, step=3, epochs=5)
    assert fit_in(position, 24.0, Pace(10.0), steps=5, views=0) is None


def test_the_pace_is_that_of_the_slower_of_the_last_two_epochs():
    position = Position(epochs=9)
    assert pace_of(position) is None
    assert pace_of(position, 7.0) == Pace(7.0)
    for epoch, (seconds, views) in enumerate([(50, 4), (30, 5), (20, 0), (25, 1)]):
        position.epoch = epoch + 1
        position.epoch_seconds, position.view_seconds = seconds, views
        position.end_epoch()
        assert (position.epoch_seconds, position.view_seconds) == (0.0, 0.0)
    assert position.paces == [[20, 0], [24, 1]]
    assert pace_of(position, 7.0) == Pace(24, 1)


def test_judging_the_start_is_no_epoch():
    position = Position(epochs=3, epoch_seconds=99.0)
    position.end_epoch()
    assert position.paces == []
    assert position.epoch_seconds == 0.0


def test_epochs_that_do_not_fit_are_cut_and_the_schedule_goes_on_from_where_it_was():
    position = Position(epoch=2, epochs=10)
    before = position.done(5)
    assert fit_in(position, 35.0, Pace(10.0), steps=5, views=0) == "shortened"
    assert position.epochs == 5
    assert position.shortened == {
        "epoch": 2, "epochs": 5, "planned": 10, "pace": 10.0, "left": 35.0,
    }  # fmt: skip
    assert position.done(5) == before == 0.2
    shares = []
    for epoch in range(2, 5):
        for step in range(5):
            position.epoch, position.step = epoch, step
            shares.append(position.done(5))
    assert shares == sorted(shares)
    steps = [b - a for a, b in itertools.pairwise(shares)]
    assert max(steps) == pytest.approx(min(steps))
    assert shares[-1] + steps[0] == pytest.approx(1.0)


def test_cut_again_the_number_that_was_planned_stays():
    position = Position(epoch=2, epochs=10)
    fit_in(position, 35.0, Pace(10.0), steps=5, views=0)
    position.epoch = 3
    before = position.done(5)
    assert fit_in(position, 15.0, Pace(10.0), steps=5, views=0) == "shortened"
    assert (position.epochs, position.shortened["planned"]) == (4, 10)
    assert position.done(5) == pytest.approx(before)


def test_all_stays_as_it_is_where_there_is_time():
    position = Position(epoch=2, epochs=10)
    assert fit_in(position, 80.0, Pace(10.0), steps=5, views=0) is None
    assert position == Position(epoch=2, epochs=10)


def test_where_not_one_more_epoch_fits_it_stops():
    position = Position(epoch=4, epochs=10)
    assert fit_in(position, 9.0, Pace(8.0, 3.0), steps=5, views=1) == "stopped"
    assert position.stopped == {
        "why": "budget", "epoch": 4, "epochs": 10, "pace": 11.0, "left": 9.0,
    }  # fmt: skip
    assert position.epochs == 10


def test_one_epoch_is_begun_in_any_case():
    position = Position(epochs=10)
    assert fit_in(position, 1.0, Pace(8.0), steps=5, views=0) == "shortened"
    assert position.epochs == 1
    position = Position(epochs=1)
    assert fit_in(position, 1.0, Pace(8.0), steps=5, views=0) is None


@pytest.mark.parametrize("epochs", [1, 3, 7, 10, 30])
@pytest.mark.parametrize("steps", [1, 3, 7, 49])
def test_what_is_not_cut_is_to_the_bit_what_it_always_was(epochs, steps):
    position = Position(epochs=epochs)
    for position.epoch in range(epochs):
        for position.step in range(steps):
            assert position.done(steps) == (position.epoch + position.step / steps) / epochs
    assert math.isfinite(position.done(steps))
