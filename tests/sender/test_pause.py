"""A pause ends no later than the outage does, and says why, how often and how long yet."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.answers import Named
from etl.amplitude.responses import SlowDown, SlowDownSome, TryAgain, Verdict
from etl.errors import DestinationError
from etl.model import Chunk
from etl.run_events import Event, Paused
from etl.sender import AdaptiveRate, Backoff, Clock, RateLimiter
from tests.examples import examples
from tests.sender.fake_server import Destination, carry_all, chunk_of
from tests.sender.virtual_time import run_virtual

LATENCY = 0.1
FAILURES: list[Verdict] = [
    TryAgain(False, "503 away", status=503),
    TryAgain(False, "503 away", 3600.0, "3600", 503),
    TryAgain(True, "no answer"),
    SlowDown(None, "slow"),
    SlowDown(3600.0, "slow", "3600"),
    SlowDown(0.0, "slow", "0"),
]


@cache
def chunks_of(count: int, size: int) -> list[Chunk]:
    users = [f"user-{n:04d}" for n in range(count)]
    return [chunk_of(users[at : at + size], at + 1) for at in range(0, count, size)]


def gave_up(server: Destination, chunks: list[Chunk], *, outage: float, slots: int = 4, **more: Any) -> str:
    with pytest.raises(DestinationError) as caught:
        run_virtual(carry_all(chunks, server, outage=outage, slots=slots, **more))
    return str(caught.value)


@given(
    st.sampled_from(FAILURES),
    st.sampled_from([0.5, 3.0, 20.0, 1800.0]),
    st.integers(1, 8),
    st.sampled_from([0.0, 2.0]),
    st.sampled_from([AdaptiveRate, lambda clock: RateLimiter(None, clock)]),
)
@settings(max_examples=examples(60, 8), deadline=None)
def test_a_run_gives_up_when_the_outage_is_over_and_not_before(
    failure: Verdict, outage: float, slots: int, good: float, pace: Callable[[Clock], RateLimiter]
) -> None:
    server = Destination(latency=LATENCY, answer=lambda users, now: failure if now > good else None)
    gave_up(server, chunks_of(4000, 10), outage=outage, slots=slots, rate=pace)
    first = next(when for when, _ in server.requests if when + LATENCY > good)
    last = server.requests[-1][0]
    # From the first failure on; a few requests may follow each other at the end.
    assert first + LATENCY + outage - 1e-6 <= last + LATENCY <= first + 2 * LATENCY + outage + 5 * LATENCY


@pytest.mark.parametrize(
    ("seconds", "asked", "wait"), [(600.0, "600", "10 min 00 s"), (3600.0, "86400", "1 h 00 min or more")]
)
def test_what_the_server_asked_for_is_said(seconds: float, asked: str, wait: str) -> None:
    server = Destination(answer=lambda users, now: SlowDown(seconds, "slow", asked))
    assert gave_up(server, chunks_of(40, 10), outage=3.0).splitlines() == [
        f"the destination took nothing for 3.1 s: 429 slow (Retry-After: {asked})",
        f"  the server asked to wait {wait}, and --max-outage is 3.0 s; run the same command again once "
        "it is back; what is committed is kept",
    ]


@pytest.mark.parametrize("failure", [SlowDown(None, "slow"), TryAgain(False, "503 away", 40.0, "40", 503)])
def test_a_destination_that_is_back_before_the_outage_is_over_is_noticed(failure: Verdict) -> None:
    server = Destination(answer=lambda users, now: failure if now < 50 else None)
    carried = run_virtual(carry_all(chunks_of(40, 10), server, outage=51.0))
    assert carried.total.tally.accepted == 40


def test_a_503_is_waited_for_as_long_as_the_server_says() -> None:
    server = Destination(
        answer=lambda users, now: TryAgain(False, "503", 40.0, "40", 503) if now < 10 else None
    )
    run_virtual(carry_all(chunks_of(5, 5), server))
    assert 40 <= server.requests[1][0] <= 51


@pytest.mark.parametrize("retry_after", [None, 3600.0])
def test_who_waits_alone_waits_no_longer_than_an_outage_may_last(retry_after: float | None) -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        return (
            SlowDownSome(retry_after, "slow", throttled=Named(("user-0003",)))
            if "user-0003" in users
            else None
        )

    carried = run_virtual(carry_all(chunks_of(10, 10), Destination(answer=answer), outage=20.0))
    assert [(reject.row, reject.code) for reject in carried.rejects] == [(4, "transient")]
    assert 20 <= carried.seconds <= 21


def test_each_pause_tells_attempt_status_and_time_left() -> None:
    heard: list[Event] = []
    server = Destination(answer=lambda users, now: TryAgain(False, "503 away", status=503))
    gave_up(server, chunks_of(40, 10), outage=600.0, listener=heard.append)
    pauses = [event for event in heard if isinstance(event, Paused)]
    assert [pause.attempt for pause in pauses] == list(range(1, len(pauses) + 1))
    assert {pause.status for pause in pauses} == {503}
    assert str(pauses[0].outage_seconds) == "0.0"
    for pause in pauses:
        assert pause.seconds_left is not None
        assert pause.seconds_left + pause.outage_seconds == pytest.approx(600)
        assert pause.seconds <= pause.seconds_left
    assert pauses[-1].seconds == pytest.approx(pauses[-1].seconds_left)


def test_a_hundred_second_outage_with_waits_of_a_minute_takes_no_longer() -> None:
    server = Destination(answer=lambda users, now: TryAgain(False, "503 away", status=503))
    waits = Backoff(retry=60.0)
    words = gave_up(server, chunks_of(40, 10), outage=100.0, backoff=waits)
    assert "took nothing for 1 min 40 s: 503 away" in words
