"""How fast rows are committed now, and how long the rest will take; no clock of its own."""

from __future__ import annotations

from collections import deque


class Pace:
    """A rate over the last `window` seconds.

    `rows` were committed at `now`, when this process began: they don't count.
    """

    def __init__(self, rows: int, now: float, *, window: float = 30.0) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque([(now, rows)])

    def note(self, rows: int, now: float) -> None:
        """Take in that `rows` are committed at `now`; kept samples lie at least a second apart."""
        samples = self._samples
        if len(samples) > 2 and now - samples[-2][0] < 1.0:
            samples.pop()
        samples.append((now, rows))
        while len(samples) > 2 and samples[1][0] <= now - self._window:
            samples.popleft()

    def rate(self, now: float) -> float:
        """Give rows a second; falls while nothing is committed, and is 0.0 before the first rows."""
        since, before = self._samples[0]
        seconds = now - since
        return (self._samples[-1][1] - before) / seconds if seconds > 0 else 0.0

    def left(self, total_rows: int, now: float) -> float | None:
        """Give the seconds until `total_rows` are committed at this rate; None while it can't be told."""
        rate = self.rate(now)
        rows = max(total_rows - self._samples[-1][1], 0)
        return rows / rate if rate > 0 else None
