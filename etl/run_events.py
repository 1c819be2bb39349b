"""The events that a listener gets during a run, and the summary at its end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, TypeAlias, TypeVar

from .errors import ExitCode
from .model import Tally, counted_rows
from .text import html_table, span

_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one process of a run went, in seconds.

    `source`, `map`, `diff` and `encode` are what each stage that makes chunks was busy. Sending has `slots`
    requests at once. Each slot is at each moment in one state, and the moment is shared equally by the slots
    that have a chunk or may get one, so the sum of the next six is the duration: `idle` (no chunk is ready),
    `user` (an earlier chunk with the same user is not committed yet), `rate` (the rate limit), `pause` (the
    destination slows the run down, or is away), `request` (an answer is awaited) and `commit` (the checkpoint
    is written). `latency` has the 50th, 95th
    and 99th percentile of the time to an answer; it is empty if no request was answered.
    """

    source: float = 0.0
    map: float = 0.0
    diff: float = 0.0
    encode: float = 0.0
    slots: int = 0
    idle: float = 0.0
    user: float = 0.0
    rate: float = 0.0
    pause: float = 0.0
    request: float = 0.0
    commit: float = 0.0
    latency: tuple[float, ...] = ()


Status: TypeAlias = Literal["finished", "limited", "stopped", "interrupted"]


def percentile(counts: Mapping[_Number, int], share: float) -> _Number:
    """The least number that this share of all numbers don't exceed; each, at least one, has its count."""
    numbers = sorted(counts)
    reached = list(accumulate(counts[number] for number in numbers))
    return numbers[bisect_left(reached, share * reached[-1])]


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a run; the counts are those of the whole job since its checkpoint began.

    `status` is "limited" if all rows within the limit were sent, and there are others. `exit_code`, `reason`
    and `hint` (None where the code is 0) are decided by `etl.ending`; with `accepts_rejects`, rejects are no
    reason for another code. `skipped_values` counts values that were left out as the job asks, by column and
    reason. `timing` is of the last process, None if it never began to send.
    """

    job: str
    tally: Tally
    seconds: float
    resumed_rows: int
    status: Status
    rejects_by_code: dict[str, int] = field(default_factory=dict)
    exit_code: int = 0
    reason: str | None = None
    hint: str | None = None
    skipped_values: dict[str, dict[str, int]] = field(default_factory=dict)
    timing: Timing | None = None
    accepts_rejects: bool = False

    @property
    def failed(self) -> bool:
        """Whether the run needs a person, as it did not finish; rejects alone are not a failure."""
        return self.exit_code not in {ExitCode.DONE, ExitCode.REJECTS}

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        said = [(name, text) for name, text in (("reason", self.reason), ("hint", self.hint)) if text]
        took = [("requests", f"{self.tally.requests:,}"), ("time", span(self.seconds))]
        return html_table(f"{self.job}: {self.status}", [*counted_rows(self.tally), *took, *said])


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins. `total_rows` is None if the source would have to be read for it."""

    job: str
    endpoint: str
    files: int
    total_rows: int | None
    total_bytes: int | None
    resumed: Tally


@dataclass(frozen=True, slots=True)
class Progressed:
    """Chunks were committed: the whole job's tally so far. At most a few times a second.

    `expected_rows` is about how many rows the source has, by the bytes that were read so far; None where
    `Started` has their number, or the source has no size. `latencies` are the times to an answer since the
    event before: seconds, to within 3 %, with how many requests took so long.
    """

    tally: Tally
    expected_rows: int | None = None
    latencies: Mapping[float, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Paused:
    """The destination slows the run down or is away: `seconds` until the next try.

    `attempt` counts the tries that failed in a row (0: they aren't counted), `status` is that of the answer
    (None: there was none), and `seconds_left` how long the run goes on if nothing gets through.
    """

    reason: str
    seconds: float
    outage_seconds: float
    attempt: int = 0
    status: int | None = None
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Recovered:
    """The destination takes requests again after `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Warned:
    """Something a user should know that doesn't stop the run. `code` is stable, `message` is for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that happened as it should. The fields are those of `Warned`."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Detailed:
    """What a report shows besides the summary; it comes just before `Ended`, if the run began.

    `files` have name, bytes and digest. `mapping` has name, column (None for a constant) and options of each
    property (in a record: in words). `changes` are known of a finished run that compares rows: by property
    the users who have it on record for the first time, those with another value, and those who left and lost
    it. `examples` are rejects: code, file, row, reason. `rejects_path` is where all of them are.
    """

    files: tuple[tuple[str, int | None, str], ...] = ()
    mapping: tuple[tuple[str, str | None, Mapping[str, Any] | str], ...] = ()
    changes: Mapping[str, tuple[int, ...]] | None = None
    examples: tuple[tuple[str, str, int, str], ...] = ()
    rejects_path: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is over; this comes even if it could not begin and there was no `Started`."""

    summary: Summary


Event: TypeAlias = Started | Progressed | Paused | Recovered | Warned | Noted | Detailed | Ended
Listener: TypeAlias = Callable[[Event], None]
