"""A destination in memory that admits so many identifications a second, and endless chunks for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from etl.amplitude.requests import TRANSPORT_RULES, TransportRules
from etl.amplitude.responses import Accepted, SlowDown, Verdict
from etl.model import Body, Chunk

SIZE = 500


@dataclass
class RateLimitedServer:
    """A bucket that `limit` (identifications a second, by time) fills, up to `burst` seconds' worth of it.

    It answers after `latency` and up to `jitter` seconds more, which grow by `knee` for each request above
    four that is open at once. A greedy client beside us takes `taken(now)` identifications a second if
    they are there. `answers` are the times, sizes and whether they were admitted.
    """

    limit: Callable[[float], float]
    burst: float = 1.0
    latency: float = 0.08
    jitter: float = 0.0
    knee: float = 0.0
    retry_after: float | None = None
    taken: Callable[[float], float] = lambda now: 0.0
    seed: int = 0
    answers: list[tuple[float, int, bool]] = field(default_factory=list)
    offered: list[tuple[float, float]] = field(default_factory=list)
    level: float = field(init=False)
    seen: float = 0.0
    open: int = 0
    rules: TransportRules = TRANSPORT_RULES["identify"]

    def __post_init__(self) -> None:
        self._chance = random.Random(self.seed).random
        self.level = self.limit(0.0) * self.burst

    async def pack(self, body: Body) -> Body:
        return body

    async def post(self, request: Body) -> Verdict:
        self.open += 1
        slow = self.latency + self.jitter * self._chance() + self.knee * max(0, self.open - 4)
        await asyncio.sleep(slow / 2)
        verdict = self._admit(asyncio.get_running_loop().time(), b"".join(request).count(b"0"))
        await asyncio.sleep(slow / 2)
        self.open -= 1
        return verdict

    def _admit(self, now: float, amount: int) -> Verdict:
        # Step by step, so that limits may change between two requests.
        while self.seen < now:
            step = min(0.01, now - self.seen)
            limit, taken = self.limit(self.seen), self.taken(self.seen)
            self.seen += step
            self.level = min(limit * self.burst, self.level + (limit - min(limit, taken)) * step)
            self.offered.append((self.seen, (limit - min(limit, taken)) * step))
        admitted = self.level >= amount
        self.level -= amount * admitted
        self.answers.append((now, amount, admitted))
        return Accepted() if admitted else SlowDown(self.retry_after, "slow down")

    def used(self, begin: float, end: float) -> float:
        """What share of the identifications that would have been admitted between two times was used."""
        taken = sum(amount for now, amount, admitted in self.answers if begin <= now < end and admitted)
        return taken / sum(amount for now, amount in self.offered if begin <= now < end)

    def refused(self, begin: float, end: float) -> float:
        """What share of the requests between two times was refused."""
        verdicts = [admitted for now, _, admitted in self.answers if begin <= now < end]
        return verdicts.count(False) / len(verdicts)


def plain_chunks(size: int = SIZE) -> Iterator[Chunk]:
    """Chunks without end, each of `size` other users."""
    body, ends = b"[" + b",".join([b"0"] * size) + b"]", np.arange(2, 2 * size + 2, 2)
    rows, owners = pa.record_batch({"id": pa.nulls(size)}), np.arange(size)
    first = 1
    while True:
        numbers = np.arange(first, first + size)
        keys = numbers.astype(np.uint64).reshape(-1, 1)
        yield Chunk("rows.csv", 0, first, first + size, (body,), ends, keys, numbers, owners, rows)
        first += size
