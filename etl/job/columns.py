"""Every column that a job names is in its source, or one error tells all that aren't, each with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.errors import Fault, JobError
from etl.job.findings import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.job.spec import Job

MAX_LISTED: Final = 10
MAX_SUGGESTED: Final = 20  # when more are wrong it is the wrong source, and near names take time to find


def check_columns(job: Job, columns: Sequence[str]) -> None:
    """Raise JobError if the job names columns that aren't among `columns`, those of the source."""
    known = frozenset(columns)
    unknown = [
        (path, spec.column)
        for path, spec in job.identification.specs()
        if spec.column is not None and spec.column not in known
    ]
    if not unknown:
        return
    nameable = columns if len(unknown) <= MAX_SUGGESTED else ()
    faults = []
    for path, column in unknown:
        near = nearest(column, nameable)
        remedy = f"; did you mean `{near}`?" if near is not None else ""
        message = f"the source has no column `{shown(column)}` (for `{shown(path)}`){remedy}"
        faults.append(Fault(message, job.lines.get(path)))
    raise JobError(job.file, faults, hint=_listed(columns))


def _listed(columns: Sequence[str]) -> str:
    if not columns:
        return "the source has no columns"
    names = ", ".join(shown(name) for name in columns[:MAX_LISTED])
    return f"the source has the columns {names}{', ...' if len(columns) > MAX_LISTED else ''}"
