"""The progress and speed of a run, by its events: as phrases for listeners, and as a file for `status`."""

from __future__ import annotations

import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from ..checkpoint.run_records import RunState
from ..errors import StateError
from ..run_events import Ended, Event, Paused, Progressed, Recovered, Started
from ..tally import Tally
from ..text import address, counted, one_line, rows_text, size, span
from .summary import trouble_phrases

if TYPE_CHECKING:
    from pathlib import Path

_EVERY: Final = 1.0  # seconds
_TOO_MANY_REQUESTS: Final = 429


class RunClock:
    """The clock of a listener: monotonic seconds, and the time of day; tests have their own."""

    def __call__(self) -> float:
        """The seconds."""
        return time.monotonic()

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return datetime.now(UTC)


CLOCK: Final = RunClock()


class ProgressRate:
    """Rows a second over the last `window` seconds; it has no clock of its own.

    `rows` were committed at `now`, when this process began: they don't count.
    """

    def __init__(self, rows: int, now: float, *, window: float = 30.0) -> None:
        self._window = window
        self._samples: deque[tuple[float, int]] = deque([(now, rows)])

    def note(self, rows: int, now: float) -> None:
        """Note that `rows` are committed at `now`; kept samples lie at least a second apart."""
        samples = self._samples
        if len(samples) > 2 and now - samples[-2][0] < 1.0:
            samples.pop()
        samples.append((now, rows))
        while len(samples) > 2 and samples[1][0] <= now - self._window:
            samples.popleft()

    def rate(self, now: float) -> float:
        """Return rows a second; it falls while nothing is committed, and is 0.0 before the first rows."""
        since, before = self._samples[0]
        seconds = now - since
        return (self._samples[-1][1] - before) / seconds if seconds > 0 else 0.0

    def left(self, total_rows: int | None, now: float) -> float | None:
        """Return the seconds until `total_rows` are committed at this rate; None while it is not known."""
        rate = self.rate(now)
        if total_rows is None or rate <= 0:
            return None
        return max(total_rows - self._samples[-1][1], 0) / rate


class RunProgress:
    """The progress of a run by its events so far.

    `tally` counts what is committed, of `total` rows or about `expected`. `resumed` rows were committed when
    this process `began`. `pause` is that of the destination, with the time of its end.
    """

    def __init__(self, clock: RunClock, *, window: float = 30.0) -> None:
        self._clock, self._window = clock, window
        self.begin(Tally(), None)

    def begin(self, resumed: Tally, total: int | None) -> None:
        """Begin anew."""
        self.began, self.tally, self.resumed = self._clock(), resumed, resumed.rows
        self.total = total
        self.expected: int | None = None
        self.pause: tuple[Paused, float] | None = None
        self.pace = ProgressRate(resumed.rows, self.began, window=self._window)

    def note(self, event: Event) -> None:
        """Note what happened. A pause that is over ends with the next progress."""
        match event:
            case Started(total_rows=total, resumed=resumed):
                self.begin(resumed, total)
            case Progressed(tally, expected):
                now, self.tally = self._clock(), tally
                self.expected = None if expected is None else max(expected, tally.rows)
                self.pace.note(tally.rows, now)
                if self.pause is not None and self.pause[1] <= now:
                    self.pause = None
            case Paused(seconds=seconds):
                self.pause = event, self._clock() + seconds
            case Recovered():
                self.pause = None

    @property
    def whole(self) -> int | None:
        """How many rows there are, or about how many."""
        return self.expected if self.total is None else self.total

    def left(self) -> float | None:
        """Return the seconds until the end; None while that is not known."""
        return self.pace.left(self.whole, self._clock())

    def pace_phrases(self, left_words: str = "{} left") -> list[str]:
        """Write how fast the run is, and how long it takes if that is known."""
        left = self.left()
        rate = f"{self.pace.rate(self._clock()):,.0f} rows/s"
        return [rate] if left is None else [rate, left_words.format(span(left))]

    def rows_text(self) -> str:
        """Write how many rows are done, and of how many."""
        return rows_text(self.tally.rows, self.total, self.expected)

    def problem_phrases(self) -> list[str]:
        """Write how many rows were rejected and requests retried or throttled; a phrase each, if any."""
        rejected = self.tally.rejected
        return [*([f"{rejected:,} rejected"] if rejected else []), *trouble_phrases(self.tally)]


def workload(event: Started) -> str:
    """Write how much there is to do, as far as the source knows it."""
    rows = "" if event.total_rows is None else f", {counted(event.total_rows, 'row')}"
    total = "" if event.total_bytes is None else f", {size(event.total_bytes)}"
    return f"{counted(event.files, 'file')}{rows}{total}"


def started_text(event: Started) -> str:
    """Write the destination, how much there is to do, and where an unfinished run resumes."""
    resumed = f"; {counted(event.resumed.rows, 'row')} committed before" if event.resumed.rows else ""
    return f"to {address(event.endpoint)}: {workload(event)}{resumed}"


def pause_phrases(event: Paused, seconds_left: float) -> list[str]:
    """Write why the run pauses, for how long already, until when, and when it gives up; a phrase each.

    `seconds_left` are those of the pause.
    """
    phrases = [one_line(event.reason)]
    phrases += [f"attempt {event.attempt:,}"] if event.attempt else []
    phrases.append(f"next try in {span(seconds_left)}" if seconds_left > 0 else "trying again")
    phrases += [f"away for {span(event.outage_seconds)}"] if event.outage_seconds >= 1 else []
    if event.seconds_left is not None:
        phrases.append(f"gives up in {span(event.seconds_left - event.seconds + max(seconds_left, 0.0))}")
    return phrases


class RunStateWriter:
    """Rewrites the file once a second, in a thread of its own, until the run ends; then removes it."""

    def __init__(self, path: Path, *, clock: RunClock = CLOCK) -> None:
        self._path, self._clock = path, clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="status", daemon=True)
        self._progress = RunProgress(clock)
        self._since = clock.now().timestamp()

    def __call__(self, event: Event) -> None:
        """Note what happened. No run fails for its status."""
        paused, now = self._progress.pause is not None, self._clock.now().timestamp()
        self._progress.note(event)
        match event:
            case Started():
                self._since = now
                if not self._thread.is_alive():
                    self._thread.start()
            case Paused(outage_seconds=already) if not paused:
                self._since = now - already
            case Ended() if self._thread.is_alive():  # else the file is of another run, if there is one
                self._stop.set()
                self._thread.join()
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
            case _ if isinstance(event, Recovered) or (paused and self._progress.pause is None):
                self._since = now

    def state(self) -> RunState:
        """What the run does now."""
        at, now, progress = self._clock(), self._clock.now().timestamp(), self._progress
        seconds, pause, new_rows = at - progress.began, progress.pause, progress.tally.rows - progress.resumed
        found = RunState(
            state="sending",
            since=self._since,
            updated=now,
            rows=progress.tally.rows,
            total_rows=progress.whole,
            estimated=progress.total is None and progress.expected is not None,
            rows_per_second=progress.pace.rate(at),
            average_rows_per_second=new_rows / seconds if seconds > 0 else 0.0,
            seconds_left=progress.left(),
        )
        if pause is None:
            return found
        state: Literal["paused", "outage"] = "paused" if pause[0].status == _TOO_MANY_REQUESTS else "outage"
        return replace(found, state=state, reason=one_line(pause[0].reason), next_try=now + pause[1] - at)

    def _keep_writing(self) -> None:
        while True:
            with suppress(StateError):
                self.state().save(self._path)
            if self._stop.wait(_EVERY):
                return
