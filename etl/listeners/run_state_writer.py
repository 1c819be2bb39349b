"""How far a run is, published for `propsync status` in another terminal; and in the words that it prints."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from ..checkpoint.run_state import RunState
from ..run_events import Ended, Event, Paused, Recovered, Started
from ..text import one_line, span
from .progress import RunProgress, rows_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_EVERY: Final = 1.0  # seconds
_TOO_MANY_REQUESTS: Final = 429


def state_lines(found: Mapping[str, Any], now: float) -> Iterator[str]:
    """Write what an active run does, how fast it is, and when it will end; `found` as in `status_of`."""
    if found["state"] == "preparing":
        yield "  preparing     nothing is sent yet: the source is read and compared first"
        return
    total, about = (None, found["total_rows"]) if found["estimated"] else (found["total_rows"], None)
    share = "" if found["percent"] is None else f", {found['percent']:.1f} %"
    yield f"  {found['state']:<14}{rows_text(found['rows'], total, about)}{share}"
    if found["state"] != "sending":
        since, waited = datetime.fromtimestamp(found["since"]).astimezone(), now - found["since"]
        yield f"                since {since:%H:%M:%S} ({span(max(waited, 0.0))}): {found['reason']}"
        yield f"                next try in {span(max(found['next_try'] - now, 0.0))}"
    average = f"{found['average_rows_per_second']:,.0f} on average"
    yield f"  rows/s        {found['rows_per_second']:,.0f} now, {average}"
    if found["seconds_left"] is not None:
        end = datetime.fromtimestamp(found["updated"] + found["seconds_left"]).astimezone()
        yield f"  left          {span(max(end.timestamp() - now, 0.0))}, until {end:%Y-%m-%d %H:%M}"


class RunStateWriter:
    """Rewrites the file once a second, in a thread of its own, until the run ends; then removes it.

    `clock` is in seconds and never goes back, `now` is the time of day in seconds since the epoch.
    """

    def __init__(
        self, path: Path, *, clock: Callable[[], float] = time.monotonic, now: Callable[[], float] = time.time
    ) -> None:
        self._path, self._clock, self._now = path, clock, now
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="status", daemon=True)
        self._progress = RunProgress(clock)
        self._since = now()

    def __call__(self, event: Event) -> None:
        """Note what happened. No run fails for its status."""
        paused = self._progress.pause is not None
        self._progress.note(event)
        match event:
            case Started():
                self._since = self._now()
                if not self._thread.is_alive():
                    self._thread.start()
            case Paused(outage_seconds=already) if not paused:
                self._since = self._now() - already
            case Ended() if self._thread.is_alive():  # else the file is of another run, if there is one
                self._stop.set()
                self._thread.join()
                with suppress(OSError):
                    self._path.unlink(missing_ok=True)
            case _ if isinstance(event, Recovered) or (paused and self._progress.pause is None):
                self._since = self._now()

    def state(self) -> RunState:
        """What the run does now."""
        at, now, progress = self._clock(), self._now(), self._progress
        seconds, pause = at - progress.began, progress.pause
        found = RunState(
            state="sending",
            since=self._since,
            updated=now,
            rows=progress.tally.rows,
            total_rows=progress.whole,
            estimated=progress.total is None and progress.expected is not None,
            rows_per_second=progress.pace.rate(at),
            average_rows_per_second=(progress.tally.rows - progress.resumed) / seconds
            if seconds > 0
            else 0.0,
            seconds_left=progress.left(at),
        )
        if pause is None:
            return found
        state: Literal["paused", "outage"] = "paused" if pause[0].status == _TOO_MANY_REQUESTS else "outage"
        return replace(found, state=state, reason=one_line(pause[0].reason), next_try=now + pause[1] - at)

    def _keep_writing(self) -> None:
        while True:
            with suppress(OSError):
                self.state().save(self._path)
            if self._stop.wait(_EVERY):
                return
