"""Chunks under way: a bounded number of them, and for each user one after the other.

A chunk has a lane until it is committed. Its rows of users who are held up are portions of their own without
a lane: they wait in the queues of their users, and are committed when they have their end. What waits is
bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final

import numpy as np

from etl.model import Chunk
from etl.sender.delivery import Delivery
from etl.sender.load import Load, Portion
from etl.sender.order import Claim, Mask, Order
from etl.sender.outcome import Outcome, never_sent
from etl.sender.parts import bytes_of, only, places
from etl.sender.pause import StoppedError

Commit = Callable[[Chunk, Outcome], Awaitable[None]]

# So many portions, with so many bytes, may be without a lane before no chunk is begun any more.
MOST_APART: Final = 4096
MOST_APART_BYTES: Final = 64 << 20


class Lanes:
    """Carries chunks until `commit` has committed them; `count` at once, besides what is set apart."""

    def __init__(self, count: int, delivery: Delivery, commit: Commit) -> None:
        self._count = self._free = count
        self._delivery = delivery
        self._on_commit = commit
        self._order = Order()
        self._portions: dict[Claim, Portion] = {}
        self._apart = self._apart_bytes = 0
        self._refused: dict[Portion, None] = {}  # waiting to see whether others pass
        self._holding: dict[Portion, None] = {}  # the same, with a lane
        self._unanswered = 0
        self._stopped = False
        self._changed = asyncio.Event()

    async def carry(self, chunk: Chunk, group: asyncio.TaskGroup) -> None:
        """Begin with a chunk as soon as a lane is free; its tasks live in `group`. Call it in source order.

        Nothing is begun any more once the run is stopping.
        """
        while not self._stopped and not self._has_room():
            await self._change()
        if self._stopped:
            return
        self._free -= 1
        self._unanswered += chunk.users
        keys = chunk.keys if chunk.linked is None else np.column_stack([chunk.keys, chunk.linked])
        claim = self._order.enter(places(chunk), keys)
        portion = self._portions[claim] = Load(chunk, claim, self, group).whole()
        self._proceed(portion)

    async def drain(self) -> None:
        """Every chunk was given: wait until all are answered, and let those end that see nobody pass.

        Raises DestinationError where that shows that the run can't go on.
        """
        while self._unanswered and not self._stopped:
            await self._change()
        self._delivery.conclude()

    # What loads tell.

    def probe(self, portion: Portion, part: Chunk) -> bool:
        """Let others ahead of a part that failed twice, unless that is done for another one."""
        alone = self._apart == len(self._refused)
        if alone:
            self._without(portion, self._set_apart(portion, portion.where(part), part))
        return alone

    def set_apart(self, portion: Portion, part: Chunk, sending: Coroutine[None, None, None]) -> None:
        """Let others ahead of a part that `sending` brings to its end."""
        apart = self._set_apart(portion, portion.where(part), part)
        apart.sent = part.users
        self._start(apart.load, self._run(apart, sending))
        self._without(portion, apart)

    def finished(self, portion: Portion, part: Chunk, outcome: Outcome) -> None:
        """Part of a portion has its end."""
        if not portion.had_answer(part):
            self._answered(part.users)
        if portion.claim.apart:
            portion = self._split(portion, portion.where(part))
        portion.end(part, outcome)
        if outcome.rejects and self._delivery.heat:
            self._give_up_queues(part)
        if part.users != portion.sent:  # the task that sends it whole commits it
            self._follow(portion)

    def held(self, portion: Portion, part: Chunk) -> None:
        """Part of a portion was refused, and waits; its users' later rows may be sent meanwhile."""
        self._answered(part.users)
        portion.hold(part)
        if portion.claim.apart:
            self._let_others_pass(self._split(portion, portion.where(part)))
        elif portion.only_pending():
            self._let_others_pass(portion)

    def released(self, portion: Portion) -> None:
        """It waits no longer."""
        self._holding.pop(portion, None)

    def _without(self, portion: Portion, apart: Portion) -> None:
        """What was set apart of a portion may have been the last of it."""
        if apart is not portion:
            self._follow(portion)

    def _follow(self, portion: Portion) -> None:
        """See what is to be done once something of a portion has its end."""
        if portion.only_pending():
            self._let_others_pass(portion)
        else:
            self._commit_if_ended(portion)

    # Who goes when.

    def _proceed(self, portion: Portion) -> None:
        """Do what can be done with a portion by now: send it, or some of it, or commit it."""
        claim, heat = portion.claim, self._delivery.heat
        if portion.part is None:
            self._commit_if_ended(portion)
        elif self._stopped:
            pass
        elif claim.apart:
            over = heat.over(claim.keys)
            if over.any():
                self._give_up(self._split(portion, over))
            if portion.part is not None and all(one.answered for one in claim.before):
                self._send(portion)
        elif all(one.apart for one in claim.before):
            slow = claim.waiting() | heat.known(claim.keys) if claim.before or heat else None
            if slow is not None and slow.any():
                apart = self._set_apart(portion, slow)
                if apart is portion:
                    self._detach(portion)
                else:
                    self._send(portion)
                self._proceed(apart)
            else:
                self._send(portion)

    def _send(self, portion: Portion) -> None:
        part, portion.part = portion.part, None
        assert part is not None  # noqa: S101 - it is sent once
        portion.sent = part.users
        self._start(portion.load, self._run(portion, self._deliver(part, portion.load)))

    async def _deliver(self, part: Chunk, load: Load) -> None:
        if part.users:
            await self._delivery.deliver(part, load)

    async def _run(self, portion: Portion, sending: Coroutine[None, None, None]) -> None:
        """Bring a portion to its end, and commit it."""
        try:
            try:
                await sending
            except* StoppedError:
                self._stop(portion.load)
            if (ended := self._ended(portion)) is not None:
                await self._commit(portion, *ended)
        except BaseException:
            self._stop()
            raise

    def _detach(self, portion: Portion) -> None:
        """A chunk waits as a whole: it owns what it has, and what isn't sent of it is committed at once."""
        if portion.part is not None:
            portion.part = only(portion.part, np.arange(portion.part.users))
        if (idle := portion.load.idle()) is not None:
            self._start(portion.load, self._write(idle, Outcome()))
        portion.load.detach()

    def _start(self, load: Load, coroutine: Coroutine[None, None, None]) -> None:
        try:
            load.group.create_task(coroutine)
        except RuntimeError:  # an error ends the group, and this task with it
            coroutine.close()

    def _set_apart(self, portion: Portion, chosen: Mask, part: Chunk | None = None) -> Portion:
        """Some of a portion will take long: it keeps no lane, and others go ahead without these users.

        `part` is what they have of what was sent, where they were sent.
        """
        apart = self._split(portion, chosen)
        if not apart.claim.apart:
            self._apart += 1
            self._order.set_apart(apart.claim)
            waiting = part if apart.part is None else apart.part
            apart.bytes = 0 if waiting is None else bytes_of(waiting)
            self._apart_bytes += apart.bytes
            self._free_lane(apart)
            self._proceed_after(apart.claim)
        return apart

    def _let_others_pass(self, portion: Portion) -> None:
        """What is left of a portion waits to see whether others are accepted; the rest is committed."""
        if portion.claim.apart:
            waiting = portion
        else:
            waiting = self._split(portion, portion.still_open())
            waiting.lane, portion.lane = portion.lane, portion.lane and waiting is portion
            self._order.set_apart(waiting.claim)
            self._apart += 1
        waiting.claim.answered, self._refused[waiting] = True, None
        if waiting.lane:
            self._hold_lane(waiting)
        self._proceed_after(waiting.claim)
        if waiting is not portion:
            self._commit_if_ended(portion)

    def _split(self, portion: Portion, chosen: Mask) -> Portion:
        """Some identifications of a portion, of which none has its end, as a portion of their own."""
        if chosen.all():
            return portion
        part = portion.part
        claim = self._order.split(portion.claim, chosen)
        other = self._portions[claim] = Portion(portion.load, claim)
        if portion in self._refused:
            self._refused[other] = None
        portion.load.divide(other)
        portion.moved(other)
        if part is not None:
            other.part = only(part, np.flatnonzero(chosen))
            portion.part = only(part, np.flatnonzero(~chosen))
        self._apart += claim.apart
        return other

    def _proceed_after(self, claim: Claim) -> None:
        for one in tuple(claim.after):
            self._proceed(self._portions[one])

    # Users who are given up.

    def _give_up_queues(self, part: Chunk) -> None:
        """Rows that wait for a user whose time is over have their end without a request."""
        for key in part.keys[self._delivery.heat.over(part.keys), 0].tolist():
            for claim in self._order.queue(key):
                if claim in self._portions and self._portions[claim].part is not None:
                    self._proceed(self._portions[claim])

    def _give_up(self, portion: Portion) -> None:
        part, portion.part = portion.part, None
        assert part is not None  # noqa: S101 - it waits
        portion.given_up = True
        self._answered(part.users)
        portion.end(part, never_sent(part, self._delivery.heat.words(part.keys)))
        self._commit_if_ended(portion)

    # Committing.

    def _commit_if_ended(self, portion: Portion) -> None:
        if (ended := self._ended(portion)) is not None:
            self._start(portion.load, self._commit(portion, *ended))

    def _ended(self, portion: Portion) -> tuple[Chunk, Outcome] | None:
        """What is to be committed of a portion; None where it, or what was before it, has no end.

        If it was committed before them, the next run would send them after it. What was never sent may be.
        """
        if portion.open or portion.part is not None or portion.committing:
            return None
        if portion.claim.before and not portion.given_up:
            return None
        portion.committing = True
        return portion.load.ended(portion), portion.outcome

    async def _commit(self, portion: Portion, chunk: Chunk, outcome: Outcome) -> None:
        await self._write(chunk, outcome)
        after = self._order.leave(portion.claim)
        del self._portions[portion.claim]
        portion.load.forget(portion)
        self._holding.pop(portion, None)
        self._refused.pop(portion, None)
        self._apart -= portion.claim.apart
        self._apart_bytes -= portion.bytes
        self._free_lane(portion)
        self._changed.set()
        for claim in after:
            self._proceed(self._portions[claim])

    async def _write(self, chunk: Chunk, outcome: Outcome) -> None:
        try:
            await self._on_commit(chunk, outcome)
        except BaseException:
            self._stop()
            raise

    def _stop(self, load: Load | None = None) -> None:
        """The run is stopping: begin with nothing more, and commit what has its end of a load."""
        self._stopped = True
        self._changed.set()
        for portion in load.portions() if load is not None else ():
            if portion.ended and portion.open:
                self._split(portion, portion.still_open())
                self._commit_if_ended(portion)

    # Lanes and room.

    def _has_room(self) -> bool:
        return self._free > 0 and self._apart < MOST_APART and self._apart_bytes < MOST_APART_BYTES

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _answered(self, users: int) -> None:
        self._unanswered -= users
        if not self._unanswered:
            self._changed.set()

    def _hold_lane(self, portion: Portion) -> None:
        """Those whom it waits for get its lane, where there is no other."""
        self._holding[portion] = None
        if len(self._holding) >= self._count:
            for one in self._holding:
                self._free_lane(one)
            self._holding.clear()

    def _free_lane(self, portion: Portion) -> None:
        if portion.lane:
            portion.lane = False
            self._free += 1
            self._changed.set()
