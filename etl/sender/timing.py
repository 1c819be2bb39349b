"""Where the time of a sender goes: each slot is in one state at each moment. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal, TypeAlias

from ..run_events import Timing

SlotState: TypeAlias = Literal["idle", "user", "rate", "pause", "request", "commit"]

# Where several parts of one chunk are busy at once, the first of these states counts.
_BUSIEST: Final[tuple[SlotState, ...]] = ("request", "rate", "pause")
# Latencies are counted in classes, each so many times as long as the one before.
_CLASS: Final = math.log(1.03)
_SHARES: Final = (0.50, 0.95, 0.99)


class SlotTimes:
    """The seconds that `count` slots spend in each state, from its first moment on, and latencies.

    `free` slots are idle, or in the state `user` while a chunk is held back.
    """

    def __init__(self, count: int, now: Callable[[], float]) -> None:
        self.count = self.free = count
        self.now = now
        self._last = now()  # when the number of free slots changed
        self._free_state: SlotState = "idle"
        self.seconds: dict[SlotState, float] = {"idle": 0.0, "user": 0.0, "commit": 0.0}
        self.seconds |= dict.fromkeys(_BUSIEST, 0.0)
        self._slots: dict[Slot, None] = {}
        self._latencies: Counter[int] = Counter()

    def take(self) -> Slot:
        """Take a free slot for a chunk, which waits for its users until it is sent."""
        slot = Slot(self, self._count_free(-1))
        self._slots[slot] = None
        return slot

    def give_back(self, slot: Slot) -> None:
        """The slot is free again."""
        self._count_free(1)
        del self._slots[slot]

    def hold_back(self, *, held: bool) -> None:
        """A chunk is ready, but it is held back because too many users are waited for; or no longer."""
        if held != (self._free_state == "user"):
            self._count_free()
            self._free_state = "user" if held else "idle"

    def _count_free(self, more: int = 0) -> float:
        """Add the time of the free slots, of which there are some more from now on."""
        now = self.now()
        self.seconds[self._free_state] += (now - self._last) * self.free
        self._last = now
        self.free += more
        return now

    def answered(self, latency: float) -> None:
        """A request was answered after so many seconds."""
        self._latencies[math.ceil(math.log(max(latency, 1e-6)) / _CLASS)] += 1

    def timing(self) -> Timing:
        """The seconds by state until now, `count` times the duration in all; latencies within 3 %."""
        self._count_free()
        for slot in self._slots:
            slot.count()
        total, reached, latencies = self._latencies.total(), 0, list[float]()
        for number, count in sorted(self._latencies.items()):
            reached += count
            while len(latencies) < len(_SHARES) and reached >= _SHARES[len(latencies)] * total:
                latencies.append(math.exp((number - 0.5) * _CLASS))
        return Timing(slots=self.count, **self.seconds, latency=tuple(latencies))


class Slot:
    """The slot of a chunk in flight: in its `state`, unless a part of the chunk waits or awaits an answer."""

    def __init__(self, times: SlotTimes, now: float) -> None:
        self._times = times
        self._since = now
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
        self.count()
        self._times.give_back(self)
        self._released = True

    def count(self) -> None:
        """Add the time since the last change to the state that it is in."""
        now = self._times.now()
        self._times.seconds[self._shown] += now - self._since
        self._since = now

    def _show(self) -> None:
        shown = next((state for state in _BUSIEST if self._busy[state]), self._state)
        if shown != self._shown and not self._released:
            self.count()
            self._shown = shown
