from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from etl.errors import StateError
from etl.model import Tally
from etl.run_events import Ended, Event, Progressed, Warned, compose

from .events import started, summary

if TYPE_CHECKING:
    from etl.run_events import Listener


def failing_at(error: BaseException, *kinds: type) -> tuple[Listener, list[Event]]:
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        if isinstance(event, kinds):
            raise error

    return listener, heard


def test_tells_everyone_every_event_in_order() -> None:
    first: list[Event] = []
    second: list[Event] = []
    events: list[Event] = [started(), Progressed(Tally(1, 1)), Ended(summary())]
    tell = compose(first.append, second.append)
    for event in events:
        tell(event)
    assert first == events
    assert second == events


def test_nobody_may_listen() -> None:
    compose()(started())


def test_a_failing_listener_never_stops_the_run_nor_the_others() -> None:
    failing, _ = failing_at(OSError(28, "No space left on device"), Progressed)
    heard: list[Event] = []
    tell = compose(failing, heard.append)
    tell(Progressed(Tally(1, 1)))
    assert heard[0] == Progressed(Tally(1, 1))
    assert isinstance(heard[1], Warned)
    assert heard[1].code == "listener_failed"
    assert "No space left" in heard[1].message


def test_a_failure_is_told_once_and_the_listener_tried_again() -> None:
    failing, tried = failing_at(StateError("disk is full", hint="free space"), Progressed)
    heard: list[Event] = []
    tell = compose(heard.append, failing)
    for rows in range(3):
        tell(Progressed(Tally(rows, rows)))
    assert [event for event in heard if isinstance(event, Warned)] == [
        Warned("listener_failed", "disk is full free space")
    ]
    assert len(tried) == 3


def test_listeners_that_all_fail_leave_a_trace_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    failing, _ = failing_at(RuntimeError("out of order"), object)
    other, _ = failing_at(RuntimeError("me too"), object)
    with caplog.at_level(logging.WARNING):
        compose(failing, other)(started())
    assert "out of order" in caplog.text
    assert "me too" in caplog.text


def test_an_interrupt_passes_through() -> None:
    failing, _ = failing_at(KeyboardInterrupt(), Progressed)
    with pytest.raises(KeyboardInterrupt):
        compose(failing)(Progressed(Tally()))


def test_only_a_terminal_needs_rich() -> None:
    code = """
import io, sys, etl.listeners.metrics, etl.listeners.report
from etl.listeners.display import LogListener, NotebookListener
from etl.run_events import Warned
LogListener(io.StringIO(), as_json=False)(Warned("code", "message"))
NotebookListener(lambda html: print)(Warned("code", "message"))
print("rich" in sys.modules)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert said == "False\n"
