"""Spark's format `propsync`: each task maps, encodes and sends the rows of its partition.

The driver makes the run id once, so an event has the same insert_id in every attempt of a task, and counts
once over `transport: batch`. One rate holds for all tasks together (`rate_server`), and one user's rows are
in one task (`partitions`), so they arrive in order. There is no checkpoint and no snapshot: Spark decides
what is tried again, and every row is sent.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa
import pyarrow.fs as fs
import pyarrow.parquet as pq
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, WriterCommitMessage

from ..amplitude.limits import DEFAULT_RATE, DEFAULT_REQUESTS_PER_SECOND, TRANSPORT_RULES
from ..amplitude.operators import UNREPEATABLE
from ..errors import EtlError
from ..job import Job, endpoint, load_job, read_api_key
from ..model import Chunk, Reject, Tally
from ..pipeline import RejectLimit, RowPipeline, Settings
from ..pipeline.commit import committed_rows
from ..reader import open_source
from ..sender import Outcome, RateLimiter, Sender
from ..sender.transports import TRANSPORTS
from ..subject import Subject
from .partitions import PartitionCheck
from .rate_server import RateAddress, SharedRate, start_rate_server

if TYPE_CHECKING:
    from pyspark.sql.types import StructType

_OPTIONS: Final = (
    *("job", "endpoint", "rejects_path", "run_id", "rate", "requests_per_second", "batch_size"),
    *("concurrency", "max_rejects", "max_outage", "rate_host", "allow_http"),
)
_REJECT_SCHEMA: Final = pa.schema(
    [
        ("source", pa.string()),
        ("row", pa.int64()),
        ("code", pa.string()),
        ("reason", pa.string()),
        ("values", pa.string()),
    ]
)
_REJECTS_AT_ONCE: Final = 10_000


class PropsyncSparkError(Exception):
    """What can't be sent from Spark as it is written; the text says what to write instead."""


class PropsyncDataSource(DataSource):
    """The format `propsync`; register it with `spark.dataSource.register(PropsyncDataSource)`."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the format. Raises PropsyncSparkError for a session with speculation."""
        session = SparkSession.getActiveSession()  # None in Spark's own worker processes
        if session is not None:
            _refuse_speculation(session.conf.get("spark.speculation", "false"))
        return "propsync"

    def writer(self, schema: StructType, overwrite: bool) -> PropsyncWriter:
        """Check the job and the options on the driver, and make the run id."""
        options = dict(self.options)
        if overwrite:
            raise PropsyncSparkError("Amplitude's users can't be overwritten; write .mode(\"append\")")
        unknown = sorted(set(options) - set(_OPTIONS) - {"path"})
        if unknown or "job" not in options:
            what = f"unknown option {', '.join(unknown)}" if unknown else "there is no option job"
            raise PropsyncSparkError(
                f'{what}; the options are {", ".join(_OPTIONS)}: .option("job", "job.yml")'
            )
        try:
            return _writer(options, schema.fieldNames())
        except EtlError as error:
            raise PropsyncSparkError(str(error)) from error


@dataclass(frozen=True)
class TaskResult(WriterCommitMessage):
    """What a task did: its counts, which add up to its rows, and the file of its rejects, if it has any."""

    partition: int
    tally: Tally = Tally()
    rejects_by_code: Mapping[str, int] = field(default_factory=dict)
    rejects_file: str | None = None


@dataclass(frozen=True)
class PropsyncWriter(DataSourceArrowWriter):
    """Sends partitions; made on the driver, pickled to every task."""

    job: Job
    run_id: str
    rate: RateAddress | None
    settings: Settings
    rejects_path: str | None
    key: str = field(repr=False)

    def write(self, iterator: Iterator[pa.RecordBatch]) -> TaskResult:
        """Send the rows of one partition. Raises PropsyncSparkError, or EtlError, which fails the task."""
        context = TaskContext.get()
        assert context is not None  # noqa: S101 - Spark calls this in a task
        _refuse_speculation(context.getLocalProperty("spark.speculation") or "false")
        driver = "127.0.0.1"
        if not (context.getLocalProperty("spark.master") or "").startswith("local"):
            driver = context.getLocalProperty("spark.driver.host") or driver
        return asyncio.run(_Task(self, context.partitionId(), context.taskAttemptId(), driver).run(iterator))

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """Print the summary of all tasks."""
        self._end("finished", messages)

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """Print what arrived all the same."""
        self._end("stopped: a task failed", messages)

    def _end(self, outcome: str, messages: list[WriterCommitMessage | None]) -> None:
        if self.rate is not None:
            self.rate.stop()
        done = [message for message in messages if isinstance(message, TaskResult)]
        total, files = Tally(), [one.rejects_file for one in done if one.rejects_file]
        for one in done:
            total += one.tally
        lines = [
            f"propsync: {self.job.name}, run {self.run_id}: {outcome}",
            f"  {total.rows:,} rows: {total.accepted:,} accepted, {total.unchanged:,} unchanged, "
            f"{total.merged:,} merged, {total.rejected:,} rejected, by {len(done)} of {len(messages)} tasks",
        ]
        if len(done) < len(messages):
            hint = "count once" if _counts_once(self.job) else "are sent again"
            lines.append(
                f'  the other tasks may have sent rows, too; write again with .option("run_id", '
                f'"{self.run_id}"): rows that arrived {hint}'
            )
        lines += [f"  rejects: {path}" for path in files]
        sys.stderr.write("\n".join(lines) + "\n")


def _writer(options: dict[str, str], columns: list[str]) -> PropsyncWriter:
    """The writer of a job. Raises EtlError or PropsyncSparkError."""
    from ..cli.options import parse_duration, parse_rate, parse_reject_limit

    job = load_job(Path(options["job"]), environ=os.environ)
    if "endpoint" in options:
        job = replace(job, destination=replace(job.destination, endpoint=endpoint(options["endpoint"])))
    increments = sorted(UNREPEATABLE & set(job.identification.operators))
    if increments and not _counts_once(job):
        raise PropsyncSparkError(
            f"{', '.join(increments)} over `transport: identify` would count twice where Spark repeats a "
            "task; write `destination: {transport: batch}` into the job file"
        )
    if job.changes.absent == "unset":
        raise PropsyncSparkError(
            "`absent: unset` needs all users in one place; leave it out of the job file, or let propsync "
            "read the files that Spark wrote: propsync run job.yml"
        )
    missing = [name for name in job.identification.columns() if name not in columns]
    if missing and not job.transform:
        raise PropsyncSparkError(
            f"the DataFrame has no column {', '.join(missing)}; it has {', '.join(columns)}"
        )
    run_id = options.get("run_id") or os.urandom(16).hex()
    if len(run_id) != 32 or set(run_id) - set("0123456789abcdef"):
        raise PropsyncSparkError(f"run_id is {run_id!r}; it has 32 of the digits 0 to 9 and a to f")
    rate = parse_rate(options.get("rate", f"{DEFAULT_RATE:g}"))
    unlimited = rate == float("inf")
    default = float("inf") if unlimited else DEFAULT_REQUESTS_PER_SECOND
    requests = parse_rate(options["requests_per_second"]) if "requests_per_second" in options else default
    per_second, requests_per_second = (None if one == float("inf") else one for one in (rate, requests))
    settings = Settings(
        concurrency=int(options.get("concurrency", 8)),
        batch_size=int(options["batch_size"]) if "batch_size" in options else None,
        max_outage=parse_duration(options.get("max_outage", "30m")),
        max_rejects=parse_reject_limit(options["max_rejects"]) if "max_rejects" in options else RejectLimit(),
        allow_http=options.get("allow_http", "false") == "true",
    )
    settings.limits(job.destination.transport)
    key = read_api_key(job, os.environ)
    address = None
    if per_second or requests_per_second:
        address = start_rate_server(per_second, requests_per_second, options.get("rate_host", ""))
    return PropsyncWriter(job, run_id, address, settings, options.get("rejects_path"), key)


class _Task:
    """One attempt at one partition."""

    def __init__(self, writer: PropsyncWriter, partition: int, attempt: int, driver: str) -> None:
        self._writer, self._partition, self._driver = writer, partition, driver
        subject = Subject.of(writer.job.identification.fields)
        self._id_column = writer.job.identification.fields[subject.lead].column
        increments = not UNREPEATABLE.isdisjoint(writer.job.identification.operators)
        self._check = PartitionCheck(partition, sorted_by_id=increments)
        self._tally, self._codes = Tally(), dict[str, int]()
        name = f"part-{partition:05}-{attempt}.parquet"
        self._rejects = _RejectsFile(writer.rejects_path, name) if writer.rejects_path else None

    async def run(self, batches: Iterator[pa.RecordBatch]) -> TaskResult:
        """Send the rows of the partition, and count what became of them."""
        first = next(batches, None)
        if first is None:
            return TaskResult(self._partition)
        writer, job = self._writer, self._writer.job
        stream = pa.RecordBatchReader.from_batches(first.schema, self._checked(first, batches))
        own_id = blake2b(f"{writer.run_id}/{self._partition}".encode(), digest_size=16).hexdigest()
        pipeline = RowPipeline(
            job,
            open_source([stream]),
            run_id=own_id,
            limits=writer.settings.limits(job.destination.transport),
        )
        way = TRANSPORTS[job.destination.transport](
            job.destination.endpoint,
            writer.key,
            connections=writer.settings.concurrency,
            allow_http=writer.settings.allow_http,
            trust_status=job.destination.trust_status,
        )
        with ExitStack() as stack:
            rate: RateLimiter | None = None
            if writer.rate is not None:
                rate = SharedRate(stack.enter_context(writer.rate.connect(self._driver)))
            if self._rejects is not None:
                stack.enter_context(self._rejects)
            async with (
                way,
                Sender(
                    way,
                    rate=rate,
                    slots=writer.settings.concurrency,
                    max_outage=writer.settings.max_outage,
                ) as sender,
            ):
                chunks = pipeline.chunks(pipeline.rows.files())
                while (some := await asyncio.to_thread(next, chunks, None)) is not None:
                    for chunk in some:
                        await sender.send(chunk, self._commit)
            path = self._rejects.path if self._rejects is not None and self._tally.rejected else None
        return TaskResult(self._partition, self._tally, self._codes, path)

    def _checked(self, first: pa.RecordBatch, rest: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches, once it is sure that all rows of their users are in this partition."""
        for batch in chain([first], rest):
            if self._id_column is not None and not self._check.fits(batch.column(self._id_column)):
                column = self._id_column
                raise PropsyncSparkError(
                    "rows of one user may be in several tasks, or not in the order of the ids (partition "
                    f'{self._partition}); write df.repartition(n, "{column}")'
                    f'.sortWithinPartitions("{column}", "updated_at").write.format("propsync") with a number '
                    "for n"
                )
            yield batch

    async def _commit(self, chunk: Chunk, outcome: Outcome) -> None:
        rows = committed_rows(chunk, outcome)
        self._tally += rows.tally
        for reject in rows.rejects:
            self._codes[reject.code] = self._codes.get(reject.code, 0) + 1
        if self._rejects is not None:
            self._rejects.add(replace(one, source=f"partition {self._partition}") for one in rows.rejects)
        limit, tally = self._writer.settings.max_rejects, self._tally
        if limit.exceeded(tally.rejected, tally.rows, ended=False):
            raise PropsyncSparkError(
                f"{tally.rejected:,} of {tally.rows:,} rows of partition {self._partition} were rejected; "
                f"the limit is {limit}: see the rejects for the reasons, or allow more with max_rejects"
            )


class _RejectsFile:
    """The rejects of a task as Parquet; an attempt that fails leaves none."""

    def __init__(self, folder: str, name: str) -> None:
        self._system, path = (
            fs.FileSystem.from_uri(folder) if "://" in folder else (fs.LocalFileSystem(), folder)
        )
        self._folder, self.path = path, f"{folder.rstrip('/')}/{name}"
        self._target = f"{path.rstrip('/')}/{name}"
        self._rows: list[Reject] = []
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> _RejectsFile:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None and self._rows:
            self._flush()
        if self._file is not None:
            self._file.close()
            if error is not None:
                self._system.delete_file(self._target)

    def add(self, rejects: Iterator[Reject]) -> None:
        """Add rejects; they are written in row groups."""
        self._rows += rejects
        if len(self._rows) >= _REJECTS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if self._file is None:
            self._system.create_dir(self._folder, recursive=True)
            self._file = pq.ParquetWriter(self._target, _REJECT_SCHEMA, filesystem=self._system)
        rows = [{name: getattr(one, name) for name in _REJECT_SCHEMA.names} for one in self._rows]
        self._file.write_table(pa.Table.from_pylist(rows, _REJECT_SCHEMA))
        self._rows = []


def _counts_once(job: Job) -> bool:
    return TRANSPORT_RULES[job.destination.transport].counts_once


def _refuse_speculation(value: str | None) -> None:
    if value == "true":
        raise PropsyncSparkError(
            "spark.speculation is true, so two attempts of a task would send at the same time, and rows of "
            'one user out of order; start the session with .config("spark.speculation", "false")'
        )
