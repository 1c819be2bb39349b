"""A destination in memory that obeys simple rules, and chunks for it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from etl import amplitude
from etl.keys import hash_texts
from etl.model import Body, Chunk, Listener, Reject
from etl.responses import Accepted, Refused, SlowDown, Verdict
from etl.sender import AdmittedRate, Delivery, Lanes, Outcome, Pace, Pause, Rate, Transport, Waits
from etl.sender.pacing import Clock
from tests.sender.virtual import virtual_clock

_WAITS = Waits()


@dataclass
class Destination:
    """Refuses requests with a poisoned user, throttles those with a hot one, and notes what it saw."""

    poison: frozenset[str] = frozenset()
    hot: frozenset[str] = frozenset()
    latency: float = 0.1
    answer: Callable[[list[str], float], Verdict | None] = lambda users, now: None
    requests: list[tuple[float, list[str]]] = field(default_factory=list)
    accepted: list[str] = field(default_factory=list)
    times: dict[str, float] = field(default_factory=dict)
    under_way: Counter[str] = field(default_factory=Counter)
    overlaps: int = 0
    most_at_once: int = 0
    throttle_seconds: float = amplitude.THROTTLE_SECONDS

    async def pack(self, body: Body) -> Body:
        return body

    async def post(self, request: Body) -> Verdict:
        users = [entry["user_id"] for entry in json.loads(b"".join(request))]
        now = asyncio.get_running_loop().time
        self.requests.append((now(), users))
        self.under_way.update(users)
        self.overlaps += any(self.under_way[user] > 1 for user in users)
        self.most_at_once = max(self.most_at_once, sum(1 for count in self.under_way.values() if count))
        await asyncio.sleep(self.latency)
        self.under_way.subtract(users)
        verdict = self.answer(users, now()) or self._verdict(users)
        if isinstance(verdict, Accepted):
            self.accepted += users
            self.times.update(dict.fromkeys(users, now()))
        return verdict

    def _verdict(self, users: Iterable[str]) -> Verdict:
        found = frozenset(users)
        if found & self.hot:
            return SlowDown(None, "throttled")
        return Refused(400, "invalid") if found & self.poison else Accepted()


def chunk_of(users: list[str], first: int = 1, *, different: int = 2**64 - 1) -> Chunk:
    """A row for each user; at most so many `different` keys, so that users may share one."""
    lines = [json.dumps({"user_id": user}).encode() for user in users]
    numbers = np.arange(first, first + len(users))
    return Chunk(
        source="rows.csv",
        file=0,
        first=first,
        stop=first + len(users),
        body=(b"[" + b",".join(lines) + b"]",),
        ends=np.cumsum([len(line) + 1 for line in lines]),
        keys=hash_texts(pa.array(users, pa.string()), 1).reshape(-1, 1) % np.uint64(different),
        numbers=numbers,
        owners=np.arange(len(users)),
        rows=pa.record_batch({"id": users}),
    )


@dataclass
class Journey:
    """What became of chunks that were carried to a destination."""

    committed: dict[int, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    # asyncio shows what a task came to as a whole.
    commits: list[tuple[Chunk, Outcome]] = field(default_factory=list, repr=False)
    left: dict[int, list[int]] = field(default_factory=dict, repr=False)

    def commit(self, chunk: Chunk, outcome: Outcome) -> None:
        """A chunk, or a part of one; what its other parts may be is given by those before."""
        held = [] if chunk.held is None else chunk.held.tolist()
        before = self.left.get(chunk.first, [*chunk.numbers.tolist(), *held])
        assert chunk.again == (chunk.first in self.left)
        assert sorted(before) == sorted([*chunk.numbers.tolist(), *held])
        self.left[chunk.first] = held
        self.commits.append((chunk, outcome))
        self.committed[chunk.first] = self.committed.get(chunk.first, Outcome()) + outcome

    @property
    def total(self) -> Outcome:
        return sum(self.committed.values(), Outcome())

    @property
    def rejects(self) -> list[Reject]:
        return sorted(self.total.rejects, key=lambda reject: reject.row)


async def carry_all(
    chunks: Iterable[Chunk],
    destination: Transport,
    *,
    lanes: int = 4,
    outage: float = 1800.0,
    stop_after: float | None = None,
    waits: Waits = _WAITS,
    pace: Callable[[Clock], Pace] = AdmittedRate,
    listener: Listener = lambda event: None,
    resent: int = 0,
    journey: Journey | None = None,
) -> Journey:
    """Carry chunks in virtual time; returns once each is committed or given up.

    What was committed before an error stands in `journey`.
    """
    clock, journey = virtual_clock(), Journey() if journey is None else journey
    pause = Pause(
        clock, waits, outage=outage, listener=listener, throttle_seconds=destination.throttle_seconds
    )
    delivery = Delivery(
        destination,
        pause=pause,
        requests=Rate(None, clock),
        identifications=pace(clock),
        slots=lanes,
        clock=clock,
        outage=outage,
        resent=resent,
    )

    async def commit(chunk: Chunk, outcome: Outcome) -> None:
        journey.commit(chunk, outcome)

    if stop_after is not None:
        asyncio.get_running_loop().call_later(stop_after, pause.stop)
    road = Lanes(lanes, delivery, commit)
    async with asyncio.TaskGroup() as group:
        for chunk in chunks:
            if pause.stopping:
                break
            await road.carry(chunk, group)
        await road.drain()
    meter = delivery.read_meter()
    journey.committed[-1] = replace(Outcome(), tally=meter)
    journey.seconds = clock.now()
    return journey
