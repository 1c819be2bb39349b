"""Requests that fail while others pass cost their own time; only when nothing passes it is an outage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from etl.amplitude.responses import TryAgain, Verdict
from etl.errors import DestinationError
from etl.model import Chunk
from etl.run_events import Event, Paused, Recovered
from etl.sender.backoff import FailureShare
from tests.sender.failing_server import FailingServer, by_chance
from tests.sender.fake_server import Carried, carry_all, chunk_of, few
from tests.sender.virtual_time import run_virtual

LATENCY = 0.15


def soak(*case: object) -> object:
    return pytest.param(*case, marks=pytest.mark.soak)


OUTAGE = 1800.0


def chunks_of(count: int, size: int = 1) -> list[Chunk]:
    users = [f"user-{n:05d}" for n in range(count * size)]
    return [chunk_of(users[at : at + size], at + 1) for at in range(0, len(users), size)]


def carry(server: FailingServer, chunks: Sequence[Chunk], slots: int, outage: float = OUTAGE) -> Carried:
    return run_virtual(carry_all(chunks, server, slots=slots, outage=outage))


def gave_up(server: FailingServer, chunks: Sequence[Chunk], slots: int, outage: float) -> str:
    with pytest.raises(DestinationError) as caught:
        carry(server, chunks, slots, outage)
    return str(caught.value)


def share_of_throughput(
    server: FailingServer, carried: Carried, count: int, slots: int, share: float
) -> float:
    """What was got through, of what the failures leave: each takes as long as a success, or its own time."""
    first = next(when for when, _, good in server.requests if good)
    calm = count * LATENCY / slots
    failures = share / (1 - share) * max(1.0, server.failing / LATENCY)
    return calm * (1 + failures) / (carried.seconds - first)


@pytest.mark.parametrize(
    ("slots", "count", "share", "failing"),
    [
        (1, 100, 0.1, 10 * LATENCY),
        (1, 100, 0.9, 0.001),
        (8, 200, 0.33, LATENCY),
        (8, 200, 0.67, 0.001),
        (8, 100, 0.9, LATENCY),
        (64, 700, 0.1, 0.001),
        (16, 300, 0.33, 10 * LATENCY),
        *(soak(1, 100, share, failing) for share in (0.1, 0.5, 0.9) for failing in (0.001, 10 * LATENCY)),
        *(soak(8, 200, share, failing) for share in (0.1, 0.33, 0.67, 0.9) for failing in (0.001, LATENCY)),
        *(soak(64, 1500, share, 0.001) for share in (0.1, 0.33, 0.67)),
        soak(64, 1000, 0.9, LATENCY),
    ],
)
def test_a_share_of_failures_costs_that_share(slots: int, count: int, share: float, failing: float) -> None:
    server = FailingServer(by_chance(share, seed=slots), latency=LATENCY, failing=failing)
    carried = carry(server, chunks_of(count), slots)
    assert carried.total.tally.accepted == count
    assert not carried.rejects
    assert share_of_throughput(server, carried, count, slots, share) >= 0.6


@given(
    st.floats(0.05, 0.7),
    st.sampled_from([0.001, 0.05, LATENCY, 10 * LATENCY]),
    st.integers(1, 64),
    st.sampled_from(
        [TryAgain(True, "502"), TryAgain(True, "no answer"), TryAgain(False, "no way", unsent=True)]
    ),
    st.integers(0, 2**32),
)
@settings(max_examples=few(12), deadline=None, phases=[Phase.explicit, Phase.generate])
def test_whatever_fails_by_chance_is_sent_whole_and_ends_accepted(
    share: float, failing: float, slots: int, failure: Verdict, seed: int
) -> None:
    chunks = chunks_of(max(20, 2 * slots), 3)
    server = FailingServer(by_chance(share, seed), failing=failing, failure=failure)
    carried = carry(server, chunks, slots)
    assert carried.total.tally.accepted == 3 * len(chunks)
    assert not carried.rejects
    # Chance does not split a part: what is sent again is the same request. Where more than 60 % fail, one of
    # a hundred runs has a series that looks like a fault of its part; the halves are accepted all the same.
    assert {size for _, size, _ in server.requests} == {3} or share > 0.6


def every_third(number: int, now: float) -> bool:
    return number % 3 == 2


def bursts(number: int, now: float) -> bool:
    return now % 3 >= 2


def long_bursts(number: int, now: float) -> bool:
    return now % 30 >= 20


def later(number: int, now: float) -> bool:
    return now > 3 and number % 3 > 0


@pytest.mark.parametrize(
    ("fails", "share"), [(every_third, 1 / 3), (bursts, 1 / 3), (long_bursts, 1 / 3), (later, 2 / 3)]
)
@pytest.mark.parametrize(("slots", "count"), [(1, 100), (16, 300), soak(16, 800)])
def test_failures_in_turns_bursts_or_from_the_middle_on_cost_no_more(
    fails: Callable[[int, float], bool], share: float, slots: int, count: int
) -> None:
    server = FailingServer(fails, latency=LATENCY)
    carried = carry(server, chunks_of(count), slots, outage=120)
    assert carried.total.tally.accepted == count
    assert share_of_throughput(server, carried, count, slots, share) >= 0.6


@pytest.mark.parametrize("slots", [1, 8])
def test_a_run_goes_on_as_long_as_anything_passes(slots: int) -> None:
    """Far beyond `--max-outage`, though no success begins after the last failure."""
    server = FailingServer(by_chance(0.5), latency=5.0)
    carried = carry(server, chunks_of(40 * slots), slots, outage=60)
    assert carried.seconds > 200
    assert carried.total.tally.accepted == 40 * slots


@pytest.mark.parametrize("slots", [1, soak(16)])
@pytest.mark.parametrize("share", [0.0, 0.33])
@pytest.mark.parametrize("began", [0.0, 4.0])
def test_an_outage_is_paced_and_ends_the_run(slots: int, share: float, began: float) -> None:
    chance = by_chance(share, seed=1)
    server = FailingServer(lambda number, now: now >= began or chance(number, now), latency=LATENCY)
    words = gave_up(server, chunks_of(int(began / LATENCY * slots * 1.2) + 70), slots, 600.0)
    assert "took nothing for 10 min" in words
    last_pass = max((when + LATENCY for when, _, good in server.requests if good), default=0.0)
    failed = [when for when, _, good in server.requests if not good and when >= last_pass]
    assert 600 - 1e-6 <= failed[-1] - failed[0] < 610 + LATENCY
    # Five seconds at the usual pace; then waits that double up to a thirtieth of the longest outage.
    silence = [when for when in failed if when < last_pass + 6]
    assert len(silence) <= (slots * 7 * 6 if began else 12)
    rounds = 6 + 8 * 5 + 600 / (0.1 * 20)
    assert len(failed) - len(silence) <= rounds * (slots if began else 1)
    # On the average a wait is more than half of its longest.
    assert len(failed) - len(silence) <= 1.5 * (6 + 8 * 5 + 600 / (0.55 * 20)) * (slots if began else 1)


def test_an_outage_that_ends_and_returns_is_counted_from_its_return() -> None:
    heard: list[Event] = []

    def away(number: int, now: float) -> bool:
        return 10 <= now < 60 or 70 <= now < 120

    server = FailingServer(away, latency=LATENCY)
    chunks = chunks_of(1000)
    carried = run_virtual(carry_all(chunks, server, outage=75, listener=heard.append))
    assert carried.total.tally.accepted == 1000
    pauses = [event for event in heard if isinstance(event, Paused)]
    recovered = [event.seconds for event in heard if isinstance(event, Recovered)]
    assert len(recovered) == 2
    assert all(49 < seconds < 56 for seconds in recovered)
    assert [pause.attempt for pause in pauses].count(1) == 2
    assert max(pause.outage_seconds for pause in pauses) < 56


@pytest.mark.parametrize("failing", [0.001, soak(10 * LATENCY)])
@pytest.mark.parametrize("slots", [1, soak(4), 64])
@pytest.mark.parametrize("where", [0, soak(333), 639])
def test_a_row_that_always_fails_is_found_while_others_pass(failing: float, slots: int, where: int) -> None:
    """In the first, a middle or the last chunk, when nothing else is left that might pass."""
    bad = f"user-{where:05d}"
    server = FailingServer(lambda number, now: False, failing=failing, poison=frozenset([bad]))
    chunks = chunks_of(10, 64)
    carried = carry(server, chunks, slots, outage=900)
    assert [(reject.row, reject.code) for reject in carried.rejects] == [(where + 1, "transient")]
    assert carried.total.tally.accepted == 639
    # About ten tries until it can't be chance any more, and few for each half; then it waits alone.
    to_find = [size for _, size, good in server.requests if not good and size > 1]
    assert len(to_find) <= 14 + 2 * math.log2(64) + 4
    assert len(server.requests) < 200
    assert carried.seconds < 900 + 150


@pytest.mark.parametrize("share", [0.33, 0.67])
def test_a_row_that_always_fails_is_found_among_failures_by_chance(share: float) -> None:
    server = FailingServer(by_chance(share), poison=frozenset(["user-00333"]))
    chunks = chunks_of(200, 16)
    carried = carry(server, chunks, 4, outage=900)
    assert [(reject.row, reject.code) for reject in carried.rejects] == [(334, "transient")]
    assert carried.total.tally.accepted == 200 * 16 - 1


@given(st.floats(0.0, 0.95), st.integers(0, 10_000))
@settings(max_examples=few(30), deadline=None)
def test_what_is_no_chance_has_odds_of_less_than_one_in_a_million(share: float, seed: int) -> None:
    measured, fails, failures = FailureShare(), by_chance(share, seed), 0
    for number in range(4000):
        if fails(number, 0.0):
            failures += 1
        else:
            measured.passed(failures)
            failures = 0
    most = next(n for n in range(1, 10_000) if measured.exceeds_chance(n))
    assert most >= 10
    assert share**most < 1e-4  # the share is as good as two hundred requests can tell it
    assert measured.doublings(most // 3) == 0 < measured.doublings(most)
