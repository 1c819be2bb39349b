"""Who hears the signals to stop, and when; tried on this very process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from etl.interrupts import STOPPING, heard_by, held, release, watch


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """All of them raise KeyboardInterrupt, as in the command; afterwards they are what they were."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        signal.signal(number, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPPING)
def test_one_that_comes_while_they_are_held_comes_afterwards(number: int) -> None:
    done = []

    def work() -> None:
        with held():
            send(number)
            done.append("inside")
        done.append("after")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["inside"]


def test_a_second_one_is_not_held() -> None:
    done = []

    def work() -> None:
        with held():
            send(signal.SIGTERM)
            done.append("once")
            send(signal.SIGINT)
            done.append("twice")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["once"]


def test_those_that_are_ignored_stay_so() -> None:
    heard: list[int] = []
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with heard_by(lambda number, _: heard.append(number)):
        send(signal.SIGHUP)
        send(signal.SIGTERM)
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler


def test_another_thread_than_the_main_one_changes_nothing() -> None:
    seen = []

    def hold() -> None:
        with held():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_from_the_first_moment_they_wait_until_they_are_released() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    watch()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    send(signal.SIGTERM)
    send(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        release()
    release()
    with pytest.raises(KeyboardInterrupt):
        send(signal.SIGTERM)
