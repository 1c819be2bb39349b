"""The guards of a run, asked without running: which of them would stop it before or while it sends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..checkpoint import StateDir, past_of
from ..errors import (
    EtlError,
    RepeatedSourceError,
    TooFewRowsError,
    TooManyChangesError,
    TooManyRejectsError,
)
from ..model import Tally
from .commit import check_rejects
from .precheck import (
    Precheck,
    check_repeat,
    check_rows,
    increments_of,
    last_rows,
    no_rows_error,
    requires_rows,
)
from .removed_users import RemovedUsers
from .row_pipeline import RowPipeline
from .settings import Settings
from .source_files import first_digests

_STOPS = (TooFewRowsError, RepeatedSourceError, TooManyChangesError, TooManyRejectsError)


@dataclass(frozen=True, slots=True)
class Guard:
    """A guard by the name of its option: its `limit`, what was `found`, and the error if it stops the run."""

    name: str
    limit: str
    found: str
    error: EtlError | None = None


def guards_of(
    pipeline: RowPipeline,
    folder: StateDir,
    settings: Settings,
    tally: Tally,
    *,
    changes: Precheck | None,
    removed: RemovedUsers | None,
) -> list[Guard]:
    """The guards of a new run that would have this tally, in the order in which it asks them.

    `folder` is the job's. Guards that can't stop such a run are left out.
    """
    job, source, base, found = pipeline.job, pipeline.source, pipeline.diff_base, list[Guard]()

    def ask(name: str, limit: object, value: str, check: Callable[[], object]) -> None:
        try:
            check()
        except _STOPS as error:
            found.append(Guard(name, str(limit), value, error))
        else:
            found.append(Guard(name, str(limit), value))

    past = past_of(folder.checkpoint)
    last = last_rows(source, job.destination.endpoint, past, base.users)

    def rows() -> None:
        if tally.rows == 0 and requires_rows(settings, last):
            raise no_rows_error(last)
        check_rows(source, settings.min_rows, last)

    if settings.min_rows is not None or last:
        ask("min-rows", settings.min_rows or 1, f"{tally.rows:,} rows", rows)
    if increments_of(job):
        digests = first_digests(source, needed=True)
        again = settings.again
        limit = "as often as asked" if again else "once"
        ask("again", limit, "counters", lambda: check_repeat(job, source, past, digests, again=again))
    most = base.most_absent(settings.max_absent)
    if removed is not None and most is not None:
        ask("max-absent", f"{most:g}%", f"{removed.count:,} users left", lambda: removed.check(most))
    most = base.most_changes(job, settings.max_changes)
    if changes is not None and most is not None and most < 100:
        value = f"{changes.final.changed(base.in_doubt):,} of {base.certain:,} known users changed"
        ask("max-changes", f"{most:g}%", value, lambda: changes.check(most, pipeline))
    limits = settings.max_rejects
    if limits.count is not None or limits.percent is not None:
        value = f"{tally.rejected + tally.swallowed:,} rejects"
        ask("max-rejects", limits, value, lambda: check_rejects(tally, limits, ended=True))
    return found
