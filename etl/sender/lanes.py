"""Chunks under way: a bounded number of them, and for each user one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from etl.model import Chunk
from etl.sender.delivery import Delivery
from etl.sender.order import NOBODY, Keys, Order, without
from etl.sender.outcome import Outcome
from etl.sender.parts import only, whole, without_body
from etl.sender.pause import StoppedError

Settle = Callable[[Chunk, Outcome], Awaitable[None]]

# Chunks set apart keep no lane; so many of them may wait, each with no more than the rows that wait.
MOST_APART: Final = 1000


class Traffic:
    """Which users are under way, and for which of them it will take long; wakes those who wait for a turn."""

    def __init__(self) -> None:
        self._order = Order()
        self._apart: set[int] = set()
        self._parked: set[int] = set()  # sent, and waiting for earlier chunks of its users to be settled
        self._given_up: set[int] = set()
        self._signal = asyncio.Event()
        self._tickets = 0

    def enter(self, keys: Keys) -> tuple[int, list[int]]:
        """A ticket for a chunk with these users, and the tickets it has to wait for."""
        self._tickets += 1
        return self._tickets, self._order.enter(self._tickets, keys)

    def leave(self, ticket: int, *, settled: bool) -> None:
        """The chunk is settled, or given up."""
        if not settled:
            self._given_up.add(ticket)
        self._order.leave(ticket)
        self._apart.discard(ticket)
        self._parked.discard(ticket)
        self._wake()

    def narrow(self, ticket: int, keys: Keys) -> None:
        """Only these users of the chunk are still under way."""
        self._order.narrow(ticket, keys)
        self._wake()

    def set_apart(self, ticket: int) -> None:
        """What is left of the chunk will take long: others should go ahead without its users."""
        if ticket not in self._apart:
            self._apart.add(ticket)
            self._wake()

    def standing(self, tickets: list[int]) -> list[int]:
        """Those of the tickets that are still under way."""
        return [ticket for ticket in tickets if self._order.has(ticket)]

    def park(self, ticket: int) -> None:
        """Every request of the chunk has its answer, and it isn't to be settled yet."""
        self._parked.add(ticket)
        self._order.narrow(ticket, NOBODY)
        self._wake()

    async def settled(self, tickets: list[int]) -> None:
        """Wait until these chunks are settled. Raises StoppedError if one of them was given up."""
        while self.standing(tickets):
            await self.change()
        if not self._given_up.isdisjoint(tickets):
            raise StoppedError

    def any_apart(self) -> bool:
        """Whether any chunk is set apart."""
        return bool(self._apart)

    def all_apart(self, tickets: list[int]) -> bool:
        """Whether waiting for these tickets will take long."""
        return (self._apart | self._parked).issuperset(tickets)

    def held(self, tickets: list[int], keys: Keys) -> NDArray[np.bool_]:
        """Which rows of `keys` (shape (k, w)) have a user that one of the tickets has under way; (k,)."""
        shared = [self._order.shared(ticket, keys).any(axis=1) for ticket in tickets]
        held: NDArray[np.bool_] = np.logical_or.reduce(shared)
        return held

    async def room(self) -> None:
        """Wait until fewer than MOST_APART chunks are set apart, or wait to be settled."""
        while len(self._apart | self._parked) >= MOST_APART:
            await self.change()

    async def change(self) -> None:
        """Wait until a chunk leaves, narrows, or is set apart."""
        await self._signal.wait()

    def _wake(self) -> None:
        self._signal.set()
        self._signal = asyncio.Event()


class Lanes:
    """Carries chunks to their settling; at most `count` chunks at once, besides those set apart."""

    def __init__(self, count: int, delivery: Delivery, settle: Settle) -> None:
        self._count = count
        self._delivery = delivery
        self._settle = settle
        self._free = asyncio.Semaphore(count)
        self._traffic = Traffic()
        self._holding: set[_Load] = set()  # with a lane, and nothing to do but to see whether others pass
        self._unanswered = 0
        self._answered = asyncio.Event()

    async def carry(self, chunk: Chunk, group: asyncio.TaskGroup) -> None:
        """Start a chunk as soon as a lane is free; its task lives in `group`. Call it in source order."""
        await self._traffic.room()
        await self._free.acquire()
        group.create_task(self._carry(_Load(chunk, self, self._traffic, self._free, self._delivery)))

    async def drain(self) -> None:
        """Every chunk was given: wait until all are answered, and let those end that see nobody pass.

        Raises DestinationError where that shows that the run can't go on.
        """
        while self._unanswered:
            self._answered.clear()
            await self._answered.wait()
        self._delivery.conclude()

    def open(self, users: int) -> None:
        """So many identifications are to be sent."""
        self._unanswered += users

    def answered(self, users: int) -> None:
        """So many identifications have their answer, or are given up."""
        self._unanswered -= users
        if not self._unanswered:
            self._answered.set()

    def hold(self, load: _Load) -> None:
        """A load with a lane waits to see whether others pass: they get its lane, where there is no other."""
        self._holding.add(load)
        if len(self._holding) >= self._count:
            for one in self._holding:
                one.free_lane()
            self._holding.clear()

    def let_go(self, load: _Load) -> None:
        """A load doesn't wait for others any more."""
        self._holding.discard(load)

    async def _carry(self, load: _Load) -> None:
        try:
            outcome = await load.deliver()
            await load.last()
            await self._settle(load.chunk, outcome)
            load.settled = True
        except* StoppedError:
            pass  # unsettled: the next run takes it up again
        finally:
            self.let_go(load)
            load.leave()


class _Load:
    """One chunk under way; the watcher of its parts."""

    def __init__(
        self, chunk: Chunk, lanes: Lanes, traffic: Traffic, lane: asyncio.Semaphore, delivery: Delivery
    ) -> None:
        self.chunk = chunk
        self.settled = False
        self._lanes = lanes
        self._traffic = traffic
        self._lane = lane
        self._delivery = delivery
        self._ticket, self._blockers = traffic.enter(chunk.keys)
        self._open_keys = chunk.keys
        self._unanswered = chunk.users
        self._holds = 0
        self._has_lane = True
        lanes.open(chunk.users)

    async def deliver(self) -> Outcome:
        return await self._in_turn(whole(self.chunk)) if self.chunk.users else Outcome()

    def probe(self) -> bool:
        alone = not self._traffic.any_apart()
        if alone:
            self.set_apart()
        return alone

    def set_apart(self) -> None:
        self._traffic.set_apart(self._ticket)
        self.free_lane()

    def finished(self, part: Chunk) -> None:
        self._unanswered -= part.users
        self._lanes.answered(part.users)
        if len(part.keys) < len(self._open_keys):
            self._open_keys = without(self._open_keys, part.keys)
            self._traffic.narrow(self._ticket, self._open_keys)
        if self._holds and not self._unanswered:
            self._traffic.park(self._ticket)
            if self._has_lane:
                self._lanes.hold(self)

    def held(self, part: Chunk) -> None:
        self._holds += 1
        self.finished(part)

    def released(self) -> None:
        self._holds -= 1
        if not self._holds:
            self._lanes.let_go(self)

    async def last(self) -> None:
        """Wait for the earlier chunks of its users to be settled.

        They may have let these users go ahead, and wait for others. If this chunk was settled and they
        were not, the next run would send their older rows after it.
        """
        if self._traffic.standing(self._blockers):
            self.chunk = without_body(self.chunk)
            self._traffic.park(self._ticket)
            self.free_lane()
        await self._traffic.settled(self._blockers)

    def leave(self) -> None:
        self._lanes.answered(self._unanswered)
        self._traffic.leave(self._ticket, settled=self.settled)
        self.free_lane()

    async def _in_turn(self, part: Chunk) -> Outcome:
        """Send a part once no earlier chunk has one of its users under way.

        Where that takes long, only the rows of these users wait.
        """
        while blockers := self._traffic.standing(self._blockers):
            if self._traffic.all_apart(blockers):
                held = self._traffic.held(blockers, part.keys)
                if not held.any():
                    break
                if not held.all():
                    return await self._split(part, held)
                self.set_apart()
            await self._traffic.change()
        return await self._delivery.deliver(part, self)

    async def _split(self, part: Chunk, held: NDArray[np.bool_]) -> Outcome:
        now, later = only(part, np.flatnonzero(~held)), only(part, np.flatnonzero(held))
        async with asyncio.TaskGroup() as group:
            sent = group.create_task(self._delivery.deliver(now, self))
            waiting = group.create_task(self._in_turn(later))
        return sent.result() + waiting.result()

    def free_lane(self) -> None:
        if self._has_lane:
            self._has_lane = False
            self._lane.release()
