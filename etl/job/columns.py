"""Checks the columns of a job against those of its source; one error has all that are missing, with lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import Fault, JobError, SourceError
from .problems import clipped, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .spec import Job

MAX_LISTED: Final = 10
MAX_UNKNOWN: Final = 20  # when more are wrong it is the wrong source, and near names take time to find


def check_columns(job: Job, columns: Sequence[str], remark: str = "") -> None:
    """Raise JobError if the job names columns that aren't among `columns`, those of the source.

    `remark` is what is odd about the source.
    """
    lacks = lacking(job, columns)
    unknown = [(path, spec.column) for path, spec in job.identification.specs() if spec.column in lacks]
    if not unknown:
        return
    faults = []
    for path, column in unknown:
        near = did_you_mean(column or "", columns if len(unknown) <= MAX_UNKNOWN else ())
        message = f"the source has no column `{clipped(column or '')}` (for `{clipped(path)}`){near}"
        faults.append(Fault(message, job.lines.get(path)))
    listed = "the source has no columns"
    if columns:
        names = ", ".join(clipped(name) for name in columns[:MAX_LISTED])
        listed = f"the source has the columns {names}{', ...' if len(columns) > MAX_LISTED else ''}"
    raise JobError(job.file, faults, hint=f"{remark}; {listed}" if remark else listed)


def check_repeated(job: Job, file: str, repeated: Mapping[str, Sequence[int]]) -> None:
    """Raise JobError if the job names a column that a file has several times.

    `repeated` has the places (from 1) of such columns in the file.
    """
    faults = []
    for path, spec in job.identification.specs():
        places = repeated.get(spec.column or "")
        if places:
            where = f"{', '.join(map(str, places[:-1]))} and {places[-1]}"
            message = f"{file} has `{clipped(spec.column or '')}` in columns {where} (for `{clipped(path)}`)"
            faults.append(Fault(message, job.lines.get(path)))
    if faults:
        hint = "rename all but one, or name the columns with `csv: {header: [NAME, ...], skip_rows: 1}`"
        raise JobError(job.file, faults, hint=hint)


def lacking(job: Job, columns: Sequence[str]) -> list[str]:
    """The columns that the job names and that aren't among `columns`."""
    known = frozenset(columns)
    return [column for column in job.identification.columns() if column not in known]


def missing_columns(file: str, missing: Sequence[str], columns: Sequence[str]) -> SourceError:
    """The error that a file lacks columns which other files of the source have; it has `columns`."""
    several = len(missing) > 1
    names = ", ".join(f"`{clipped(name)}`" for name in missing[:MAX_LISTED])
    names += ", ..." if len(missing) > MAX_LISTED else ""
    near = "" if several else did_you_mean(missing[0], columns)
    noun, them, are = ("columns", "them", "they are") if several else ("column", "it", "it is")
    return SourceError(
        f"{file} has no {noun} {names}, which other files of the source have{near}",
        hint=f"export the file with {them}, or add `missing: null` to the job file: {are} null in its rows",
    )
