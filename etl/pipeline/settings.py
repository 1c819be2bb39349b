"""The settings of a run: how it sends, within the limits that a probe found. The job says what it sends."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypedDict

from .. import amplitude
from ..checkpoint import StateDir
from ..checkpoint.run_records import Capabilities
from ..encoder import Limits
from ..errors import Fault, JobError, UsageError
from ..job.spec import Job
from ..job.words import endpoint
from ..run_events import Noted, Warned
from ..sender import Backoff, Clock
from ..sender.transports import TRANSPORTS, HttpTransport
from ..tally import Tally

_KEY_ROOM: Final = 1000  # bytes of a request for an API key, of whatever length


@dataclass(frozen=True, slots=True)
class _RowAmount:
    count: int | None = None
    percent: float | None = None

    def __str__(self) -> str:
        return f"{self.count:,}" if self.count is not None else f"{self.percent:g}%"


@dataclass(frozen=True, slots=True)
class RejectLimit(_RowAmount):
    """The most rejects that a run may have: `count` rows, or `percent` of the rows."""

    def exceeded(self, rejected: int, rows: int, *, ended: bool) -> bool:
        """Whether there are more; a percentage only counts from 1,000 rows on, or at the end."""
        if self.count is not None and rejected > self.count:
            return True
        enough = ended or rows >= 1000
        return self.percent is not None and enough and rejected * 100 > self.percent * rows

    def __str__(self) -> str:
        return _RowAmount.__str__(self) + " of the rows" * (self.count is None)


@dataclass(frozen=True, slots=True)
class RowMinimum(_RowAmount):
    """The least number of rows: `count`, or `percent` of the rows of the last finished run."""

    def rows(self, last: int | None) -> int | None:
        """The least number if the last run had `last` rows; None if there is nothing to compare with."""
        if self.percent is None or last is None:
            return self.count
        return math.ceil(self.percent * last / 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of a run; the defaults stay within the documented limits of Amplitude's smallest plan.

    `rate` is in identifications a second and `requests_per_second` in requests; None means no limit.
    `concurrency` is how many chunks are in flight at once, `batch_size` the most identifications of a
    request (None: the transport's default), `max_outage` in seconds. `endpoint` and `state_dir` None: the
    job's. `progress_every` is the least time in seconds between two `Progressed` events. With two
    `processes`, rows are read and encoded in one and sent by the other, if that is safe; None: if it pays.
    `full` sends everything, whatever was sent before. `max_changes` and `max_absent` are percentages of
    the known users; None: the usual ones of `diff_base`, if there are many users. `min_rows` None: one row,
    if the last run had some. `on_source_change` decides about an unfinished run of another source or job;
    None: it is given up, unless increments would count twice. `again` sends increments once more that
    the last run sent. `limit`: only so many rows, the first of the source, are sent; the next run sends the
    rest. `accept_rejects` ends a run that has rejects with exit code 0. `plan`: the file of a plan that is to
    be sent, exactly, or nothing.
    """

    endpoint: str | None = None
    state_dir: Path | None = None
    rate: float | None = amplitude.DEFAULT_RATE
    requests_per_second: float | None = amplitude.DEFAULT_REQUESTS_PER_SECOND
    concurrency: int = 8
    batch_size: int | None = None
    max_rejects: RejectLimit = RejectLimit()
    max_outage: float = 1800.0
    restart: bool = False
    allow_http: bool = False
    backoff: Backoff = Backoff()
    progress_every: float = 0.2
    full: bool = False
    max_changes: float | None = None
    max_absent: float | None = None
    min_rows: RowMinimum | None = None
    on_source_change: Literal["stop", "restart"] | None = None
    again: bool = False
    limit: int | None = None
    accept_rejects: bool = False
    plan: str | Path | None = None
    processes: Literal[1, 2] | None = None
    clock: Clock = field(default_factory=Clock)
    handle_signals: bool = False

    def __post_init__(self) -> None:
        counts = {"batch size": self.batch_size, "concurrency": self.concurrency, "limit": self.limit}
        for name, count in counts.items():
            if count is not None and count < 1:
                raise UsageError(f"the {name} must be at least 1, not {count}")
        for name, value in (("rate", self.rate), ("requests per second", self.requests_per_second)):
            if value is not None and value <= 0:
                raise UsageError(f"the {name} must be above 0, not {value:g}; `max` means no limit")

    def least_seconds(self, tally: Tally) -> float:
        """How long it takes to send so many identifications and requests at the rates."""
        rates = (tally.accepted, self.rate), (tally.requests, self.requests_per_second)
        return max(count / rate if rate else 0.0 for count, rate in rates)

    def limits(self, transport: amplitude.TransportName) -> Limits:
        """The limits of a request. Raises UsageError for a batch size that the transport doesn't take."""
        rules = amplitude.TRANSPORT_RULES[transport]
        size = self.batch_size or rules.batch_size
        if size > rules.most:
            raise UsageError(
                f"a batch size of {size:,} is too big: over `transport: {transport}` a request takes at most "
                f"{rules.most:,} identifications",
                hint=f"give {rules.most:,} or less, or leave it out",
            )
        return Limits(identifications=size, body_bytes=rules.body_bytes)


class Options(TypedDict, total=False):
    """The fields of `Settings` as keyword arguments of the library."""

    endpoint: str | None
    state_dir: Path | None
    rate: float | None
    requests_per_second: float | None
    concurrency: int
    batch_size: int | None
    max_rejects: RejectLimit
    max_outage: float
    restart: bool
    allow_http: bool
    backoff: Backoff
    progress_every: float
    full: bool
    max_changes: float | None
    max_absent: float | None
    min_rows: RowMinimum | None
    on_source_change: Literal["stop", "restart"] | None
    again: bool
    limit: int | None
    accept_rejects: bool
    plan: str | Path | None
    processes: Literal[1, 2] | None
    clock: Clock
    handle_signals: bool


def at_endpoint(job: Job, settings: Settings) -> Job:
    """The job with the settings' endpoint in place of its own, if they name one.

    Raises UsageError for an invalid endpoint, JobError if Amplitude itself would be trusted by its status.
    """
    if settings.endpoint is not None:
        try:
            checked = endpoint(settings.endpoint)
        except ValueError as error:
            raise UsageError(str(error), hint="give us, eu, or a base URL like https://host") from error
        job = replace(job, destination=replace(job.destination, endpoint=checked))
    if job.destination.trust_status and amplitude.region_of(job.destination.endpoint):
        message = "`trust_status` is for a relay of your own: Amplitude's own answers say what was accepted"
        raise JobError(
            job.file,
            [Fault(message, job.lines.get("destination.trust_status"))],
            hint="give the relay's base URL in `region` or with --endpoint, or leave `trust_status` out",
        )
    return job


def make_transport(job: Job, key: str, settings: Settings) -> HttpTransport:
    """The transport of a job, with the job's own endpoint. Raises UsageError as `HttpTransport`."""
    destination = job.destination
    return TRANSPORTS[destination.transport](
        destination.endpoint,
        key,
        connections=settings.concurrency,
        allow_http=settings.allow_http,
        trust_status=destination.trust_status,
    )


def known_limits(job: Job, settings: Settings, folder: StateDir) -> tuple[Limits, tuple[Warned | Noted, ...]]:
    """The limits of a request, never above what a probe found, and up to that where no option is given.

    Raises UsageError for a batch size that is too big where nothing was found.
    """
    transport = job.destination.transport
    known = Capabilities.load(folder, job.destination.endpoint) if transport == "identify" else None
    count, size = (known.most(name) if known else None for name in ("identifications", "bytes"))
    if known is None or (count is None and size is None):
        return settings.limits(transport), ()
    rules, given, notes = amplitude.TRANSPORT_RULES[transport], settings.batch_size, list[Warned | Noted]()
    if count is None:
        count = settings.limits(transport).identifications
    elif given is not None and given > count:
        text = f"a batch size of {given:,} is too big: the probe of {known.date[:10]} found {count:,}"
        notes.append(Warned("batch_size", f"{text}, which is used"))
    else:
        count = given or count
    body = rules.body_bytes if size is None else max(1, size - rules.frame_bytes - _KEY_ROOM)
    if (count, body) != (given or rules.batch_size, rules.body_bytes):
        notes.append(Noted("capabilities", f"requests have up to {count:,} identifications; {known}"))
    return Limits(identifications=count, body_bytes=body), tuple(notes)
