"""The record of a run: what was asked, what happened and when; for its page, `propsync runs` and `report`."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

from ..checkpoint.history import keep_run
from ..errors import StateError
from ..model import Tally
from ..run_events import Ended, Event, Progressed, Recovered, Started, Summary, Warned
from .summary import summary_dict, summary_from

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

MOST_WARNINGS: Final = 200
_MOST_POINTS: Final = 240  # of a series; when it is full, every other point goes


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is kept of a run.

    `pauses` has the seconds (since the start, and how long) in which the destination took no requests;
    `series` has seconds since the start with the rows, the requests and the throttled answers until then.
    `started` is None if the run could not begin.
    """

    began: datetime
    ended: datetime
    started: Started | None
    summary: Summary
    pauses: tuple[tuple[float, float], ...] = ()
    series: tuple[tuple[float, int, int, int], ...] = ()
    warnings: tuple[tuple[str, int], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The record as one JSON object; `summary` is what `run --json` prints."""
        return {
            **asdict(self),
            "format": 1,
            "began": self.began.isoformat(timespec="seconds"),
            "ended": self.ended.isoformat(timespec="seconds"),
            "summary": summary_dict(self.summary),
        }

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """The record of such an object. Raises KeyError, TypeError or ValueError if it is none."""
        started = data["started"]
        if started is not None:
            started = Started(**{**started, "resumed": Tally(**started["resumed"])})
        rows = {name: tuple(map(tuple, data[name])) for name in ("pauses", "series", "warnings")}
        began, ended = (datetime.fromisoformat(data[name]) for name in ("began", "ended"))
        return cls(began, ended, started, summary_from(data["summary"]), **rows)


class RunRecorder:
    """Collects the record of a run; `clock` is in seconds and never goes back, `now` is the time of day."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._clock, self._now = clock, now
        self._start, self._began = clock(), now()
        self._started: Started | None = None
        self._warnings: Counter[str] = Counter()
        self._pauses: list[tuple[float, float]] = []
        self._series: list[tuple[float, int, int, int]] = []
        self._every = 1.0

    def note(self, event: Event) -> None:
        """Note what happened."""
        at = round(self._clock() - self._start, 3)
        match event:
            case Started():
                self._started, self._began, self._start = event, self._now(), self._clock()
            case Progressed(tally) if not self._series or at >= self._series[-1][0] + self._every:
                self._series.append((at, tally.rows, tally.requests, tally.throttled))
                if len(self._series) > _MOST_POINTS:
                    self._series, self._every = self._series[::2], self._every * 2
            case Recovered(seconds):
                self._pauses.append((max(at - seconds, 0.0), seconds))
            case Warned(_, message) if message in self._warnings or len(self._warnings) < MOST_WARNINGS:
                self._warnings[message] += 1

    def record(self, summary: Summary) -> RunRecord:
        """The record, once the run is over."""
        pauses, series = tuple(self._pauses), tuple(self._series)
        warnings = tuple(self._warnings.items())
        return RunRecord(self._began, self._now(), self._started, summary, pauses, series, warnings)


class HistoryListener:
    """Writes the record into the state folder when the run ends, if it can: no run fails for its record."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir, self._recorder = state_dir, RunRecorder()

    def __call__(self, event: Event) -> None:
        """Note what happened; at the end, keep the record."""
        self._recorder.note(event)
        # A run that could not begin leaves no folder behind, but a record if there is one.
        if isinstance(event, Ended) and self._state_dir.is_dir():
            record = self._recorder.record(event.summary)
            with suppress(StateError, OSError):
                keep_run(self._state_dir, record.as_dict(), record.ended)
