"""The order of a write for its tasks, made on Spark's driver from the job and the options, or refused."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import click
import pyarrow as pa
import pyarrow.fs as fs

from ..amplitude.requests import DEFAULT_RATE, TRANSPORT_RULES, UNREPEATABLE
from ..checkpoint import StateDir
from ..cli.options import form_of, settings_of
from ..encoder import Limits
from ..errors import UsageError
from ..job.known_job import read_api_key
from ..job.problems import check_columns, did_you_mean
from ..job.run_options import RUN_OPTIONS
from ..job.spec import Job
from ..pipeline.settings import Settings, at_endpoint, known_limits
from ..subject import Subject
from .rate_server import RateAddress, start_rate_server

# Options of `run` that the format has too, with what reads their text.
_PARSERS: Final[Mapping[str, Callable[[str], Any]]] = {
    name: form_of(RUN_OPTIONS[name])[1]
    for name in (
        *("endpoint", "rate", "requests_per_second", "batch_size", "concurrency", "max_rejects"),
        *("max_outage", "retry_wait", "throttle_wait", "allow_http"),
    )
}
OPTIONS: Final = ("job", "rejects_path", "run_id", "rate_host", *_PARSERS)
# The types of ids whose hash is known, as Spark names them.
_HASHED: Final = {"string", "varchar", "char", "bigint", "int", "smallint", "tinyint"}
# Set for Spark's own processes by the data source: where the driver listens, and where it is reached.
DRIVER_VARIABLE: Final = "PROPSYNC_SPARK_DRIVER"


class PropsyncSparkError(Exception):
    """What can't be sent from Spark as it is written; the text says what to write instead."""

    __module__ = "propsync.spark"  # Spark shows it before the text


@dataclass(frozen=True, slots=True)
class WriteOrder:
    """What each task does with its partition, pickled to all of them; `rate` None: as fast as is admitted.

    `id_column` is the column by which rows are partitioned; None if all rows have the same id. `unused` are
    options in the job's section `run` that a write from Spark does not have.
    """

    job: Job
    run_id: str
    settings: Settings
    limits: Limits
    id_column: str | None
    rate: RateAddress | None
    rejects_path: str | None
    unused: tuple[str, ...]
    key: str = field(repr=False)

    @property
    def counts_once(self) -> bool:
        """Whether the destination drops what a repeated task sends again."""
        return TRANSPORT_RULES[self.job.destination.transport].counts_once

    @property
    def increments(self) -> bool:
        """Whether the job has operators that must not be applied twice."""
        return not UNREPEATABLE.isdisjoint(self.job.identification.operators)

    @property
    def partitioning(self) -> str:
        """What to write so that each user's rows are in one task, and in order."""
        return (
            f'df.repartition(n, "{self.id_column}").sortWithinPartitions("{self.id_column}", "updated_at"), '
            "with a number for n and the columns that order the rows of a user for updated_at"
        )

    def rejects_folder(self) -> tuple[fs.FileSystem, str]:
        """Where rejects go. Raises UsageError for a place that pyarrow doesn't know."""
        place = self.rejects_path or ""
        if "://" not in place:
            return fs.LocalFileSystem(), place
        try:
            system, folder = fs.FileSystem.from_uri(place.replace("s3a://", "s3://", 1))
        except (pa.ArrowException, OSError) as error:
            hint = "give a folder, or a URI such as s3://bucket/folder"
            raise UsageError(f"rejects_path: {error}", hint=hint) from error
        return system, folder


def make_order(options: Mapping[str, str], columns: Mapping[str, str]) -> WriteOrder:
    """Check the job and the options, make the run id, and start the server of the rate.

    `columns` are those of the DataFrame with Spark's names of their types. Raises PropsyncSparkError, or
    EtlError.
    """
    for name in options:
        if name not in OPTIONS:
            near = did_you_mean(name, OPTIONS) or f"; the options are {', '.join(OPTIONS)}"
            raise PropsyncSparkError(f"unknown option {name}{near}")
    if "job" not in options:
        raise PropsyncSparkError('there is no option job; write .option("job", "job.yml")')
    job = Job.load(Path(options["job"]), environ=os.environ)
    given = {name: value for name, value in job.run.items() if value is not None}
    settings = _settings({**given, **options})
    job = at_endpoint(job, settings)
    _check_job(job, columns)
    run_id = options.get("run_id", os.urandom(16).hex())
    if not re.fullmatch("[0-9a-f]{32}", run_id):
        fault = f"{run_id!r} does not have 32 of the digits 0 to 9 and a to f"
        raise PropsyncSparkError(f"option run_id: {fault}")
    place = options.get("rejects_path")
    if place is not None and "://" not in place:
        place = str(Path(place).absolute())  # a task may have another working directory
    limits, _ = known_limits(job, settings, StateDir(job.state_dir))
    unused = tuple(name for name in given if name not in _PARSERS)
    id_column, key = _id_column(job, columns), read_api_key(job, os.environ)
    order = WriteOrder(job, run_id, settings, limits, id_column, None, place, unused, key)
    order.rejects_folder()
    rates = settings.rate, settings.requests_per_second
    if rates == (None, None):
        return order
    bind, reached = os.environ.get(DRIVER_VARIABLE, "127.0.0.1 127.0.0.1").split()
    host = options.get("rate_host")
    try:
        return replace(order, rate=start_rate_server(*rates, host or bind, host or reached))
    except OSError as error:
        hint = 'give an address of the driver: .option("rate_host", "10.0.0.5")'
        raise PropsyncSparkError(f"{error}; {hint}") from error


def _settings(texts: Mapping[str, object]) -> Settings:
    values: dict[str, Any] = {"rate": DEFAULT_RATE}
    for name, parse in _PARSERS.items():
        try:
            values.update({name: parse(str(texts[name]))} if name in texts else {})
        except click.BadParameter as error:
            raise PropsyncSparkError(f"option {name}: {error.message}") from error
    return settings_of(**values)


def _check_job(job: Job, columns: Mapping[str, str]) -> None:
    """Raise PropsyncSparkError for what tasks can't do, JobError for a column that the DataFrame lacks."""
    increments = UNREPEATABLE & set(job.identification.operators)
    if increments and not TRANSPORT_RULES[job.destination.transport].counts_once:
        raise PropsyncSparkError(
            f"{', '.join(sorted(increments))} over `transport: identify` would count twice where Spark "
            "repeats a task; write `destination: {transport: batch}` into the job file"
        )
    if job.changes.absent == "unset":
        raise PropsyncSparkError(
            "`absent: unset` needs all users in one place; leave it out of the job file, or let propsync "
            "read the files that Spark wrote: propsync run job.yml"
        )
    if job.run.get("limit") is not None:
        raise PropsyncSparkError("tasks can't keep to `run.limit` of the job file; write df.limit(n)")
    if not job.transform:  # which may make columns
        check_columns(job, list(columns))


def _id_column(job: Job, columns: Mapping[str, str]) -> str | None:
    """The column of the leading id. Raises PropsyncSparkError if its partitioning can't be checked."""
    spec = job.identification.fields[Subject.of(job.identification.fields).lead]
    if spec.column is None:
        return None
    kind = columns.get(spec.column, "missing")
    if spec.path or kind.partition("(")[0] not in _HASHED:
        raise PropsyncSparkError(
            "the id has to be a column of text or whole numbers, by which rows are partitioned, and "
            f'{spec.column} is {kind}; make one: df.withColumn("user_id", col("...").cast("string"))'
        )
    return spec.column
