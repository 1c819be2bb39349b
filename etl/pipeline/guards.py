"""The guards of a run that look at the source before anything is sent, and the warnings about it.

They ask whether it has enough rows, and whether it was sent before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from .. import amplitude
from ..checkpoint import PastRun, mark_of
from ..errors import RepeatedSourceError, TooFewRowsError, UsageError
from ..job.spec import Job
from ..mapper import holds_bytes
from ..model import Chunk
from ..reader import Source
from ..run_events import Warned
from ..subject import Subject
from .diff_base import increments_of
from .settings import RowMinimum
from .unfinished import entry_of

# --- rows ------------------------------------------------------------------------------------------------


def last_rows(source: Source, endpoint: str, past: Sequence[PastRun], users: int) -> int | None:
    """How many rows the last finished run had; if that is unknown, as many as there are known `users`.

    None if there is nothing to compare with: rejects that are sent again are not an export of all users.
    """
    if source.holds_rejects:
        return None
    return next((run.rows for run in past if run.endpoint == endpoint and not run.resent), users or None)


def check_rows(source: Source, minimum: RowMinimum | None, last: int | None, rows: int | None = None) -> None:
    """Raise TooFewRowsError for a source with too few rows, or with none where the last run had some.

    `rows` None: they are counted, but for those of a stream. Raises UsageError for a stream of which more
    than one row is required: it can't be counted first.
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
            f"the source has {rows:,} rows; {before}and --min-rows is {what}; nothing was sent",
            hint="is the export whole? If it is, run with a lower --min-rows, or with --min-rows 0",
        )


# --- a source that was sent before -----------------------------------------------------------------------


def check_repeat(
    job: Job, source: Source, past: Sequence[PastRun], digests: Mapping[int, str], *, again: bool
) -> tuple[Warned, ...]:
    """Raise RepeatedSourceError if the last finished run sent increments of this very source.

    If it sent only some of the files, or `again` allows it, the warnings say so.
    """
    names, endpoint = ", ".join(increments_of(job)), job.destination.endpoint
    if not names or not source.repeatable or source.has_rows() is False:
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
    """Warn of properties with whole numbers that a browser shows with other digits, each once.

    Those of which it has `warned` are added to the set.
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
    typed = [file for file, known in enumerate(source.files) if known.format in {"parquet", "arrow"}]
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
