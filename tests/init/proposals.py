"""Small real sources, what is proposed for them, and what the mapper then makes of their rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from etl.init import Proposal
from etl.init.csv_guess import Reading
from etl.init.facts import read_facts
from etl.init.proposal import propose
from etl.job.column_spec import ColumnSpec
from etl.job.problems import check_columns
from etl.job.sections import CsvOptions
from etl.job.spec import Job, parse_job
from etl.mapper import Mapper
from etl.reader import Source, open_source
from etl.tally import RowRange


def csv_source(
    folder: Path, text: str | bytes, name: str = "users.csv", csv: CsvOptions | None = None
) -> Source:
    content = text if isinstance(text, bytes) else text.encode()
    (folder / name).write_bytes(content)
    return open_source([name], folder=folder, csv=csv or CsvOptions())


def column_source(folder: Path, values: Sequence[str], column: str = "v") -> Source:
    """A CSV file with sound ids and one more column."""
    rows = "".join(f'user-{number},"{value}"\n' for number, value in enumerate(values, start=100))
    return csv_source(folder, f'user_id,"{column}"\n{rows}')


def table_source(columns: Mapping[str, object]) -> Source:
    return open_source([pa.table(dict(columns))])


_last: list[tuple[Source, Proposal]] = []  # most tests look at several parts of one proposal


def proposed(source: Source) -> Proposal:
    if not _last or _last[0][0] is not source:
        _last[:] = [(source, proposed_for(source, ["users.csv"], "users"))]
    return _last[0][1]


def proposed_for(source: Source, locations: Sequence[str], name: str) -> Proposal:
    reading = Reading(source, read_facts(source), CsvOptions())
    return propose(reading, locations=locations, name=name, file="users.yml")


def job_of(proposal: Proposal, source: Source, folder: Path = Path()) -> Job:
    job = parse_job(proposal.text, name="users.yml", folder=folder)
    for file in range(len(source.files)):
        check_columns(job, source.schema(file).names)
    return job


def spec_of(source: Source, name: str = "v") -> ColumnSpec:
    """How the proposed job sets a property."""
    return job_of(proposed(source), source).identification.operators["$set"][name]


def properties_of(source: Source) -> dict[str, ColumnSpec]:
    return dict(job_of(proposed(source), source).identification.operators.get("$set", {}))


def rejects_of(job: Job, source: Source) -> Counter[str]:
    """Rejects by code when the job's rows are read and mapped."""
    mapper = Mapper(job.identification)
    found: Counter[str] = Counter()
    for file in range(len(source.files)):
        for batch in source.read(RowRange(file), used=mapper.columns):
            found.update(reject.code for reject in mapper.map(batch).rejects)
    return found
