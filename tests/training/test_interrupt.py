"""Signals wait for the loop."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from headstart.training.interrupt import Interruption

SIGNALS = pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@SIGNALS
def test_the_first_signal_waits_and_the_second_leaves_at_once(number, error):
    done = []

    def work():
        with Interruption() as interruption:
            send(number)
            assert interruption.signal == number
            done.append("the step")
            send(number)
            done.append("never")

    before = signal.getsignal(number)
    with pytest.raises(error) as raised:
        work()
    assert done == ["the step"]
    assert signal.getsignal(number) == before
    if error is SystemExit:
        assert raised.value.code == 143


@SIGNALS
def test_a_signal_that_nobody_asked_for_is_heeded_at_the_end(number, error):
    done = []

    def work():
        with Interruption():
            send(number)
            done.append("the rest")

    with pytest.raises(error):
        work()
    assert done == ["the rest"]


def test_the_loop_leaves_when_it_wants_to():
    done = []

    def work():
        with Interruption() as interruption:
            send(signal.SIGINT)
            interruption.leave()
            done.append("never")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == []


def test_an_error_is_not_hidden_by_a_signal():
    def work():
        with Interruption():
            send(signal.SIGINT)
            raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        work()


def test_outside_of_it_and_without_a_signal_nothing_changes():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interruption = Interruption()
    for _ in range(2):
        with interruption:
            assert signal.getsignal(signal.SIGINT) != before[0]
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGINT)


def test_in_another_thread_signals_are_not_ours():
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def work():
        with Interruption() as interruption:
            seen.append((signal.getsignal(signal.SIGINT), interruption.signal))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, None)]
