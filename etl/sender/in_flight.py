"""Which part of which chunk is sent and committed when, and what the slots wait for. No I/O.

A chunk begins as one part, in a slot. Rows of users who are held up become parts of their own, and so do rows
that have to be sent alone. A part that will take long is parked: it has no slot, and others go ahead without
its users. A slot is free again once what remains in it is committed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import replace
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..model import Chunk
from ..run_events import Timing, percentile
from .parts import ChunkInFlight, Commit, Outcome, Part, SlotState, handed_back, places, selected
from .user_order import Chosen, HotUsers, UserOrder

# About the memory of a chunk of one row, besides its body and rows.
_FEW_ARRAYS: Final = 16 << 10


class PartsInFlight:
    """The parts in flight, in the order of their users; `begin` is called with each that is to be sent.

    `parked` are those that are parked and without an answer, with the bytes that each had then, together
    `parked_bytes`; `unanswered` counts identifications. `changed` is called when one of these gets less.
    `complete` is set once no more chunks come.
    """

    def __init__(
        self,
        times: SlotTimes,
        hot_users: HotUsers,
        *,
        begin: Callable[[Part], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        changed: Callable[[], object],
        stopping: Callable[[], bool],
    ) -> None:
        self.parked: dict[Part, int] = {}
        self.parked_bytes = self.unanswered = 0
        self.complete = False
        self._held_before = 0  # how many of `unanswered` an earlier process held
        self.hot_users, self.begin, self.spawn = hot_users, begin, spawn
        self._times, self._changed, self._stopping = times, changed, stopping
        self._order = UserOrder[Part]()

    def take(self, chunk: Chunk, commit: Commit) -> None:
        """Take the next chunk, for which a slot is free, and send what can be sent."""
        keys = chunk.keys.copy() if chunk.linked is None else np.column_stack([chunk.keys, chunk.linked])
        sent = chunk
        if chunk.rejects or chunk.unsent or chunk.skipped:  # which the chunk commits with
            sent = replace(chunk, rejects=(), unsent=(), skipped=())
        whole = ChunkInFlight(chunk, commit, self._times.move)
        part = Part(places=places(chunk), keys=keys, chunk=whole, sent=sent)
        part.enter("user")
        self._count_unanswered(part, part.users)
        self._order.enter(part)
        self._proceed(part)

    def split(self, part: Part, chosen: Chosen) -> Part:
        """Take identifications out of a part as a part of their own; the part itself if all are chosen."""
        if chosen.all():
            return part
        other = self._order.split(part, chosen)
        if part in self.parked:
            self.parked[other] = 0
        return other

    def divide(self, part: Part, *groups: NDArray[np.int64]) -> list[Part | None]:
        """Divide a part into groups of positions that cover it; None for an empty group."""
        each = [part.places[group] for group in groups]
        return [self.split(part, np.isin(part.places, some)) if len(some) else None for some in each]

    def halve(self, part: Part) -> None:
        """Send the two halves of a part, each by itself."""
        for half in self.divide(part, *np.array_split(np.arange(part.users), [part.users // 2])):
            if half is not None:
                self.begin(half)

    def held_up(self, part: Part) -> bool:
        """Whether a part of the same chunk has to be answered before; then this one begins after it."""
        if all(one.answered for one in part.before):
            return False
        part.begun = False
        part.enter("user")
        self._proceed(part)
        return True

    def park(self, part: Part) -> None:
        """Park a part that will take long: it keeps no slot, and others go ahead without its users."""
        if not part.parked:
            self._order.park(part)
            part.enter(None)
            self.parked[part] = sum(map(len, part.sent.body)) + int(part.sent.rows.nbytes) + _FEW_ARRAYS
            self.parked_bytes += self.parked[part]
            self._changed()
            self._proceed_all(part.after)

    def hold(self, part: Part) -> None:
        """Hold a part that was refused; its users' later rows may be sent meanwhile, but not committed."""
        self.park(part)
        self.parked_bytes -= self.parked.pop(part)
        part.answered = True
        self._count_unanswered(part, -part.users)
        self._changed()
        self._proceed_all(part.after)

    @property
    def only_held_left(self) -> bool:
        """Whether all that is left was held by an earlier process, when others of its chunk had passed."""
        return self.complete and self.unanswered == self._held_before

    def _count_unanswered(self, part: Part, users: int) -> None:
        self.unanswered += users
        self._held_before += users if part.sent.again else 0

    def finish(self, part: Part, outcome: Outcome) -> None:
        """End a part with its outcome."""
        self._end(part, outcome)
        if outcome.rejects and self.hot_users:
            # Rows that wait for a user who is given up end without a request.
            for key in part.keys[self.hot_users.expired(part.keys), 0].tolist():
                self._proceed_all(one for one in self._order.queue(key) if not one.begun)

    def _proceed_all(self, some: Iterable[Part]) -> None:
        for one in tuple(some):
            self._proceed(one)

    def _proceed(self, part: Part) -> None:
        """Send a part, or some of it, or commit it, as far as that is possible now."""
        hot = self.hot_users
        if part.begun:
            self._commit_if_ended(part)
        elif self._stopping():
            pass
        elif part.parked:
            if (expired := hot.expired(part.keys)).any():
                hopeless = self.split(part, expired)
                hopeless.begun = hopeless.given_up = True
                reason = f"not sent, as the server kept refusing this user: {hot.message(hopeless.keys)}"
                self._end(hopeless, handed_back(hopeless.sent, "transient", reason, "unsent"))
            if not part.begun and all(one.answered for one in part.before):
                self._send(part)
        elif all(one.parked for one in part.before):
            slow = part.waiting() | hot.known(part.keys) if part.before or hot else None
            if slow is None or not slow.any():
                self._send(part)
                return
            slow_part = self.split(part, slow)
            self.park(slow_part)
            if slow_part is not part:
                self._send(part)
            else:  # the part copies its rows, and the unsent rows of its chunk are committed at once
                part.sent = selected(part.sent, np.arange(part.users))
                if (unsent := part.chunk.take_unsent()) is not None:
                    self.spawn(part.chunk.commit(unsent, Outcome()))
                part.chunk.detach()
            self._proceed(slow_part)

    def _send(self, part: Part) -> None:
        part.begun, part.alone_since = True, self.hot_users.since(part.keys)
        part.enter("request")
        if part.users:
            self.begin(part)
        else:
            self._end(part, Outcome())

    def _end(self, part: Part, outcome: Outcome) -> None:
        part.outcome = outcome
        if not part.answered:
            self._count_unanswered(part, -part.users)
            self._changed()
        self._commit_if_ended(part)

    def _commit_if_ended(self, part: Part) -> None:
        """Commit a part that has its outcome, unless an earlier part of its users has none.

        Committed before that, the next run would send them out of order. What was never sent may be
        committed.
        """
        if part.outcome is not None and (part.given_up or not part.before):
            outcome, part.outcome = part.outcome, None
            part.enter("commit")
            self.spawn(self._commit(part, part.chunk.take_ended(part), outcome))

    async def _commit(self, part: Part, chunk: Chunk, outcome: Outcome) -> None:
        await part.chunk.commit(chunk, outcome)
        after = self._order.leave(part)
        self.parked_bytes -= self.parked.pop(part, 0)
        part.enter(None)
        self._changed()
        self._proceed_all(after)


# --- the time of the slots -------------------------------------------------------------------------------

# Latencies are counted in classes, each 3 % longer than the one before.
_CLASS: Final = math.log(1.03)
_SHARES: Final = (0.50, 0.95, 0.99)


class SlotTimes:
    """The seconds that a sender with `count` slots spends in each state, and the latencies of its requests.

    The time of each moment is shared equally by the slots that count then, so the states add up to the
    duration. A free slot counts while something may come for it: it is idle, in the state `user` while a
    chunk is `held_back`, and in the state `pause` during an `outage`. Once the source has `ended` it counts
    no more; if no other slot counts then, only rows without a slot are left, which pause.
    """

    def __init__(self, count: int, now: Callable[[], float]) -> None:
        self.count = count
        self._now = now
        self._last = now()  # when a state changed
        self._noted = {"held_back": False, "outage": False, "ended": False}
        self._seconds: dict[SlotState, float] = dict.fromkeys(get_args(SlotState), 0.0)
        self._slots: dict[SlotState | None, int] = {**dict.fromkeys(self._seconds, 0), None: count}
        self._latencies: Counter[int] = Counter()
        self._read: Counter[int] = Counter()  # of the latencies

    @property
    def free(self) -> int:
        """How many slots have no chunk."""
        return self._slots[None]

    def move(self, before: SlotState | None, now: SlotState | None) -> None:
        """A slot goes from one state to another; None: it is free."""
        self._count()
        self._slots[before] -= 1
        self._slots[now] += 1

    def note(self, what: Literal["held_back", "outage", "ended"], holds: bool = True) -> None:
        """What free slots wait for: see above."""
        if self._noted[what] != holds:
            self._count()
            self._noted[what] = holds

    def _count(self) -> None:
        """Share the time since the last change of a state."""
        now = self._now()
        seconds, self._last = now - self._last, now
        free: SlotState = "user" if self._noted["held_back"] else "pause" if self._noted["outage"] else "idle"
        counting = self.count - (self.free if self._noted["ended"] else 0)
        if not counting:
            self._seconds["pause"] += seconds
            return
        for state, slots in self._slots.items():
            if slots and (state or not self._noted["ended"]):
                self._seconds[state or free] += seconds * slots / counting

    def answered(self, latency: float) -> None:
        """A request was answered after so many seconds."""
        self._latencies[math.ceil(math.log(max(latency, 1e-6)) / _CLASS)] += 1

    def read_latencies(self) -> dict[float, int]:
        """The latencies since the last reading: seconds, with how many requests took so long."""
        fresh = self._latencies - self._read
        self._read = self._latencies.copy()
        return {math.exp((number - 0.5) * _CLASS): count for number, count in fresh.items()}

    def timing(self) -> Timing:
        """The seconds by state until now, which add up to the duration; latencies within 3 %."""
        self._count()
        reached = [percentile(self._latencies, share) for share in _SHARES] if self._latencies else []
        latency = tuple(math.exp((number - 0.5) * _CLASS) for number in reached)
        return Timing(slots=self.count, **self._seconds, latency=latency)
