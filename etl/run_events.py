"""What a run reports: its events, how it ended (status, exit code, reason and hint), and its listeners."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any, Final, Literal, TypeAlias, TypeVar

from .errors import EtlError, ExitCode
from .tally import Tally, counted_rows
from .text import counted, html_table, one_line, span, visible

Status: TypeAlias = Literal["finished", "limited", "stopped", "interrupted"]

FAULT: Final = "this is a bug in propsync; please report it"
_GO_ON: Final = "run the same command again"
_REJECTS: Final = "see the rejects for the reasons; once fixed, that file is a source"

_Number = TypeVar("_Number", int, float)


# --- the summary -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one process of a run went, in seconds.

    `source`, `map`, `diff` and `encode` are what each stage that makes chunks was busy. Sending has `slots`
    requests at once. Each slot is at each moment in one state, and the moment is shared equally by the slots
    that have a chunk or may get one, so the sum of the next six is the duration: `idle` (no chunk is ready),
    `user` (an earlier chunk with the same user is not committed yet), `rate` (the rate limit), `pause` (the
    destination slows the run down, or is away), `request` (an answer is awaited) and `commit` (the checkpoint
    is written). `latency` has the 50th, 95th and 99th percentile of the time to an answer; it is empty if no
    request was answered.
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


def percentile(counts: Mapping[_Number, int], share: float) -> _Number:
    """The least number that this share of all numbers don't exceed; each, at least one, has its count."""
    numbers = sorted(counts)
    reached = list(accumulate(counts[number] for number in numbers))
    return numbers[bisect_left(reached, share * reached[-1])]


@dataclass(frozen=True, slots=True)
class Summary:
    """The result of a run; the counts are those of the whole job since its checkpoint began.

    `status` is "limited" if all rows within the limit were sent, and there are others. `exit_code`, `reason`
    and `hint` (None where the code is 0) are decided by `ended`; with `accepts_rejects`, rejects are no
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


def not_begun(job: str) -> Summary:
    """The summary of a run that could not begin."""
    return Summary(job, Tally(), 0.0, 0, "stopped")


def ended(summary: Summary, error: BaseException | None = None) -> Summary:
    """The summary with its status, exit code, reason and hint; `error` is what ended the run, if anything.

    A run that has finished stays finished, whatever went wrong after that.
    """
    if summary.status in {"finished", "limited"}:
        rejected = summary.tally.rejected
        if not rejected or summary.accepts_rejects:
            return replace(summary, exit_code=int(ExitCode.DONE), reason=None, hint=None)
        reason = f"{counted(rejected, 'row')} {'was' if rejected == 1 else 'were'} rejected"
        return replace(summary, exit_code=int(ExitCode.REJECTS), reason=reason, hint=_REJECTS)
    code, reason, hint = _why(error)
    status: Status = "interrupted" if code == ExitCode.INTERRUPTED else "stopped"
    return replace(summary, status=status, exit_code=int(code), reason=reason, hint=hint)


def _why(error: BaseException | None) -> tuple[ExitCode, str, str | None]:
    if isinstance(error, EtlError):
        hint = None if error.hint is None else visible(error.hint)
        return error.exit_code, "\n".join(map(visible, error.lines)), hint
    from asyncio import CancelledError  # here, since `--help` must start fast

    if isinstance(error, KeyboardInterrupt | CancelledError):
        return ExitCode.INTERRUPTED, "interrupted", _GO_ON
    # Without its message, which may hold anything that was in memory.
    return ExitCode.FAULT, f"{FAULT} ({type(error).__name__})", f"see the log for the trace; then {_GO_ON}"


# --- events ----------------------------------------------------------------------------------------------


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
    """Facts for a report besides the summary; it comes just before `Ended`, if the run began.

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


# --- who receives them -----------------------------------------------------------------------------------


class Ending(AbstractContextManager["Ending"]):
    """A listener that passes on the events of a run, and its end once: when the block is left.

    So `Ended` comes even if the run could not begin, and always with the reason.
    """

    def __init__(self, job: str, listener: Listener) -> None:
        self._summary = not_begun(job)
        self._listener = listener

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._listener(Ended(ended(self._summary, error)))

    def __call__(self, event: Event) -> None:
        """Pass an event on, or keep it to the end if it is the end."""
        if isinstance(event, Ended):
            self._summary = event.summary
        else:
            self._listener(event)


def compose(*listeners: Listener) -> Listener:
    """Make one listener that calls all of them, in the order given.

    What a listener raises never reaches the run. The others get it as a `Warned` with the code
    `listener_failed`, once for each listener; if there are no others, it is logged. A listener that failed
    still gets the next events, since a full disk may have room again.
    """
    failed: set[int] = set()

    def call(event: Event) -> None:
        for number, error in call_all(listeners, event):
            if number in failed:
                continue
            failed.add(number)
            message = one_line(str(error)) or type(error).__name__
            others = listeners[:number] + listeners[number + 1 :]
            if len(call_all(others, Warned("listener_failed", message))) == len(others):
                import logging  # here and above: `--help` must start fast

                logging.getLogger(__name__).warning("listener_failed: %s", message, exc_info=error)

    return call


def call_all(listeners: Sequence[Listener], event: Event) -> list[tuple[int, Exception]]:
    """Call every listener; return the places of those that raised, with what they raised."""
    found = []
    for number, listener in enumerate(listeners):
        try:
            listener(event)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong in reporting, the rows go on
            found.append((number, error))
    return found
