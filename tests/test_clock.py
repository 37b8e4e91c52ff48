"""The clock of a run: stages in a row, and sessions with pauses between them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from headstart.clock import Clock


@pytest.fixture
def time(monkeypatch) -> SimpleNamespace:
    """A time that passes only when a test says so, in seconds."""
    time = SimpleNamespace(now=50.0)
    time.perf_counter = lambda: time.now
    monkeypatch.setattr("headstart.clock.time", time)
    return time


def test_each_stage_has_its_seconds_and_the_last_goes_on(time):
    clock = Clock("read")
    time.now += 1.25
    clock.begin("train")
    time.now += 2.0
    assert clock.timings() == {"total_s": 3.25, "read_s": 1.25, "train_s": 2.0}
    time.now += 0.5
    assert clock.timings() == {"total_s": 3.75, "read_s": 1.25, "train_s": 2.5}


def test_what_is_of_no_stage_counts_in_the_total(time):
    clock = Clock("evaluate")
    time.now += 1.0
    clock.begin(None)
    time.now += 4.0
    assert clock.timings() == {"total_s": 5.0, "evaluate_s": 1.0}


def test_a_resumed_run_counts_on_and_not_the_pause(time):
    clock = Clock("read")
    time.now += 1.0
    clock.begin("train")
    time.now += 10.0
    saved = clock.timings()
    time.now += 1000.0  # lost, and then the pause
    clock = Clock("read")
    time.now += 2.0
    clock.take_up(saved)
    assert clock.timings() == {"total_s": 13.0, "read_s": 3.0, "train_s": 10.0}
    clock.begin("features")
    time.now += 3.0
    clock.begin("train")
    time.now += 5.0
    timings = {"total_s": 21.0, "read_s": 3.0, "train_s": 15.0, "features_s": 3.0}
    assert clock.timings() == timings


def test_the_second_pause_counts_as_little_as_the_first(time):
    saved = {"total_s": 0.0}
    for _ in range(3):
        clock = Clock("train")
        clock.take_up(saved)
        time.now += 2.0
        saved = clock.timings()
        time.now += 100.0
    assert saved == {"total_s": 6.0, "train_s": 6.0}


def test_seconds_are_rounded_to_thousandths(time):
    clock = Clock("read")
    time.now += 0.12345
    assert clock.timings() == {"total_s": 0.123, "read_s": 0.123}


def test_the_seconds_so_far_are_those_of_all_sessions_and_stages(time):
    clock = Clock("read")
    time.now += 1.5
    assert clock.seconds == 1.5
    clock.begin(None)
    time.now += 2.0
    assert clock.seconds == 3.5
    saved = clock.timings()
    time.now += 1000.0  # the pause
    clock = Clock("read")
    clock.take_up(saved)
    time.now += 0.25
    assert clock.seconds == 3.75
