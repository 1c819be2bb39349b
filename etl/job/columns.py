"""Every column that a job names is in its source, or one error tells all that aren't, each with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from etl.errors import Fault, JobError
from etl.job.findings import nearest, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from etl.job.spec import Job

MAX_LISTED = 10


def check_columns(job: Job, columns: Sequence[str]) -> None:
    """Raise JobError if the job names columns that aren't among `columns`, those of the source."""
    known = frozenset(columns)
    faults = [
        Fault(_message(path, spec.column, columns), job.lines.get(path))
        for path, spec in job.identification.specs()
        if spec.column is not None and spec.column not in known
    ]
    if faults:
        raise JobError(job.file, faults)


def _message(path: str, column: str, columns: Sequence[str]) -> str:
    near = nearest(column, columns)
    if near is not None:
        end = f"did you mean `{near}`?"
    elif columns:
        more = ", ..." if len(columns) > MAX_LISTED else ""
        end = f"it has {', '.join(shown(name) for name in columns[:MAX_LISTED])}{more}"
    else:
        end = "it has no columns"
    return f"the source has no column `{shown(column)}` (for `{shown(path)}`); {end}"
