"""Every column that a job names is in its source, or one error names all that aren't, each with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from etl.errors import Fault, JobError, SourceError
from etl.job.findings import did_you_mean, nearest, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from etl.job.spec import Job

MAX_LISTED: Final = 10
MAX_SUGGESTED: Final = 20  # when more are wrong it is the wrong source, and near names take time to find


def check_columns(job: Job, columns: Sequence[str], remark: str = "") -> None:
    """Raise JobError if the job names columns that aren't among `columns`, those of the source.

    `remark` is what is odd about the source.
    """
    lacks = lacking(job, columns)
    specs = job.identification.specs()
    unknown = [
        (path, spec.column) for path, spec in specs if spec.column is not None and spec.column in lacks
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
    listed = _listed(columns)
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
            message = f"{file} has `{shown(spec.column or '')}` in columns {where} (for `{shown(path)}`)"
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
    names = ", ".join(f"`{shown(name)}`" for name in missing[:MAX_LISTED]) + ", ..." * (
        len(missing) > MAX_LISTED
    )
    near = did_you_mean(missing[0], columns) if len(missing) == 1 else ""
    pronoun = "they are" if several else "it is"
    return SourceError(
        f"{file} has no column{'s' * several} {names}, which other files of the source have{near}",
        hint=f"export the file with {'them' if several else 'it'}, or add `missing: null` to the job file: "
        f"{pronoun} null in that file's rows",
    )


def _listed(columns: Sequence[str]) -> str:
    if not columns:
        return "the source has no columns"
    names = ", ".join(shown(name) for name in columns[:MAX_LISTED])
    return f"the source has the columns {names}{', ...' if len(columns) > MAX_LISTED else ''}"
