"""Spark's format `propsync`: what Spark calls on the driver and in its tasks."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession
from pyspark.sql.datasource import DataSource, DataSourceArrowWriter, WriterCommitMessage

from ..errors import EtlError
from ..tally import Tally
from .task import TaskResult, remove_leftovers, send_partition
from .write_order import DRIVER_VARIABLE, PropsyncSparkError, WriteOrder, make_order

if TYPE_CHECKING:
    from pyspark.sql.types import StructType


class PropsyncDataSource(DataSource):
    """The format `propsync`; register it with `spark.dataSource.register(PropsyncDataSource)`."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the format. Raises PropsyncSparkError for a session with speculation."""
        session = SparkSession.getActiveSession()  # None in Spark's own processes
        if session is not None:
            conf = session.sparkContext.getConf()
            refuse_speculation(conf.get("spark.speculation"))
            local = re.match(r"local(\[|$)", conf.get("spark.master") or "")
            reached = "127.0.0.1" if local else conf.get("spark.driver.host") or "127.0.0.1"
            bind = reached if local else conf.get("spark.driver.bindAddress") or reached
            # Spark gives these variables to the processes in which it makes the writer.
            session.sparkContext.environment[DRIVER_VARIABLE] = f"{bind} {reached}"
        return "propsync"

    def writer(self, schema: StructType, overwrite: bool) -> PropsyncWriter:
        """Check the job and the options on the driver, and make the run id."""
        if overwrite:
            raise PropsyncSparkError('users of Amplitude can\'t be overwritten; write .mode("append")')
        columns = {one.name: one.dataType.simpleString() for one in schema.fields}
        try:
            return PropsyncWriter(make_order(dict(self.options), columns))
        except (EtlError, PropsyncSparkError) as error:
            raise PropsyncSparkError(str(error)) from None


@dataclass(frozen=True)
class _TaskMessage(WriterCommitMessage):
    """The result that a task sends to the driver."""

    result: TaskResult


class PropsyncWriter(DataSourceArrowWriter):
    """Sends partitions; made on the driver, pickled to every task."""

    def __init__(self, order: WriteOrder) -> None:
        self._order = order

    def write(self, iterator: Iterator[pa.RecordBatch]) -> _TaskMessage:
        """Send the rows of one partition. Raises PropsyncSparkError, which fails the task."""
        context = TaskContext.get()
        assert context is not None  # noqa: S101 - Spark calls this in a task
        refuse_speculation(context.getLocalProperty("spark.speculation"))
        try:
            place = context.partitionId(), context.taskAttemptId()
            return _TaskMessage(send_partition(self._order, *place, iterator))
        except (EtlError, PropsyncSparkError) as error:
            raise PropsyncSparkError(str(error)) from None

    def commit(self, messages: list[WriterCommitMessage | None]) -> None:
        """Print the summary of all tasks. Raises PropsyncSparkError for what only the whole shows."""
        results = [one.result for one in messages if isinstance(one, _TaskMessage)]
        limit, total = self._order.settings.max_rejects, sum((one.tally for one in results), Tally())
        if limit.exceeded(total.rejected, total.rows, ended=True):
            raise PropsyncSparkError(
                f"{total.rejected:,} of {total.rows:,} rows were rejected, and max_rejects is {limit}; the "
                "others were accepted"
            )
        if any(one.divisor % len(messages) for one in results):
            raise PropsyncSparkError(
                "rows of one user may have been in several tasks, and arrived in any order; write "
                f"{self._order.partitioning}"
            )
        self._end("finished", messages)

    def abort(self, messages: list[WriterCommitMessage | None]) -> None:
        """Print what arrived in spite of the failure."""
        self._end("failed", messages)

    def _end(self, outcome: str, messages: list[WriterCommitMessage | None]) -> None:
        order, results = self._order, [one.result for one in messages if isinstance(one, _TaskMessage)]
        if order.rate is not None:
            order.rate.stop()
        remove_leftovers(order, results)
        total = sum((one.tally for one in results), Tally())
        codes = sum((one.rejects_by_code for one in results), Counter[str]())
        lines = [
            f"propsync: {order.job.name}, run {order.run_id}: {outcome}",
            f"  {total.rows:,} rows: {total.accepted:,} accepted, {total.unchanged:,} unchanged, "
            f"{total.merged:,} merged, {total.rejected:,} rejected; {len(results)} of {len(messages)} tasks",
        ]
        if len(results) < len(messages):
            again = "and count once" if order.counts_once else "which changes nothing"
            lines.append(
                "  the other tasks may have sent rows, too; write the same again with\n"
                f'  .option("run_id", "{order.run_id}"): rows that arrived are sent again, {again}'
            )
        if codes:
            where = f"the files part-{order.run_id}-* in {order.rejects_path}"
            where = where if order.rejects_path else 'set .option("rejects_path", FOLDER) to keep them'
            lines.append(f"  rejects: {', '.join(f'{n:,} {code}' for code, n in codes.items())}; {where}")
        if skipped := sum((one.skipped_by_column for one in results), Counter[str]()):
            counts = ", ".join(f"{n:,} of {column}" for column, n in skipped.items())
            lines.append(f"  skipped values: {counts}")
        if order.unused:
            lines.append(f"  not used here: {', '.join(order.unused)} in `run` of the job file")
        sys.stderr.write("\n".join(lines) + "\n")


def refuse_speculation(value: str | None) -> None:
    """Raise PropsyncSparkError if Spark is to run a task twice at the same time."""
    if (value or "").lower() == "true":
        raise PropsyncSparkError(
            "spark.speculation is true, so two attempts of a task would send at the same time, and rows of "
            'one user out of order; start the session with .config("spark.speculation", "false")'
        )
