"""Where the time of a sender goes: what its slots wait for, moment by moment. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias, get_args

from ..run_events import Timing

SlotState: TypeAlias = Literal["idle", "user", "rate", "pause", "request", "commit"]

# Where several parts of one chunk are busy at once, the first of these states counts.
_BUSIEST: Final[tuple[SlotState, ...]] = ("request", "rate", "pause")
# Latencies are counted in classes, each so many times as long as the one before.
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
        self.count = self.free = count
        self._now = now
        self._last = now()  # when a state changed
        self._held_back = self._outage = self._ended = False
        self._taken: dict[SlotState, int] = dict.fromkeys(get_args(SlotState), 0)
        self._seconds: dict[SlotState, float] = dict.fromkeys(self._taken, 0.0)
        self._latencies: Counter[int] = Counter()
        self._read: Counter[int] = Counter()  # of the latencies

    def take(self) -> Slot:
        """Take a free slot for a chunk, which waits for its users until it is sent."""
        self._count()
        self._taken["user"] += 1
        self.free -= 1
        return Slot(self)

    def give_back(self, shown: SlotState) -> None:
        """A slot in this state is free again."""
        self._count()
        self._taken[shown] -= 1
        self.free += 1

    def move(self, before: SlotState, now: SlotState) -> None:
        """A slot that is taken goes from one state to another."""
        self._count()
        self._taken[before] -= 1
        self._taken[now] += 1

    def held_back(self, *, held: bool) -> None:
        """A chunk is ready, but it is held back because too many users are waited for; or no longer."""
        self._count()
        self._held_back = held

    def outage(self, *, lasts: bool) -> None:
        """All requests pause, or the first one has passed since."""
        self._count()
        self._outage = lasts

    def ended(self) -> None:
        """No chunk will come any more."""
        self._count()
        self._ended = True

    def _count(self) -> None:
        """Share the time since the last change of a state."""
        now = self._now()
        seconds, self._last = now - self._last, now
        free = 0 if self._ended else self.free
        counting = free + self.count - self.free
        if seconds <= 0:
            return
        for state, slots in self._taken.items():
            self._seconds[state] += seconds * slots / (counting or 1)
        free_state: SlotState = "user" if self._held_back else "pause" if self._outage else "idle"
        if free:
            self._seconds[free_state] += seconds * free / counting
        elif not counting:
            self._seconds["pause"] += seconds

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
        total, reached, latencies = self._latencies.total(), 0, list[float]()
        for number, count in sorted(self._latencies.items()):
            reached += count
            while len(latencies) < len(_SHARES) and reached >= _SHARES[len(latencies)] * total:
                latencies.append(math.exp((number - 0.5) * _CLASS))
        return Timing(slots=self.count, **self._seconds, latency=tuple(latencies))


class Slot:
    """The slot of a chunk in flight: in its `state`, unless a part of the chunk waits or awaits an answer."""

    def __init__(self, times: SlotTimes) -> None:
        self._times = times
        self._state: SlotState = "user"
        self._shown: SlotState = "user"
        self._busy: dict[SlotState, int] = dict.fromkeys(_BUSIEST, 0)
        self._released = False

    def set(self, state: SlotState) -> None:
        """Unless a part is busy, it is in this state."""
        self._state = state
        self._show()

    @contextmanager
    def during(self, state: SlotState) -> Iterator[None]:
        """A part of the chunk is in this state."""
        self._busy[state] += 1
        self._show()
        try:
            yield
        finally:
            self._busy[state] -= 1
            self._show()

    def release(self) -> None:
        """The slot is free; what the chunk does from now on counts nowhere."""
        self._times.give_back(self._shown)
        self._released = True

    def _show(self) -> None:
        shown = self._state
        for state in _BUSIEST:
            if self._busy[state]:
                shown = state
                break
        if shown != self._shown and not self._released:
            self._times.move(self._shown, shown)
            self._shown = shown
