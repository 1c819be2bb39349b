"""The record of a run: its settings, events and times; for its page, `propsync runs` and `report`."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import cache
from itertools import islice, pairwise
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from ..checkpoint.run_records import keep_run, past_runs
from ..errors import ExitCode, StateError
from ..run_events import (
    Detailed,
    Ended,
    Event,
    Paused,
    Progressed,
    Recovered,
    Started,
    Summary,
    Warned,
    percentile,
)
from ..tally import Tally
from ..text import one_line, shortened
from .plan_text import options_text
from .progress import CLOCK, RunClock
from .summary import summary_dict, summary_from

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMPARED: Final = 10  # runs on the page of a later one
RECORD_BYTES: Final = 20_000  # of warnings and details in a record
_MOST_WARNINGS: Final = 200
_MOST_POINTS: Final = 120  # of a series; when it is full, every other point goes
_MOST_PAUSES: Final = 60  # when there are more, those with the shortest time between become one
_MOST_REASONS: Final = 5
_LONGEST: Final = 200  # of a text, in columns
# Where quoted text begins: behind a colon, and behind the status of an answer.
_FOREIGN: Final = re.compile(r": |(?<=\b[1-5]\d\d) ")
_QUOTING: Final = frozenset({ExitCode.FAULT, ExitCode.DESTINATION})

# Texts, each with its number.
Counts = tuple[tuple[str, int], ...]
# Seconds since the start, with rows, requests and throttled answers until then, and the median and the 95th
# percentile of the time to an answer since the point before; None if there was none.
Point = tuple[float, int, int, int, float | None, float | None]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What is kept of a run.

    `pauses` has the seconds (since the start, and how long) in which the destination took no requests, and
    `paused_for` the reasons with their number. `started` is None if the run could not begin, `details` if
    nothing is known of it. `left_out` is how many warnings and items of the details are not kept.
    """

    began: datetime
    ended: datetime
    started: Started | None
    summary: Summary
    pauses: tuple[tuple[float, float], ...] = ()
    series: tuple[Point, ...] = ()
    warnings: Counts = ()
    paused_for: Counts = ()
    details: Detailed | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record as one JSON object; `summary` is what `run --json` prints."""
        return {
            **asdict(self),
            "format": 1,
            "began": self.began.isoformat(timespec="seconds"),
            "ended": self.ended.isoformat(timespec="seconds"),
            "summary": summary_dict(self.summary),
        }

    def masked(self) -> RunRecord:
        """The record without examples of rejects, and without texts of the server and of the job's own code.

        Those may quote rows.
        """
        summary, reason = self.summary, self.summary.reason or ""
        if summary.exit_code in _QUOTING or reason.startswith("the job's transform"):
            summary = replace(summary, reason=_FOREIGN.split(reason)[0])
        reasons = tuple((_FOREIGN.split(text)[0], count) for text, count in self.paused_for)
        details = self.details and replace(self.details, examples=())
        return replace(self, summary=summary, paused_for=reasons, details=details)

    @staticmethod
    def of(data: Mapping[str, Any]) -> RunRecord:
        """The record of such an object. Raises KeyError, TypeError or ValueError."""
        return _validator().validate_python({**data, "summary": summary_from(data["summary"])})


@cache
def _validator() -> TypeAdapter[RunRecord]:
    return TypeAdapter(RunRecord)


def readable_runs(state_dir: Path) -> Iterator[tuple[dict[str, Any], RunRecord]]:
    """The past runs, the latest first, as in their files and as records; unreadable ones are left out."""
    for data in past_runs(state_dir):
        with suppress(AttributeError, KeyError, TypeError, ValueError):
            yield data, RunRecord.of(data)


def past_records(state_dir: Path) -> list[RunRecord]:
    """The latest records of a state folder, as many as a page compares with."""
    return [record for _, record in islice(readable_runs(state_dir), COMPARED)]


class RunRecorder:
    """Collects the record of a run, in memory that does not grow with its length.

    With `mask` it is masked.
    """

    def __init__(self, *, clock: RunClock = CLOCK, mask: bool = False) -> None:
        self._clock, self._mask = clock, mask
        self._start, self._began = clock(), clock.now()
        self._started: Started | None = None
        self._details: Detailed | None = None
        self._warnings: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._pauses: list[tuple[float, float]] = []
        self._pause: float | None = None  # since when the destination takes no requests
        # Points, each with the latencies since the one before; those since the last point are open.
        self._series: list[tuple[float, Tally, Counter[float]]] = []
        self._open: Counter[float] = Counter()
        self._tally, self._every = Tally(), 1.0

    def note(self, event: Event) -> None:
        """Note what happened."""
        at = round(self._clock() - self._start, 3)
        match event:
            case Started():
                self._started, self._began, self._start = event, self._clock.now(), self._clock()
                self._tally = event.resumed
                self._mark(0.0)
            case Progressed(tally):
                self._tally = tally
                self._open.update(event.latencies)
                self._mark(at)
            case Paused(reason):
                if reason in self._reasons or len(self._reasons) < _MOST_REASONS:
                    self._reasons[reason] += 1
                if self._pause is None:
                    self._pause = max(at - event.outage_seconds, 0.0)
                    self._mark(at)
            case Recovered(seconds):
                self._add_pause(max(at - seconds, 0.0), seconds)
                self._mark(at)
            case Warned(_, message) if message in self._warnings or len(self._warnings) < _MOST_WARNINGS:
                self._warnings[message] += 1
            case Detailed():
                self._details = event

    def record(self, summary: Summary) -> RunRecord:
        """The record, once the run is over."""
        at = round(self._clock() - self._start, 3)
        if self._pause is not None:
            self._add_pause(self._pause, at - self._pause)
        if self._series and (summary.tally.rows > self._series[-1][1].rows or at > self._series[-1][0] + 1):
            # The last interval is no shorter than the others, or its speed would be chance.
            short = len(self._series) > 1 and at < self._series[-1][0] + self._every / 2
            found = self._series.pop()[2] if short else Counter[float]()
            self._series.append((at, summary.tally, found + self._open))
        series = tuple(
            (at, t.rows, t.requests, t.throttled, _answered_within(found, 0.5), _answered_within(found, 0.95))
            for at, t, found in self._series
        )
        pauses, ended = tuple(self._pauses), self._clock.now()
        texts = tuple(self._warnings.items()), tuple(self._reasons.most_common()), self._details
        record = RunRecord(self._began, ended, self._started, summary, pauses, series, *texts)
        return fitted(record.masked() if self._mask else record)

    def _mark(self, at: float) -> None:
        """Add a point if the last one is long enough ago."""
        if self._series and at < self._series[-1][0] + self._every:
            return
        self._series.append((at, self._tally, self._open))
        self._open = Counter()
        if len(self._series) > _MOST_POINTS:
            first, *others = self._series
            pairs = zip(others[::2], others[1::2], strict=True)
            self._series = [first, *((*two[:2], one[2] + two[2]) for one, two in pairs)]
            self._every = max(2 * self._every, 0.99 * at / (len(self._series) - 1))

    def _add_pause(self, at: float, seconds: float) -> None:
        self._pause = None
        self._pauses.append((round(at, 3), round(seconds, 3)))
        if len(self._pauses) > _MOST_PAUSES:
            between = [later[0] - sum(earlier) for earlier, later in pairwise(self._pauses)]
            n = between.index(min(between))
            begin, *_ = self._pauses[n]
            end = max(map(sum, self._pauses[n : n + 2]))
            self._pauses[n : n + 2] = [(begin, round(end - begin, 3))]


def _answered_within(latencies: Counter[float], share: float) -> float | None:
    """The time within which this share of the requests was answered; None if there were none."""
    return round(percentile(latencies, share), 4) if latencies else None


def _clipped(value: Any) -> Any:
    """The same with each text on one line, and short enough to be kept."""
    if isinstance(value, str):
        return shortened(one_line(value), _LONGEST)
    return tuple(map(_clipped, value)) if isinstance(value, tuple) else value


def fitted(record: RunRecord) -> RunRecord:
    """Shorten the texts and lists of a record to RECORD_BYTES; `left_out` counts the items that go."""
    given = record.details or Detailed()
    mapping = [(name, column, options_text(options)) for name, column, options in given.mapping]
    changes = sorted((given.changes or {}).items(), key=lambda item: (-sum(item[1]), item[0]))
    lists: dict[str, Any] = {"warnings": record.warnings, "mapping": tuple(mapping)}
    lists |= {"files": given.files, "examples": given.examples, "changes": tuple(changes)}
    lists = {name: _clipped(items) for name, items in lists.items()}
    whole = {name: len(items) for name, items in lists.items()}
    while sum(sizes := [len(json.dumps(items)) for items in lists.values()]) > RECORD_BYTES:
        longest = list(lists)[sizes.index(max(sizes))]
        lists[longest] = lists[longest][: len(lists[longest]) * 3 // 4]
    left_out = {name: whole[name] - len(items) for name, items in lists.items() if len(items) < whole[name]}
    warnings, changed = lists.pop("warnings"), dict(lists.pop("changes"))
    lists["changes"] = None if given.changes is None else changed
    details = record.details and Detailed(**lists, rejects_path=_clipped(given.rejects_path))
    reasons = _clipped(record.paused_for)
    return replace(record, warnings=warnings, paused_for=reasons, details=details, left_out=left_out)


class HistoryListener:
    """Writes the record into the state folder when the run ends, if it can: no run fails for its record."""

    def __init__(self, state_dir: Path, *, mask: bool = False) -> None:
        self._state_dir, self._recorder = state_dir, RunRecorder(mask=mask)

    def __call__(self, event: Event) -> None:
        """Note what happened; at the end, keep the record."""
        self._recorder.note(event)
        # A run that could not begin leaves no folder behind, but a record if there is one.
        if isinstance(event, Ended) and self._state_dir.is_dir():
            record = self._recorder.record(event.summary)
            with suppress(StateError, OSError):
                keep_run(self._state_dir, record.as_dict(), record.ended)
