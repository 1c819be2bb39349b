"""What a delivery works with: a transport, a record of requests, and a watcher of the parts that it sends."""

from __future__ import annotations

import math
from collections.abc import Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from ..amplitude.responses import Fate, Verdict
from ..model import Body, Chunk, End
from .outcome import Outcome
from .portions import ChunkInFlight
from .timing import SlotState


class Transport(Protocol):
    """What carries a body to the destination and classifies the answer; see `transports`."""

    @property
    def throttle_seconds(self) -> float:
        """How long to wait after a 429 without Retry-After."""

    async def pack(self, body: Body) -> Body:
        """The request that carries a body, as it goes over the wire."""

    async def post(self, request: Body) -> Verdict:
        """Send a request once."""


class InFlightRecord(Protocol):
    """What remembers whose requests are in flight; see `checkpoint.in_flight`."""

    def began(self, part: Chunk) -> None:
        """A request with the users of a part is about to be sent."""

    def ended(self, part: Chunk, fate: Fate) -> None:
        """It was answered, or never left."""


class NoRecord:
    """Remembers nothing."""

    def began(self, part: Chunk) -> None:
        """Do nothing."""

    def ended(self, part: Chunk, fate: Fate) -> None:
        """Do nothing."""


@dataclass(slots=True)
class Sending:
    """A part of a chunk, and how it has failed so far.

    `since` is when it first failed, `passes` how many requests had passed at its last failure. `by_chance` is
    how many of its last failures chance may explain, and `halved`: it is half of a part that failed too
    often. `rounds` is how often in a row it got smaller by what an answer named. `tried`: what it holds may
    have been taken by an earlier try. `doubted`: nobody knows of one of these tries whether it arrived.
    `refused` is how many requests had been accepted when a request with what it holds was first refused.
    From `parked_since` on it has a clock of its own; `parked`: others go ahead of it.
    """

    part: Chunk
    chunk: ChunkInFlight
    failures: int = 0
    since: float = math.inf
    passes: int = 0
    parked_since: float | None = None
    by_chance: int = 0
    halved: bool = False
    rounds: int = 0
    tried: bool = False
    doubted: bool = False
    refused: int | None = None
    parked: bool = False

    @property
    def end(self) -> End:
        """What has become of rows that the server doesn't take in the end."""
        return "in_doubt" if self.doubted else "refused"

    def afresh(self, part: Chunk, *, failures: int = 0, rounds: int = 0) -> Sending:
        """A smaller part of it that begins anew; what became of what it holds stays known."""
        fresh = Sending(part, self.chunk, failures=failures, rounds=rounds)
        fresh.tried, fresh.doubted, fresh.refused = self.tried, self.doubted, self.refused
        return fresh


class Watcher(Protocol):
    """What follows the parts of chunks, and runs the tasks that send them; see `sender`."""

    def spawn(self, sending: Coroutine[None, None, None]) -> None:
        """Run a task that sends a part."""

    def during(self, sending: Sending, state: SlotState) -> AbstractContextManager[None]:
        """A part waits, or awaits an answer."""

    def probe(self, sending: Sending) -> bool:
        """A part failed twice; whether others are let ahead, to see if it alone is at fault."""

    def park(self, sending: Sending) -> None:
        """A part keeps failing while others pass; others are let ahead."""

    def held(self, sending: Sending) -> None:
        """Every identification of the part was refused, and waits to see whether others are accepted."""

    def released(self, sending: Sending) -> None:
        """A part that was held is about to be finished."""

    def finished(self, sending: Sending, outcome: Outcome) -> None:
        """Every identification of the part has its end."""
