"""How far a run is and how fast, in numbers and in the words that the terminal and the log share."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

from ..text import address, counted, one_line, size, span
from .summary import trouble_phrases

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..model import Tally
    from ..run_events import Paused, Recovered, Started


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


def workload(event: Started) -> str:
    """Write how much there is to do, as far as the source knows it."""
    rows = "" if event.total_rows is None else f", {counted(event.total_rows, 'row')}"
    total = "" if event.total_bytes is None else f", {size(event.total_bytes)}"
    return f"{counted(event.files, 'file')}{rows}{total}"


def started_text(event: Started) -> str:
    """Write the destination, how much there is to do, and where an unfinished run resumes."""
    resumed = f"; {counted(event.resumed.rows, 'row')} committed before" if event.resumed.rows else ""
    return f"to {address(event.endpoint)}: {workload(event)}{resumed}"


def rows_text(tally: Tally, total_rows: int | None, expected_rows: int | None = None) -> str:
    """Write how many rows are done, and of how many, or of about how many, to three digits."""
    if total_rows is not None:
        return f"{tally.rows:,} of {counted(total_rows, 'row')}"
    if expected_rows is None:
        return counted(tally.rows, "row")
    about = max(tally.rows, round(float(f"{expected_rows:.3g}")))
    return f"{tally.rows:,} of about {counted(about, 'row')}"


def problem_phrases(tally: Tally) -> list[str]:
    """Write what did not go smoothly, a phrase each; empty on a good day."""
    return [*([f"{tally.rejected:,} rejected"] if tally.rejected else []), *trouble_phrases(tally)]


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


def recovered_text(event: Recovered) -> str:
    """Write that the run goes on."""
    return f"the destination takes requests again after {span(event.seconds)}"


def options_text(options: Mapping[str, Any]) -> str:
    """How a value is made from its column, in the words of the job file."""
    phrases = []
    for name, value in options.items():
        if name == "transform":
            for step in value:
                words = [str(word) if isinstance(word, str) else json.dumps(word) for word in step.values()]
                phrases.append(" ".join(words))
        else:
            phrases.append(
                f"{name.replace('_', ' ')}: {value if isinstance(value, str) else json.dumps(value)}"
            )
    return ", ".join(phrases)
