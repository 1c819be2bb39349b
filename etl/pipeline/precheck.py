"""What is looked at before anything is sent: no rows, too few rows, or the very source of the last run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from etl import amplitude
from etl.checkpoint import PastRun, StateFolder, mark_of, past_of
from etl.errors import EtlError, RepeatedSourceError, TooFewRowsError, UsageError
from etl.job import Job
from etl.model import Warned
from etl.pipeline.digests import first_digests
from etl.pipeline.settings import RowMinimum, Settings
from etl.reader import Source


def increments_of(job: Job) -> list[str]:
    """The operators of a job that count twice what is sent twice."""
    return sorted(amplitude.UNREPEATABLE & set(job.identification.operators))


def last_rows(source: Source, endpoint: str, past: Sequence[PastRun], users: int) -> int | None:
    """How many rows the last finished run had; where none is remembered, as many as there are known `users`.

    None where there is nothing to compare with: rejects sent again are no export of everybody.
    """
    if source.holds_rejects:
        return None
    found = [run.rows for run in past if run.endpoint == endpoint and not run.resent]
    return found[0] if found else users or None


def check_rows(source: Source, minimum: RowMinimum | None, last: int | None) -> None:
    """Raise TooFewRowsError for a source without rows where the last run had some, or with too few of them.

    Of a stream nobody knows that before it is sent: a UsageError, where more than one row is demanded.
    """
    needed = 1 if last else 0
    if minimum is not None:
        needed = minimum.rows(last) or 0
        if not source.repeatable and minimum.count not in {0, 1}:
            raise UsageError(
                "the rows of a stream can't be counted before they are sent, so --min-rows has no meaning",
                hint="save it to a file and name that, or leave the option out",
            )
    if needed <= 1:
        if needed and source.has_rows() is False:
            raise too_few(last)
        return
    rows = source.count_rows(needed)
    if rows == 0:
        raise too_few(last)
    if rows < needed:
        what = f"{minimum} of them" if minimum and minimum.percent is not None else f"{needed:,}"
        before = f"the last finished run had {last:,}, " if last is not None else ""
        raise TooFewRowsError(
            f"the source has {rows:,} rows; {before}and --min-rows is {what}; nothing was sent",
            hint="is the export whole? If it is, run with a lower --min-rows, or with --min-rows 0",
        )


def too_few(last: int | None) -> TooFewRowsError:
    """The error for a source without rows."""
    before = f", and the last finished run had {last:,}" if last else ""
    return TooFewRowsError(
        f"the source has no rows{before}; nothing was sent",
        hint="is the export whole? If there is nothing to send, run with --min-rows 0",
    )


def demands_rows(settings: Settings, last: int | None) -> bool:
    """Whether a source without any row is refused."""
    if settings.min_rows is None:
        return bool(last)
    return (settings.min_rows.rows(last) or 0) > 0


def refusal(
    job: Job, source: Source, folder: StateFolder, settings: Settings, *, users: int, rows: int
) -> EtlError | None:
    """The error with which a new run would refuse a source, of which `rows` were read; None: it wouldn't."""
    past = past_of(folder.checkpoint)
    last = last_rows(source, job.destination.endpoint, past, users)
    if rows == 0 and demands_rows(settings, last):
        return too_few(last)
    try:
        check_rows(source, settings.min_rows, last)
        digests = first_digests(source, needed=True) if increments_of(job) else {}
        check_repeat(job, source, past, digests, again=settings.again)
    except (TooFewRowsError, RepeatedSourceError) as error:
        return error
    return None


def marks_of(source: Source, digests: Mapping[int, str]) -> list[str | None]:
    """A text for the content of each file, as in `PastRun`."""
    return [
        mark_of((file.name, file.size, file.modified, file.sample), digests.get(number))
        for number, file in enumerate(source.files)
    ]


def check_repeat(
    job: Job, source: Source, past: Sequence[PastRun], digests: Mapping[int, str], *, again: bool
) -> tuple[Warned, ...]:
    """Raise RepeatedSourceError where increments of this very source were sent by the last finished run.

    Where only some of its files were, or it is meant (`again`), the warnings say so.
    """
    names, endpoint = ", ".join(increments_of(job)), job.destination.endpoint
    if not names or not source.repeatable or source.has_rows() is False:
        return ()
    marks = marks_of(source, digests)
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
