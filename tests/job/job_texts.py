"""Job files as the tests write them."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from etl.errors import JobError
from etl.job.spec import job_schema, parse_job

if TYPE_CHECKING:
    from etl.job.column_spec import ColumnSpec
    from etl.job.spec import Job


def job(text: str, **environ: str) -> Job:
    """The job of an indented text."""
    return parse_job(textwrap.dedent(text), name="job.yml", folder=Path("jobs"), environ=environ)


def faults(text: str, **environ: str) -> list[tuple[int | None, str]]:
    """Line and message of every fault of an indented text, which must have some."""
    with pytest.raises(JobError) as caught:
        job(text, **environ)
    return [(fault.line, fault.message) for fault in caught.value.faults]


def fault(text: str, **environ: str) -> tuple[int | None, str]:
    """The one fault of a text."""
    (only,) = faults(text, **environ)
    return only


def column_fault(spec: str, *, under: str = "$set") -> str:
    """The message of the one fault of a job with this column spec, which stands in line 5."""
    line, message = fault(
        f"identification:\n  user_id: id\n  user_properties:\n    {under}:\n      p: {spec}\n"
    )
    assert line == 5
    return message


def column(spec: str, *, under: str = "$set") -> ColumnSpec:
    """The column spec that a job has made of this one."""
    made = job(f"identification:\n  user_id: id\n  user_properties:\n    {under}:\n      p: {spec}\n")
    return made.identification.operators[under]["p"]


def keys(section: str | None = None) -> set[str]:
    """The keys of a job file, or of one of its sections, as its JSON Schema has them."""
    schema = job_schema()
    return set(schema["properties"] if section is None else schema["$defs"][section]["properties"])
