"""The sender by itself, without a pipeline, as another writer uses it; and where its time goes."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pytest

from etl.amplitude.answers import Named
from etl.amplitude.responses import SlowDownSome, TryAgain, Verdict
from etl.encoder import Limits
from etl.errors import StateError
from etl.model import Chunk
from etl.run_events import Timing
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from etl.sender import Clock, Outcome, RateLimiter, Sender
from etl.sender.transports import TRANSPORTS
from etl.tally import Tally
from tests.encoder.builders import chunks_of, mapped_of, mapper_of
from tests.sender.fake_server import Carried, Destination, carry_all, chunk_of
from tests.sender.virtual_time import run_virtual, virtual_clock

KEY = "0123456789abcdef-secret"
JOB = {"user_id": "id", "user_properties": {"plan": "plan"}}


async def written(sandbox: Sandbox, transport: str, table: pa.Table) -> tuple[list[Chunk], Outcome, Timing]:
    """Send a table as a writer does, and return what was committed."""
    way = TRANSPORTS[transport](sandbox.url, KEY, connections=4)  # type: ignore[index]
    chunks = chunks_of(
        mapped_of(mapper_of(JOB), table), Limits(identifications=10), encoding=way.encoding("0" * 32)
    )
    committed, total = list[Chunk](), Outcome()

    async def commit(chunk: Chunk, outcome: Outcome) -> None:
        nonlocal total
        committed.append(chunk)
        total += outcome

    async with way, Sender(way, slots=4) as sender:
        for chunk in chunks:
            await sender.send(chunk, commit)
    return committed, total, sender.timing()


@pytest.mark.parametrize("transport", ["identify", "batch"])
def test_rows_arrive_without_a_pipeline(transport: str) -> None:
    ids = [f"user-{n % 60}" for n in range(100)]
    table = pa.table({"id": ids, "plan": [f"p{n}" for n in range(100)]})
    with running_sandbox(SandboxOptions()) as sandbox:
        committed, total, timing = asyncio.run(written(sandbox, transport, table))
        assert len(sandbox.profiles.users) == 60
        plans = {user: profile.properties["plan"] for user, profile in sandbox.profiles.users.items()}
        assert plans == {f"user-{n}": f"p{n + 60 if n < 40 else n}" for n in range(60)}
    assert sorted(chunk.first for chunk in committed) == list(range(1, 101, 10))
    assert (total.tally.accepted, total.tally.rejected) == (100, 0)
    assert len(timing.latency) == 3
    assert timing.request > 0


def test_the_sender_needs_no_pipeline() -> None:
    """Nothing of it imports the rooms above."""
    modules = [name for name in sys.modules if name.startswith("etl.sender")]
    for name in modules:
        for found in vars(sys.modules[name]).values():
            assert not str(getattr(found, "__module__", "")).startswith(("etl.pipeline", "etl.checkpoint"))


def test_an_error_on_committing_lets_what_is_in_flight_end_and_is_raised_as_it_is() -> None:
    done: list[int] = []

    async def main() -> None:
        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            done.append(chunk.first)
            if chunk.first == 2:
                raise StateError("the disk is full")

        server = Destination(latency=1.0)
        async with Sender(server, slots=3, clock=virtual_clock()) as sender:
            for n in range(1, 4):
                await sender.send(chunk_of([f"user-{n}"], n), commit)
            await sender.stopped.wait()
            await sender.send(chunk_of(["user-9"], 9), commit)  # nothing is begun any more

    with pytest.raises(StateError, match="the disk is full"):
        run_virtual(main())
    assert sorted(done) == [1, 2, 3]


def test_requests_that_never_end_are_given_up_after_an_error() -> None:
    async def main() -> float:
        clock, server = virtual_clock(), Destination(latency=0.5)

        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            server.latency = 1e6
            if chunk.first == 2:
                raise StateError("full")

        with suppress(StateError):
            async with Sender(server, slots=3, clock=clock) as sender:
                for n in range(1, 5):
                    await sender.send(chunk_of([f"user-{n}"], n), commit)
        return clock.now()

    assert run_virtual(main()) < 10


def test_an_error_that_is_none_of_ours_ends_all_at_once() -> None:
    async def main() -> None:
        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            raise ZeroDivisionError

        async with Sender(Destination(), clock=virtual_clock()) as sender:
            for n in range(1, 9):
                await sender.send(chunk_of([f"user-{n}"], n), commit)

    with pytest.raises(ZeroDivisionError):
        run_virtual(main())


# --- where time goes -------------------------------------------------------------------------------------


def total(timing: Timing) -> float:
    return timing.idle + timing.user + timing.rate + timing.pause + timing.request + timing.commit


def carried(users: list[list[str]], server: Destination, **how: Any) -> Carried:
    chunks, first = [], 1
    for some in users:
        chunks.append(chunk_of(some, first))
        first += len(some)
    return run_virtual(carry_all(chunks, server, slots=8, **how))


def distinct(chunks: int, size: int = 10) -> list[list[str]]:
    return [[f"user-{number}-{n}" for n in range(size)] for number in range(chunks)]


def hot(found: list[str], now: float) -> Verdict | None:
    named = tuple(user for user in found if user == "hot")
    return SlowDownSome(None, "slow", throttled=Named(named)) if named and now < 100 else None


def away(users: list[str], now: float) -> Verdict | None:
    return TryAgain(False, "503") if now < 600 else None


def fixed(clock: Clock) -> RateLimiter:
    return RateLimiter(10.0, clock)


def down(users: list[str], now: float) -> Verdict | None:
    return TryAgain(False, "503") if now < 3 else None


@pytest.mark.parametrize(
    ("users", "server", "how", "most"),
    [
        # A slow server, a rate limit, a slow source, one user, an outage: many chunks, and a single one.
        (distinct(200), Destination(latency=2.0), {}, "request"),
        (distinct(1), Destination(latency=1.0), {}, "request"),
        (distinct(50), Destination(latency=0.01), {"rate": fixed}, "rate"),
        (distinct(50), Destination(latency=0.1), {"making": 1.0}, "idle"),
        (distinct(50), Destination(latency=0.9), {"making": 1.0}, "idle"),
        ([["one"]] * 50, Destination(latency=1.0), {}, "user"),
        (distinct(20), Destination(answer=away), {}, "pause"),
        (distinct(20), Destination(answer=away), {"making": 1.0}, "pause"),
        (distinct(1), Destination(answer=away), {}, "pause"),
        (distinct(1), Destination(answer=down), {}, "pause"),
        # The last row is one that is throttled for long.
        ([["hot", f"user-{n}"] for n in range(3)], Destination(answer=hot), {}, "pause"),
        # Parts that are parked, split, refused and held: the sum holds whatever happens.
        ([["hot", f"user-{n}"] for n in range(50)], Destination(answer=hot, latency=5.0), {}, None),
        (distinct(20), Destination(poison=frozenset({"user-3-3", "user-9-0"})), {}, None),
    ],
)
def test_most_of_the_time_is_where_it_was_spent(
    users: list[list[str]], server: Destination, how: dict[str, Any], most: str | None
) -> None:
    result = carried(users, server, **how)
    assert total(result.timing) == pytest.approx(result.seconds)
    if most is not None:
        assert getattr(result.timing, most) > 0.5 * total(result.timing)


def test_slots_without_a_chunk_do_not_outweigh_the_one_that_sends() -> None:
    timing = carried(distinct(1), Destination(latency=0.03), making=0.02).timing
    assert (timing.idle, timing.request) == pytest.approx((0.02, 0.03))


def test_a_pause_and_a_commit_count_too() -> None:
    async def main() -> tuple[Timing, float]:
        clock = virtual_clock()
        answers = iter([None, SlowDownSome(40.0, "slow", throttled=Named(("user-2",)))])
        server = Destination(latency=1.0, answer=lambda users, now: next(answers, None))

        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            await asyncio.sleep(10.0)

        async with Sender(server, slots=1, clock=clock) as sender:
            await sender.send(chunk_of(["user-1"]), commit)
            await sender.send(chunk_of(["user-2", "user-3"], 2), commit)
        return sender.timing(), clock.now()

    timing, seconds = run_virtual(main())
    assert total(timing) == pytest.approx(seconds)
    assert timing.commit == pytest.approx(20.0)  # of the portion that was parked none
    assert timing.request == pytest.approx(3.0)
    # It waited and was sent without a slot, and no more was to come.
    assert timing.pause == pytest.approx(seconds - 23.0)


def test_latencies_are_percentiles_in_bounded_memory() -> None:
    async def main() -> tuple[Timing, int]:
        server, count = Destination(), 0
        server.answer = lambda users, now: None

        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            nonlocal count
            count += 1
            server.latency = 0.1 if count < 90 else 1.0 if count < 98 else 7.0

        async with Sender(server, slots=1, clock=virtual_clock()) as sender:
            assert sender.timing().latency == ()
            for n in range(1, 101):
                await sender.send(chunk_of([f"user-{n}"], n), commit)
        return sender.timing(), len(sender._times._latencies)

    timing, classes = run_virtual(main())
    assert timing.latency == pytest.approx((0.1, 1.0, 7.0), rel=0.03)
    assert classes <= 5


def test_what_was_metered_is_read_once() -> None:
    async def main() -> list[Tally]:
        async def commit(chunk: Chunk, outcome: Outcome) -> None:
            return

        async with Sender(Destination(), clock=virtual_clock()) as sender:
            await sender.send(chunk_of(["user-1"]), commit)
            await sender.drain()
            return [sender.read_meter(), sender.read_meter()]

    first, second = run_virtual(main())
    assert (first.requests, second.requests) == (1, 0)
