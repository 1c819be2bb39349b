"""The errors that a user can cause, each with a message, a hint and an exit code.

The message names what happened and where, the hint what to do. Exceptions of libraries are translated where
they are raised, so that nothing above has to know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final

_NEW_PLAN: Final = (
    "look at what differs; if it is meant, make a new plan with `propsync check JOB --save FILE`"
)


class ExitCode(IntEnum):
    """The exit codes of the process."""

    DONE = 0
    FAULT = 1
    USAGE = 2
    REJECTS = 3
    TOO_MANY_REJECTS = 4
    DESTINATION = 5
    ACTIVE = 6
    SOURCE = 7
    STATE = 8
    INTERRUPTED = 130


class EtlError(Exception):
    """The root. `hint` is the remedy, in the imperative; shown on a line of its own.

    `lines` are those of the message; a line end within one of them is foreign text.
    """

    exit_code: ClassVar[ExitCode] = ExitCode.FAULT

    def __init__(self, *lines: str, hint: str | None = None) -> None:
        self.lines, self.message, self.hint = lines, "\n".join(lines), hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\n  {self.hint}"


class UsageError(EtlError):
    """The command line is wrong; nothing was sent."""

    exit_code = ExitCode.USAGE


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in a job file. `line` is 1-based; None where the file has no line for it."""

    message: str
    line: int | None = None


class JobError(EtlError):
    """The job file is wrong; nothing was sent. Carries all its faults at once, in order of line.

    `job` is the job's name, if the file has it.
    """

    exit_code = ExitCode.USAGE

    def __init__(
        self, name: str, faults: list[Fault], *, hint: str | None = None, job: str | None = None
    ) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line or 0))
        self.job = job
        lines = tuple(
            f"{name}:{f.line}: {f.message}" if f.line else f"{name}: {f.message}" for f in self.faults
        )
        super().__init__(*lines, hint=hint)


class GuardError(EtlError):
    """A guard stopped the run, as what it was about to send looks wrong."""

    exit_code = ExitCode.TOO_MANY_REJECTS


class TooManyRejectsError(GuardError):
    """More rows were rejected than the caller allowed."""


class TooManyChangesError(GuardError):
    """More users changed, or were removed, than the caller allowed; nothing was sent."""


class TooFewRowsError(GuardError):
    """The source has fewer rows than the caller demands, or none; nothing was sent."""


class RepeatedSourceError(GuardError):
    """The last finished run had the same source, and its increments would count twice; nothing was sent."""


class PlanError(GuardError):
    """What a run would send isn't what its plan says; nothing was sent. Carries all that differs."""

    def __init__(self, message: str, differences: Sequence[str] = (), *, hint: str | None = None) -> None:
        self.differences = tuple(differences)
        super().__init__(message, *(f"  - {one}" for one in self.differences), hint=hint or _NEW_PLAN)


class DestinationError(EtlError):
    """The destination refused the key or every row, or was unavailable too long; the checkpoint is kept."""

    exit_code = ExitCode.DESTINATION


class ActiveRunError(EtlError):
    """Another run of this job holds its state folder."""

    exit_code = ExitCode.ACTIVE


class SourceError(EtlError):
    """The source can't be read."""

    exit_code = ExitCode.SOURCE


class TransformError(EtlError):
    """The job's own transform failed, or did not return the rows it was given."""

    exit_code = ExitCode.SOURCE


class StaleCheckpointError(EtlError):
    """The checkpoint belongs to another source, another job or other limits, or it can't be read.

    `damaged`: its content is lost.
    """

    exit_code = ExitCode.SOURCE

    def __init__(self, message: str, *, hint: str | None = None, damaged: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.damaged = damaged


class StateError(EtlError):
    """The state folder, or another place for files, can't be written; what is committed is kept."""

    exit_code = ExitCode.STATE


class InterruptedRunError(EtlError):
    """The user stopped the run; the checkpoint is kept."""

    exit_code = ExitCode.INTERRUPTED


# --- what to do about a rejected row or a skipped value, by its code -------------------------------------

REMEDIES: Final = {
    "ragged": "quote fields that contain the delimiter",
    "stray_quote": "set `csv: escape`, or double the quotes in the export",
    "unclosed_quote": "close the quote, or set another `csv: quote`",
    "repeated_header": "none needed: the header stands in the file more than once",
    "bad_encoding": "set the right `csv: encoding`",
    "bad_line": "fix the line",
    "missing_id": "add the id, or ignore the row: there is no user to update",
    "short_id": "give all ids a `prefix`",
    "long_id": "check that the job uses the right column",
    "mangled_id": "export ids as text, or set `ids: {mangled: keep}`",
    "refused_id": "fill in the real id, or ignore the row",
    "bad_value": "add the text to `values`, or set `invalid: skip`",
    "bad_list": "export a JSON array, or use a `separator`",
    "bad_path": "remove the `path`, or set `invalid: skip`",
    "bad_number": "set `decimal`, `thousands` and `strip`, or `invalid: skip`",
    "bad_integer": "use type `number` or `string`, or `invalid: skip`",
    "bad_boolean": "list the words in `values`, or set `invalid: skip`",
    "bad_date": "add the format to `date_format`, or set `invalid: skip`",
    "bad_datetime": "add the format to `date_format`, or set `invalid: skip`",
    "bad_json": "fix the value, or set `invalid: skip`",
    "bad_text": "use `transform: [hex]` or `[uuid]`, or leave the column out",
    "bad_bytes": "remove the step, or use `hex` instead of `uuid`",
    "not_finite": "fix the value, or set `invalid: skip`",
    "too_long": "set `too_long: truncate`",
    "nested_list": "flatten the list in the export",
    "too_deep": "flatten the value in the export",
    "too_many_groups": "send fewer groups",
    "too_big": "map fewer or shorter columns",
    "superseded": "ignore the row, or run with --full",
    "malformed": "follow the server's message",
    "daily_quota": "send it again another day",
    "uncounted": "none needed: the next run sends these users again",
    "transient": "send it again later",
    "dropped": "none needed: the job's own transform leaves the row out",
}
# The same for a value that was left out already.
SKIP_REMEDIES: Final = {
    code: text.replace(", or set `invalid: skip`", "").replace(", or `invalid: skip`", "")
    for code, text in REMEDIES.items()
}
