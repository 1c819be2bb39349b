"""Users who are throttled while others pass, in virtual time: one clock for each, and nobody else waits."""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.amplitude.responses import SlowDown, TryAgain, Verdict
from etl.errors import DestinationError
from etl.model import Chunk, Reject
from etl.sender import AdaptiveRate, Backoff, Clock, RateLimiter, sender
from tests.examples import each_row, examples
from tests.sender.fake_server import Carried, Destination, carry_all, chunk_of
from tests.sender.virtual_time import run_virtual

OUTAGE = 300.0


def with_hot(chunks: int, size: int, hot: str = "hot-user") -> list[list[str]]:
    """Users by chunk; one of each is hot."""
    return [[hot, *(f"user-{number}-{n}" for n in range(size - 1))] for number in range(chunks)]


def chunks_of(users: list[list[str]]) -> list[Chunk]:
    found: list[Chunk] = []
    first = 1
    for some in users:
        found.append(chunk_of(some, first))
        first += len(some)
    return found


def ends(carried: Carried) -> dict[int, str]:
    """Of each row how its end was told for the snapshot, or why it is a reject."""
    return {
        reject.row: f"{reject.code}: {reject.reason}" for _, end in carried.commits for reject in end.rejects
    }


def test_all_rows_of_a_user_throttled_for_good_end_together() -> None:
    users = with_hot(100, 10)
    calm = run_virtual(carry_all(chunks_of(users), Destination()))
    server = Destination(hot=frozenset(["hot-user"]))
    carried = run_virtual(carry_all(chunks_of(users), server, outage=OUTAGE))
    assert carried.total.tally.accepted == 100 * 9
    assert [reject.code for reject in carried.rejects] == ["transient"] * 100
    assert sum("not sent" in reason for reason in ends(carried).values()) == 99
    others = max(time for user, time in server.times.items())
    assert others <= calm.seconds + 60
    assert carried.seconds <= OUTAGE + 120
    # What was found out once isn't found out for each chunk.
    assert sum("hot-user" in some for _, some in server.requests) < 40


def test_others_are_committed_as_they_go() -> None:
    users = with_hot(100, 20)
    server = Destination(hot=frozenset(["hot-user"]))
    carried = run_virtual(carry_all(chunks_of(users), server, outage=OUTAGE, stop_after=100))
    committed = sum(len(chunk.numbers) for chunk, _ in carried.commits)
    assert committed == 100 * 19
    assert carried.seconds < 101
    assert all(held == [first] for first, held in carried.left.items())


def test_what_is_not_sent_of_a_chunk_does_not_wait_for_its_hot_user() -> None:
    """Rows that describe no update, and rejects."""
    users = [["hot-user", "user-1"], ["user-2"], ["hot-user"], ["hot-user", "user-3"]]
    chunks = chunks_of(users)
    late = Reject("rows.csv", 8, "missing_id", "there is none", "{}")
    chunks.append(replace(chunk_of(["hot-user"], 7), stop=12, rejects=(late,)))
    server = Destination(hot=frozenset(["hot-user"]))
    carried = run_virtual(carry_all(chunks, server, outage=OUTAGE, stop_after=100))
    last = [chunk for chunk, _ in carried.commits if chunk.first == 7]
    assert [(chunk.unchanged, chunk.rejects, chunk.again) for chunk in last] == [(3, (late,), False)]
    assert carried.left[7] == [7]
    carried = run_virtual(carry_all(chunks, server, outage=OUTAGE))
    last = [chunk for chunk, _ in carried.commits if chunk.first == 7]
    assert [(chunk.unchanged, chunk.rejects, chunk.again) for chunk in last] == [
        (3, (late,), False),
        (0, (), True),
    ]


def test_a_user_who_is_taken_again_is_hot_no_more() -> None:
    def answer(users: list[str], now: float) -> Verdict | None:
        hot = now < 200 or 500 < now < 700
        return SlowDown(None, "throttled") if hot and "hot-user" in users else None

    users = with_hot(60, 5)
    server = Destination(answer=answer, latency=20.0)
    carried = run_virtual(carry_all(chunks_of(users), server, outage=OUTAGE, slots=8))
    assert carried.total.tally.accepted == 60 * 5
    assert server.overlaps == 0


def test_a_row_that_fails_otherwise_is_no_reason_not_to_try_the_next_one_of_its_user() -> None:
    """It may be the row: each later one of the user is tried once, without another clock."""
    times: list[float] = []

    def answer(users: list[str], now: float) -> Verdict | None:
        if "hot-user" not in users:
            return None
        times.append(now)
        return TryAgain(True, "500") if now < 2 * OUTAGE else None

    users = [[f"user-{number}"] for number in range(1000)]
    for place in range(25, 1000, 50):
        users[place] = ["hot-user"]
    server = Destination(answer=answer, latency=4.0)
    waits = Backoff(longest=20.0)
    carried = run_virtual(carry_all(chunks_of(users), server, outage=OUTAGE, backoff=waits))
    assert 0 < carried.total.tally.rejected < 20
    assert carried.total.tally.accepted + carried.total.tally.rejected == 1000
    assert not any("not sent" in reason for reason in ends(carried).values())
    assert len(times) < 80


def test_what_waits_is_bounded_and_what_is_hot_for_longer_holds_up_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sender, "MOST_PARKED", 20)
    users = with_hot(100, 5)
    server = Destination(hot=frozenset(["hot-user"]))
    carried = run_virtual(carry_all(chunks_of(users), server, outage=OUTAGE))
    begun = {user for time, some in server.requests for user in some if time < OUTAGE / 2}
    assert len(begun) <= 5 * 30  # then the source waits
    assert carried.total.tally.accepted == 100 * 4
    assert carried.seconds < OUTAGE + 120


def held_before(users: list[list[str]]) -> list[Chunk]:
    """Chunks as a resumed run has them whose rows were held when others of the same chunk were committed."""
    return [replace(chunk, again=True) for chunk in chunks_of(users)]


def carry_held(chunks: list[Chunk], server: Destination, carried: Carried, **others: Any) -> Carried:
    carried.left |= {chunk.first: chunk.numbers.tolist() for chunk in chunks if chunk.again}
    return run_virtual(carry_all(chunks, server, outage=OUTAGE, carried=carried, **others))


@each_row("rate", [AdaptiveRate, partial(RateLimiter, 1000.0)])
def test_what_was_held_before_ends_in_one_outage_if_nothing_else_is_left(
    rate: Callable[[Clock], RateLimiter],
) -> None:
    """More users than slots, in chunks of their own and together, and one who is not hot any more.

    For those who are proven when that one passes, the time begins then.
    """
    users = [
        *([f"hot-{n}"] for n in range(20)),
        ["hot-20", "cool", "hot-21"],
        *([f"hot-{n}"] for n in range(5)),
    ]
    server = Destination(hot=frozenset(f"hot-{n}" for n in range(22)))
    carried = carry_held(held_before(users), server, Carried(), rate=rate)
    assert server.accepted == ["cool"]
    assert carried.total.tally.accepted == 1
    assert [reject.code for reject in carried.rejects] == ["transient"] * 27
    assert OUTAGE <= carried.seconds <= 2 * OUTAGE + 120


@each_row("until", [math.inf, OUTAGE / 2])
@each_row(
    "verdict",
    [TryAgain(True, "502"), TryAgain(False, "503"), TryAgain(False, "no connection", unsent=True)],
)
def test_what_was_held_before_is_no_reject_in_an_outage(verdict: Verdict, until: float) -> None:
    """Also if the destination throttles at last."""

    def answer(users: list[str], now: float) -> Verdict:
        return verdict if now < until else SlowDown(None, "throttled")

    carried = Carried()
    with pytest.raises(DestinationError):
        carry_held(held_before([["a"], ["b", "c"]]), Destination(answer=answer), carried)
    assert not carried.commits


def test_what_was_held_before_is_no_reject_while_others_do_not_pass_either() -> None:
    users = [*([f"held-{n}"] for n in range(20)), ["other"]]
    chunks = held_before(users)
    for others in (chunks[-1:], chunks[:1]):  # they come first, or last
        mixed = [replace(chunk, again=chunk not in others) for chunk in chunks]
        server, carried = Destination(answer=lambda *_: SlowDown(None, "throttled")), Carried()
        with pytest.raises(DestinationError):
            carry_held(mixed, server, carried)
        assert not carried.commits
        assert {user for _, some in server.requests for user in some} == {*map("".join, users)}


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6, unique=True), min_size=1, max_size=25),
    st.sets(st.integers(0, 9), max_size=3),
    st.sets(st.integers(1, 60), max_size=5),
    st.integers(1, 6),
    st.floats(0, 700) | st.none(),
    st.randoms(use_true_random=False),
)
@settings(max_examples=examples(150, 25), deadline=None)
def test_every_row_ends_once_in_order_whatever_is_hot_refused_or_fails(
    users: list[list[int]],
    hot: set[int],
    bad: set[int],
    count: int,
    stop_after: float | None,
    chance: random.Random,
) -> None:
    names = [[f"user-{number}" for number in some] for some in users]
    by_row = [name for some in names for name in some]
    throttled = {f"user-{number}" for number in hot}
    poison = frozenset(f"user-{number % 10}" for number in bad if number % 10 not in hot)

    def answer(found: list[str], now: float) -> Verdict | None:
        if throttled & {*found}:
            return SlowDown(None, "throttled")
        return TryAgain(True, "502") if chance.random() < 0.2 else None

    server = Destination(answer=answer, poison=poison, latency=1.0)
    carried = Carried()
    failed = False
    try:
        run_virtual(
            carry_all(
                chunks_of(names),
                server,
                slots=count,
                outage=OUTAGE,
                stop_after=stop_after,
                carried=carried,
            )
        )
    except DestinationError:
        failed = True  # nobody passed
    assert server.overlaps == 0
    rows: dict[str, list[int]] = defaultdict(list)
    rejects = {reject.row for _, end in carried.commits for reject in end.rejects}
    for chunk, end in carried.commits:
        tally = end.tally
        assert len(chunk.numbers) == tally.accepted + tally.merged + tally.rejected
        for number in chunk.numbers.tolist():
            rows[by_row[number - 1]].append(number)
    for name, numbers in rows.items():
        mine = [number for number, one in enumerate(by_row, start=1) if one == name]
        sent = [number for number in numbers if number not in rejects]
        assert sent == sorted(sent)
        # Before a row that is committed every older one is, but for those that are never sent any more.
        assert sorted(numbers) == mine[: len(numbers)] or not sent
        if stop_after is None and not failed:
            assert sorted(numbers) == mine
