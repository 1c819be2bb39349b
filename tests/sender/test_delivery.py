"""One bad row costs one row; one hot user holds up only its own rows; nobody is overtaken."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.requests import TRANSPORT_RULES
from etl.amplitude.responses import Accepted, Refused, SlowDown, Stop, TryAgain, Verdict
from etl.errors import DestinationError
from etl.model import Chunk
from etl.run_events import Event, Paused, Recovered
from etl.sender import AdaptiveRate, Clock, RateLimiter
from tests.examples import examples
from tests.sender.fake_server import Carried, Destination, carry_all, chunk_of, few
from tests.sender.virtual_time import run_virtual


def chunks_of(users: list[str], size: int) -> list[Chunk]:
    return [chunk_of(users[at : at + size], at + 1) for at in range(0, len(users), size)]


def names(count: int) -> list[str]:
    return [f"user-{n:04d}" for n in range(count)]


@given(st.sets(st.integers(0, 499), max_size=12))
@settings(max_examples=few(40), deadline=None)
def test_one_bad_row_costs_one_row(bad: set[int]) -> None:
    users = names(500)
    server = Destination(poison=frozenset(users[n] for n in bad))
    carried = run_virtual(carry_all([chunk_of(users)], server))
    assert [reject.row for reject in carried.rejects] == [n + 1 for n in sorted(bad)]
    assert sorted(server.accepted) == [user for n, user in enumerate(users) if n not in bad]
    assert carried.total.tally.accepted == 500 - len(bad)
    if bad:
        k = len(bad)
        assert len(server.requests) - 1 <= 2 * k * (math.log2(500 / k) + 2)


@given(st.sets(st.integers(0, 99), min_size=1, max_size=4), st.integers(0, 20))
@settings(max_examples=few(40), deadline=None)
def test_what_is_accepted_while_a_bad_row_is_looked_for_is_committed_at_once(
    bad: set[int], seconds: int
) -> None:
    """So a kill meanwhile leaves nothing to be sent twice but what is in flight."""
    server, carried = Destination(poison=frozenset(names(100)[n] for n in bad), latency=1.0), Carried()

    async def killed() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds + 0.5):
                await carry_all([chunk_of(names(100))], server, carried=carried)

    run_virtual(killed())
    committed = [number for chunk, _ in carried.commits for number in chunk.numbers.tolist()]
    accepted = {int(user[5:]) + 1 for user in server.accepted}
    assert accepted == {*committed} - {n + 1 for n in bad}


def test_a_refused_row_is_handed_back_with_the_server_s_words() -> None:
    server = Destination(poison=frozenset(["user-0001"]))
    carried = run_virtual(carry_all([chunk_of(names(3))], server))
    [reject] = carried.rejects
    assert (reject.row, reject.code) == (2, "malformed")
    assert reject.reason == "the server answered 400: invalid"
    assert reject.values == '{"id":"user-0001"}'


def test_a_request_that_is_too_big_is_halved_and_a_single_one_handed_back() -> None:
    def answer(users: list[str], now: float) -> Verdict:
        return Refused(413, "too big") if len(users) > 3 or "user-0005" in users else Accepted()

    carried = run_virtual(carry_all([chunk_of(names(10))], Destination(answer=answer)))
    assert [(reject.row, reject.code) for reject in carried.rejects] == [(6, "too_big")]
    assert carried.total.tally.accepted == 9


@pytest.mark.parametrize("pace", [AdaptiveRate, lambda clock: RateLimiter(None, clock)])
def test_a_hot_user_holds_up_only_its_own_rows(pace: Callable[[Clock], RateLimiter]) -> None:
    users = names(2000)
    for at in range(50, 2000, 100):
        users[at] = "hot-user"
    chunks = chunks_of(users, 100)
    calm = run_virtual(carry_all(chunks_of(names(2000), 100), Destination(latency=1.0)))

    def answer(found: list[str], now: float) -> Verdict | None:
        return SlowDown(None, "one user is throttled") if "hot-user" in found and now < 600 else None

    server = Destination(latency=1.0, answer=answer)
    carried = run_virtual(carry_all(chunks, server, rate=pace))
    others = max(time for user, time in server.times.items() if user != "hot-user")
    # The first throttling can't be told from one that is meant for all: it costs everyone a pause. The
    # second one costs those who share a request with the hot user another.
    assert others <= calm.seconds + 2 * 15 * 1.25 + 15
    most = sorted(server.times[user] for user in server.times if user != "hot-user")
    assert most[int(0.9 * len(most))] <= calm.seconds + 15 * 1.25 + 5
    assert carried.total.tally.accepted == 2000
    assert not carried.rejects
    assert server.accepted.count("hot-user") == 20
    assert server.overlaps == 0


def test_a_user_who_is_throttled_for_ever_is_handed_back_as_transient() -> None:
    server = Destination(hot=frozenset(["user-0007"]))
    carried = run_virtual(carry_all(chunks_of(names(400), 20), server, outage=300))
    assert [(reject.row, reject.code) for reject in carried.rejects] == [(8, "transient")]
    assert carried.total.tally.accepted == 399


@given(
    st.lists(st.sampled_from(names(12)), min_size=1, max_size=60),
    st.integers(1, 6),
    st.integers(1, 8),
    st.sampled_from([2, 5, 2**64 - 1]),
)
@settings(max_examples=examples(100), deadline=None)
def test_users_are_never_overtaken_nor_in_flight_twice(
    users: list[str], size: int, slots: int, different: int
) -> None:
    """Even where users share keys."""
    distinct = [
        list(dict.fromkeys(chunk)) for chunk in (users[i : i + size] for i in range(0, len(users), size))
    ]
    chunks, first = [], 1
    for part in distinct:
        chunks.append(chunk_of(part, first, different=different))
        first += len(part)
    failed: dict[str, int] = defaultdict(int)

    def answer(found: list[str], now: float) -> Verdict | None:
        failed[found[0]] += 1
        return TryAgain(True, "502") if failed[found[0]] % 3 == 1 else None

    server = Destination(answer=answer)
    carried = run_virtual(carry_all(chunks, server, slots=slots))
    assert server.overlaps == 0
    assert carried.total.tally.accepted == sum(len(part) for part in distinct)
    for user in set(users):
        assert server.accepted.count(user) == sum(user in part for part in distinct)


def test_two_users_with_one_key_are_two_users() -> None:
    """The first one's end is not the second one's: a later row of the second has to wait."""
    one, two = names(2)
    chunks = [chunk_of([one, two], different=1), chunk_of([two], 3, different=1)]
    server = Destination(answer=lambda users, now: Refused(413, "too big") if len(users) > 1 else None)
    carried = run_virtual(carry_all(chunks, server))
    assert server.overlaps == 0
    assert [users for _, users in server.requests] == [[one, two], [one], [two], [two]]
    assert carried.total.tally.accepted == 3


def test_never_more_requests_at_once_than_lanes() -> None:
    server = Destination(latency=5.0)
    carried = run_virtual(carry_all(chunks_of(names(60), 1), server, slots=3))
    assert server.most_at_once == 3
    # One after the other only until the first answer.
    assert carried.seconds == pytest.approx(5 + 5 * 20)


def test_an_outage_is_waited_out_and_told() -> None:
    heard: list[Event] = []

    def answer(users: list[str], now: float) -> Verdict | None:
        return TryAgain(False, "503") if now < 900 else None

    server = Destination(answer=answer)
    carried = run_virtual(carry_all(chunks_of(names(400), 10), server, listener=heard.append))
    assert carried.total.tally.accepted == 400
    pauses = [event for event in heard if isinstance(event, Paused)]
    assert max(pause.seconds for pause in pauses) > 20 * pauses[0].seconds
    assert all(pause.seconds <= 60 for pause in pauses)  # it says so once a minute
    assert isinstance(heard[-1], Recovered)
    # One pause for all: an outage of a quarter of an hour isn't polled by every lane.
    assert carried.total.tally.retries < 240


def test_an_outage_that_lasts_too_long_stops_the_run() -> None:
    server = Destination(answer=lambda users, now: TryAgain(False, "503 away"))
    with pytest.raises(DestinationError, match=r"took nothing for .* 503 away"):
        run_virtual(carry_all(chunks_of(names(40), 10), server, outage=600))
    assert 600 < max(now for now, _ in server.requests) < 900


def test_a_refused_key_stops_after_one_request() -> None:
    server = Destination(answer=lambda users, now: Stop("invalid_api_key"))
    with pytest.raises(DestinationError, match="invalid_api_key"):
        run_virtual(carry_all(chunks_of(names(40), 10), server, slots=4))
    assert len(server.requests) == 1


def test_throttling_is_waited_for_as_long_as_the_server_says() -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        return SlowDown(40.0, "slow down") if now < 10 else None

    server = Destination(answer=answer)
    run_virtual(carry_all([chunk_of(names(5))], server))
    assert server.requests[0][0] == 0
    assert 40 <= server.requests[1][0] <= 51
    assert len(server.requests) == 2


def test_retries_send_the_same_users() -> None:
    tries: list[list[str]] = []

    def answer(users: list[str], now: float) -> Verdict | None:
        tries.append(users)
        return TryAgain(True, "lost") if len(tries) < 4 else None

    carried = run_virtual(carry_all([chunk_of(names(5))], Destination(answer=answer)))
    assert tries == [names(5)] * 4
    assert carried.total.tally.in_doubt == 3
    assert (carried.total.tally.requests, carried.total.tally.retries) == (4, 3)


def test_nothing_is_in_doubt_where_a_resend_counts_once() -> None:
    server = Destination(
        answer=lambda users, now: TryAgain(True, "lost") if now < 1 else None, rules=TRANSPORT_RULES["batch"]
    )
    carried = run_virtual(carry_all([chunk_of(names(5))], server))
    assert carried.total.tally.retries > 0
    assert (carried.total.tally.accepted, carried.total.tally.in_doubt) == (5, 0)


def test_when_told_to_stop_what_is_in_flight_settles_and_nothing_new_begins() -> None:
    server = Destination(latency=10.0)
    carried = run_virtual(carry_all(chunks_of(names(100), 10), server, slots=2, stop_after=15.0))
    assert len(server.requests) == 3
    assert len(server.accepted) == 30
    assert sorted(carried.committed)[1:] == [1, 11, 21]


def test_when_told_to_stop_who_waits_for_an_outage_wakes() -> None:
    server = Destination(answer=lambda users, now: TryAgain(False, "away"))
    carried = run_virtual(carry_all(chunks_of(names(20), 10), server, stop_after=100.0))
    assert carried.seconds < 102
    assert sorted(carried.committed) == [-1]


def test_a_rate_is_kept() -> None:
    server = Destination(latency=0.01)
    carried = run_virtual(
        carry_all(chunks_of(names(1000), 10), server, rate=lambda clock: RateLimiter(100.0, clock))
    )
    assert carried.seconds == pytest.approx(9.9, abs=0.2)
    per_second = [sum(len(u) for now, u in server.requests if s <= now < s + 1) for s in range(9)]
    assert max(per_second) <= 110


def test_the_loop_really_is_virtual() -> None:
    run_virtual(asyncio.sleep(1e6))


@given(
    st.lists(st.sampled_from(names(8)), min_size=2, max_size=30),
    st.integers(1, 5),
    st.one_of(st.none(), st.floats(0, 200)),
)
@settings(max_examples=examples(100), deadline=None)
def test_no_row_is_committed_before_an_older_row_of_its_user(
    users: list[str], size: int, stop_after: float | None
) -> None:
    """Or a run that is resumed would send the older row last."""

    def answer(users: list[str], now: float) -> Verdict | None:
        return SlowDown(None, "throttled") if "user-0003" in users and now < 150 else None

    chunks, row = [], 1
    for at in range(0, len(users), size):
        chunks.append(chunk_of(list(dict.fromkeys(users[at : at + size])), row))
        row = chunks[-1].stop
    names_by_row = [name for chunk in chunks for name in chunk.rows["id"].to_pylist()]
    carried = run_virtual(carry_all(chunks, Destination(answer=answer), outage=10_000, stop_after=stop_after))
    committed: dict[str, list[int]] = defaultdict(list)
    for chunk, _ in carried.commits:
        for number in chunk.numbers.tolist():
            committed[names_by_row[number - 1]].append(number)
    for name, numbers in committed.items():
        mine = [number for number, one in enumerate(names_by_row, start=1) if one == name]
        assert numbers == mine[: len(numbers)]
        assert stop_after is not None or numbers == mine
