"""What ended a run decides its exit code, and no listener that fails keeps an event from the others."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl import errors
from etl.errors import EtlError, Fault, JobError, StateError
from etl.run_events import (
    Ended,
    Ending,
    Event,
    Listener,
    Progressed,
    Started,
    Summary,
    Warned,
    compose,
    ended,
    not_begun,
)
from etl.tally import Tally
from tests.examples import each_row

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, EtlError) and kind is not JobError
]
BEGUN = Summary("nightly", Tally(rows=5, accepted=4, rejected=1), 1.0, 0, "stopped")
FINISHED = Summary("nightly", Tally(rows=5, accepted=5), 1.0, 0, "finished")
STARTED = Started("nightly", "http://127.0.0.1", 1, 5, 100, Tally())


@each_row("status", ["finished", "limited"])
@each_row(("rejected", "accepts", "code"), [(0, False, 0), (2, False, 3), (2, True, 0)])
def test_rejects_are_told_unless_they_are_accepted(
    status: Literal["finished", "limited"], rejected: int, accepts: bool, code: int
) -> None:
    tally = Tally(rows=5, accepted=5 - rejected, rejected=rejected)
    summary = ended(Summary("nightly", tally, 1.0, 0, status, accepts_rejects=accepts))
    assert (summary.status, summary.exit_code, summary.reason is None) == (status, code, code == 0)


@each_row("kind", KINDS)
def test_an_error_tells_its_code_and_its_words(kind: type[EtlError]) -> None:
    summary = ended(BEGUN, kind("what happened", hint="what to do"))
    assert (summary.exit_code, summary.reason, summary.hint) == (
        kind.exit_code,
        "what happened",
        "what to do",
    )
    assert summary.status == ("interrupted" if kind.exit_code == 130 else "stopped")
    assert summary.tally == BEGUN.tally


def test_each_fault_of_a_job_file_has_its_line() -> None:
    summary = ended(not_begun("j"), JobError("a\nb.yml", [Fault("x\ty", 2), Fault("z", 1)]))
    assert summary.reason == "a\\nb.yml:1: z\na\\nb.yml:2: x\\ty"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), asyncio.CancelledError()])
def test_a_signal_is_an_interruption(error: BaseException) -> None:
    summary = ended(BEGUN, error)
    assert (summary.exit_code, summary.status, summary.reason) == (130, "interrupted", "interrupted")


def test_a_fault_of_ours_is_named_without_its_words() -> None:
    summary = ended(BEGUN, ValueError("api_key=secret"))
    assert summary.exit_code == 1
    assert "ValueError" in str(summary.reason)
    assert "secret" not in f"{summary.reason} {summary.hint}"


@each_row("error", [None, KeyboardInterrupt(), errors.StateError("full"), ValueError("x")])
@each_row("rejected", [0, 1, 12])
def test_what_finished_stays_finished(error: BaseException | None, rejected: int) -> None:
    tally = Tally(rows=20, accepted=20 - rejected, rejected=rejected)
    summary = ended(Summary("nightly", tally, 1.0, 0, "finished"), error)
    assert (summary.status, summary.exit_code) == ("finished", 3 if rejected else 0)
    assert (summary.reason is None) == (summary.hint is None) == (not rejected)


events = st.lists(st.sampled_from([Warned("a", "b"), Ended(BEGUN), Ended(FINISHED)]), max_size=5)
faults = st.sampled_from([None, KeyboardInterrupt(), errors.SourceError("gone"), ValueError("x")])


def fail(fault: BaseException | None) -> None:
    if fault is not None:
        raise fault


@given(events, faults)
def test_the_end_is_told_once_and_last(told: list[Event], fault: BaseException | None) -> None:
    heard: list[Event] = []
    with suppress(BaseException), Ending("nightly", heard.append) as ending:
        for event in told:
            ending(event)
        fail(fault)
    assert heard[:-1] == [event for event in told if not isinstance(event, Ended)]
    ends = [event for event in told if isinstance(event, Ended)]
    assert heard[-1] == Ended(ended(ends[-1].summary if ends else not_begun("nightly"), fault))


# --- several listeners as one ----------------------------------------------------------------------------


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
    events: list[Event] = [STARTED, Progressed(Tally(1, 1)), Ended(FINISHED)]
    tell = compose(first.append, second.append)
    for event in events:
        tell(event)
    assert first == events
    assert second == events


def test_nobody_may_listen() -> None:
    compose()(STARTED)


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
        compose(failing, other)(STARTED)
    assert "out of order" in caplog.text
    assert "me too" in caplog.text


def test_an_interrupt_passes_through() -> None:
    failing, _ = failing_at(KeyboardInterrupt(), Progressed)
    with pytest.raises(KeyboardInterrupt):
        compose(failing)(Progressed(Tally()))
