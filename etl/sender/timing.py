"""Where the time of a sender goes: what its slots wait for, moment by moment. No I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Final, Literal, TypeAlias, get_args

from ..run_events import Timing, percentile

SlotState: TypeAlias = Literal["idle", "user", "rate", "pause", "request", "commit"]

# Where parts of one chunk are in several states at once, the first of these counts.
_BUSIEST: Final[tuple[SlotState, ...]] = ("request", "rate", "pause", "commit", "user")
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


class Slot:
    """The slot of a chunk in flight: in the busiest state of its parts, and free again without any."""

    def __init__(self, times: SlotTimes) -> None:
        self._times = times
        self._parts: dict[SlotState | None, int] = dict.fromkeys((*_BUSIEST, None), 0)
        self._shown: SlotState | None = None

    def move(self, before: SlotState | None, now: SlotState | None) -> None:
        """A part goes from one state to another; None: it is not there yet, or no more."""
        self._parts[before] -= 1
        self._parts[now] += 1
        shown = next((state for state in _BUSIEST if self._parts[state]), None)
        if shown != self._shown:
            self._times.move(self._shown, shown)
            self._shown = shown
