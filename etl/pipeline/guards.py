"""Whether a run may begin: after an unfinished one, with so few rows, or with a source that was sent before.

`decide` uses plain facts, without I/O. The other guards check the source before anything is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from .. import amplitude
from ..amplitude.requests import INSERT_ID_DAYS
from ..checkpoint import PastRun, mark_of
from ..checkpoint.in_flight_file import InFlightContents
from ..errors import RepeatedSourceError, TooFewRowsError, UsageError
from ..job.spec import Job
from ..mapper import holds_bytes
from ..model import Chunk
from ..reader import Source
from ..run_events import Warned
from ..subject import Subject
from ..text import counted
from .run_inputs import entry_of, increments_of
from .settings import RowMinimum

Decision: TypeAlias = Literal["begin", "resume", "restart", "finish", "stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What is known of an unfinished run.

    `difference` is how it differs from the one that begins, the end of a sentence. `other_snapshot`: only the
    snapshot isn't the one that it compares with, which may come back. `accepted` rows arrived, or are
    committed and may have. `in_flight` users may have been sent something that isn't committed; None if they
    are unknown. `counts`: there are increments in its job or in the present one. `complete`: every row is
    committed. `in_snapshot`: what was accepted is in the snapshot, so the run can't be resumed.
    """

    difference: str | None
    other_snapshot: bool = False
    accepted: int = 0
    in_flight: int | None = 0
    counts: bool = False
    complete: bool = False
    in_snapshot: bool = False


def decide(
    found: Unfinished, *, restart: bool = False, on_change: Literal["stop", "restart"] | None = None
) -> Decision:
    """Decide what to do with an unfinished run.

    `resume` it; `finish` it without its source, and begin a new run; `restart`: keep what was accepted, and
    begin; `begin` as if it had never been; or `stop`, because a person has to decide.
    """
    if found.in_snapshot:
        return "restart"
    if found.difference is None and not restart:
        return "resume"
    if found.complete:
        return "finish"
    if found.accepted == 0 and found.in_flight == 0:
        return "begin"
    if restart or found.difference is None:
        return "restart"
    if found.other_snapshot:
        return "stop"
    return on_change or ("stop" if found.counts else "restart")


# --- messages about an unfinished run ---------------------------------------------------------------------

# An hour less than the server remembers events, for the run itself.
_REMEMBERED_SECONDS: Final = INSERT_ID_DAYS * 86_400 - 3_600


def stop_hint(found: Unfinished, *, can_finish: bool, increments: Sequence[str]) -> str:
    """The hint if the decision is to stop; it advises to finish the run only if that is possible."""
    if found.other_snapshot:
        return "bring that snapshot back, or drop the run with --restart"
    names = ", ".join(increments)
    begin = "with --on-source-change restart it is given up, and this one begins"
    if names:
        begin += f"; {names} of rows that it had accepted stay, and count twice if this one has these rows"
    if can_finish:
        return f"finish that run first, with its source and job file; or, {begin}"
    return f"its source has gone or changed, so it can't be finished; {begin}"


def restart_message(found: Unfinished, increments: Sequence[str]) -> str:
    """The warning that an unfinished run was given up."""
    which = f", one {found.difference}" if found.difference else ""
    text = f"an unfinished run was given up{which}; "
    if found.in_snapshot:
        return f"{text}what it had accepted is kept"
    if found.in_flight is None:
        text += "the users in flight are unknown, so all users are sent"
    else:
        rows = counted(found.accepted, "row")
        text += f"what it had accepted is kept ({rows})" if found.accepted else "it had accepted no row"
        if found.in_flight:
            again = "is sent again" if found.in_flight == 1 else "are sent again"
            text += f", and {counted(found.in_flight, 'user')} in flight {again}"
    if increments and found.difference is None:
        text += f"; {', '.join(increments)} of these rows count again"
    return text


def lost_hint(job: Job, increments: Sequence[str], previous: InFlightContents | None, *, same: bool) -> str:
    """The hint for a lost checkpoint; `same`: this run would send what the lost one sent."""
    if not increments and (previous is None or not previous.mark.counts):
        return "run with --restart: it begins anew, and what arrived before arrives once more, as it was"
    counts_once = amplitude.TRANSPORT_RULES[job.destination.transport].counts_once
    remembered = (
        previous and not previous.finished and time.time() - previous.mark.began < _REMEMBERED_SECONDS
    )
    if counts_once and remembered:
        if same:
            return "run with --restart: the same events are sent again, and what had arrived counts once"
        return (
            "run with the source and the job file that it began with, and --restart: the same events are "
            "sent again, and what had arrived counts once; then run this one"
        )
    what = ", ".join(increments) or "increments"
    return (
        "put the file back from a copy, if there is one; with --restart everything is sent again, "
        f"and {what} of what had arrived counts twice"
    )


# --- rows -------------------------------------------------------------------------------------------------


def last_rows(source: Source, endpoint: str, past: Sequence[PastRun], users: int) -> int | None:
    """How many rows the last finished run had; if that is unknown, as many as there are known `users`.

    None if there is nothing to compare with: rejects that are sent again are not an export of all users.
    """
    if source.holds_rejects:
        return None
    return next((run.rows for run in past if run.endpoint == endpoint and not run.resent), users or None)


def check_rows(source: Source, minimum: RowMinimum | None, last: int | None, rows: int | None = None) -> None:
    """Raise TooFewRowsError for a source with too few rows, or with none where the last run had some.

    `rows` None: they are counted, but for those of a stream. Raises UsageError if more than one row
    of a stream is required: it can't be counted first.
    """
    if minimum is not None and not source.repeatable and minimum.count not in {0, 1}:
        raise UsageError(
            "the rows of a stream can't be counted before they are sent, so --min-rows has no meaning",
            hint="save it to a file and name that, or leave the option out",
        )
    needed = int(bool(last)) if minimum is None else minimum.rows(last) or 0
    if not needed or (rows is None and not source.repeatable):
        return
    rows = source.count_rows(needed) if rows is None else rows
    if rows == 0:
        before = f", and the last finished run had {last:,}" if last else ""
        raise TooFewRowsError(
            f"the source has no rows{before}; nothing was sent",
            hint="is the export whole? If there is nothing to send, run with --min-rows 0",
        )
    if rows < needed:
        what = f"{minimum} of them" if minimum and minimum.percent is not None else f"{needed:,}"
        before = f"the last finished run had {last:,}, " if last is not None else ""
        raise TooFewRowsError(
            f"the source has {counted(rows, 'row')}; {before}and --min-rows is {what}; nothing was sent",
            hint="is the export whole? If it is, run with a lower --min-rows, or with --min-rows 0",
        )


# --- a source that was sent before ------------------------------------------------------------------------


def check_repeat(
    job: Job, source: Source, past: Sequence[PastRun], digests: Mapping[int, str], *, again: bool
) -> tuple[Warned, ...]:
    """Raise RepeatedSourceError if the last finished run sent increments of this very source.

    If it sent only some of the files, or `again` allows it, the warnings say so.
    """
    names, endpoint = ", ".join(increments_of(job)), job.destination.endpoint
    if not names or not source.repeatable or not source.count_rows(1):
        return ()
    marks = [mark_of(entry_of(file), digests.get(number)) for number, file in enumerate(source.files)]
    found = {run.overlap(marks) for run in past if run.endpoint == endpoint and run.counted}
    if "all" in found and not again:
        raise RepeatedSourceError(
            f"the last finished run sent this very source, and {names} would count twice; nothing was sent",
            hint="wait for a new export; if these rows are to count once more, run with --again",
        )
    if found & {"all", "some"}:
        which = "these files" if "all" in found else "some of these files"
        return (Warned("again", f"{which} were sent before, and {names} count again"),)
    return ()


# --- warnings ---------------------------------------------------------------------------------------------


def warn_of_large_numbers(chunk: Chunk, warned: set[str], warn: Callable[[Warned], None]) -> None:
    """Warn of properties with whole numbers that a browser shows with other digits.

    Each is added to `warned`, and no property in it is warned of again.
    """
    for name in sorted(chunk.large - warned):
        text = (
            f"{name}: whole numbers above {amplitude.MAX_SAFE_INTEGER:,} are sent as they are, but "
            "browsers show them with other digits; as text (`type: string`) they keep them"
        )
        warn(Warned("large_numbers", text))
        warned.add(name)


def input_warnings(job: Job, source: Source) -> Iterator[Warned]:
    """Warnings about a job and a source, before the job is run on it."""
    names, fields = ", ".join(increments_of(job)), job.identification.fields
    subject = Subject.of(fields)
    if names and not amplitude.TRANSPORT_RULES[job.destination.transport].counts_once:
        text = (
            f"{names}: what is sent again after a lost answer may count twice; over `transport: batch` it "
            "counts once"
        )
        yield Warned("unrepeatable", text)
    if subject.link is not None:
        yield Warned("linked", "user_id and device_id are both mapped: Amplitude links them for good")
    yield from source.warnings
    yield from (Warned("header", text) for text in source.remarks(job.identification.columns()))
    typed = [file for file in range(len(source.files)) if not source.has_open_columns(file)]
    for name in subject.fields:
        spec = fields[name]
        if spec.column is not None and not spec.transform:
            files = (file for file in typed if spec.column in source.names(file))
            if any(holds_bytes(source.schema(file).field(spec.column).type) for file in files):
                text = (
                    f"{name}: column {spec.column} holds bytes, which are sent as hexadecimal digits; "
                    "say so with `transform: [hex]`, or with `transform: [uuid]` if your other data has UUIDs"
                )
                yield Warned("binary_id", text)
