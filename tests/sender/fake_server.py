"""A destination in memory that obeys simple rules, and chunks for it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from etl.amplitude.requests import TRANSPORT_RULES, TransportRules
from etl.amplitude.responses import Accepted, Refused, SlowDown, Verdict
from etl.model import Body, Chunk, Reject
from etl.run_events import Listener, Timing
from etl.sender import AdaptiveRate, Backoff, Clock, Outcome, RateLimiter, Sender, Transport
from etl.subject import hash_texts
from tests.examples import examples
from tests.sender.virtual_time import virtual_clock


def few(full: int) -> int:
    """Examples of a property that takes long: a sixth in `make test`, all in `make soak`."""
    return full if examples(full * 100) == full * 100 else max(full // 6, 5)


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
    rules: TransportRules = TRANSPORT_RULES["identify"]

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
class Carried:
    """What became of chunks that were sent to a destination."""

    committed: dict[int, Outcome] = field(default_factory=dict)
    seconds: float = 0.0
    timing: Timing = Timing()
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
    slots: int = 4,
    outage: float = 1800.0,
    stop_after: float | None = None,
    backoff: Backoff | None = None,
    rate: Callable[[Clock], RateLimiter] = AdaptiveRate,
    listener: Listener = lambda event: None,
    resent: int = 0,
    carried: Carried | None = None,
    making: float = 0.0,
) -> Carried:
    """Carry chunks in virtual time, each `making` seconds in the making, until all have their end.

    What was committed before an error stands in `carried`.
    """
    clock, carried = virtual_clock(), Carried() if carried is None else carried

    async def commit(chunk: Chunk, outcome: Outcome) -> None:
        carried.commit(chunk, outcome)

    sender = Sender(
        destination,
        rate=rate(clock),
        slots=slots,
        max_outage=outage,
        backoff=backoff,
        clock=clock,
        listener=listener,
        resent=resent,
    )
    if stop_after is not None:
        asyncio.get_running_loop().call_later(stop_after, sender.stop)
    async with sender:
        for chunk in chunks:
            if sender.stopping:
                break
            await asyncio.sleep(making)
            await sender.send(chunk, commit)
    carried.committed[-1] = Outcome(tally=sender.read_meter())
    carried.seconds = clock.now()
    carried.timing = sender.timing()
    return carried
