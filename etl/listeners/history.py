"""The record of a run for `propsync runs` and `propsync report`: what was asked, what happened, and when."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ..checkpoint import StateDir
from ..checkpoint.history import keep_run
from ..errors import StateError
from ..run_events import Ended, Event, Progressed, Recovered, Started, Warned
from .summary import summary_dict

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_WARNINGS: Final = 200
_MOST_POINTS: Final = 240  # of a series; when it is full, every other point goes


class RunRecord:
    """Collects what a run's page shows. `series` has, by second since the start, rows, requests and 429s.

    `pauses` has the seconds (since the start, and how long) in which the destination took no requests.
    `clock` is in seconds and never goes back, `now` is the time of day.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock, self._now = clock, now
        self._start, self.began = clock(), now()
        self.started: Started | None = None
        self.warnings: Counter[Warned] = Counter()
        self.pauses: list[tuple[float, float]] = []
        self.series: list[tuple[float, int, int, int]] = []
        self._every = 1.0

    def __call__(self, event: Event) -> None:
        """Note what happened."""
        at = round(self._clock() - self._start, 3)
        match event:
            case Started():
                self.started, self.began, self._start = event, self._now(), self._clock()
            case Progressed(tally) if not self.series or at >= self.series[-1][0] + self._every:
                self.series.append((at, tally.rows, tally.requests, tally.throttled))
                if len(self.series) > _MOST_POINTS:
                    self.series, self._every = self.series[::2], self._every * 2
            case Recovered(seconds):
                self.pauses.append((max(at - seconds, 0.0), seconds))
            case Warned() if event in self.warnings or len(self.warnings) < MOST_WARNINGS:
                self.warnings[event] += 1

    def as_dict(self, ended: Ended) -> dict[str, Any]:
        """The record as one JSON object, once the run is over."""
        return {
            "format": 1,
            "began": self.began.isoformat(timespec="seconds"),
            "ended": self._now().isoformat(timespec="seconds"),
            "started": None if self.started is None else asdict(self.started),
            "summary": summary_dict(ended.summary),
            "pauses": self.pauses,
            "series": self.series,
            "warnings": [(warned.message, times) for warned, times in self.warnings.items()],
        }


class HistoryListener:
    """Writes the record into the state folder when the run ends, if it can: no run fails for its record."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir, self._record = state_dir, RunRecord()

    def __call__(self, event: Event) -> None:
        """Note what happened; at the end, keep the record."""
        self._record(event)
        if isinstance(event, Ended):
            with suppress(StateError):
                StateDir(self._state_dir).prepare()
                keep_run(self._state_dir, self._record.as_dict(event), datetime.now(UTC))
