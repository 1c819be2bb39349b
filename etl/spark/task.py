"""One task: it maps, encodes and sends the rows of its partition, and counts their outcomes.

The run id comes from the driver, so an event has the same insert_id in every attempt of a task, and counts
once over `transport: batch`. There is no checkpoint and no snapshot: Spark decides what is tried again, and
every row is sent.

A task must have all rows of its users, which Spark's hash of the ids shows. `repartition(n, column)` puts a
row into partition hash modulo n, with the 32-bit MurmurHash3 of
`org.apache.spark.sql.catalyst.expressions.Murmur3Hash` (seed 42). A task doesn't know n. But n divides the
difference between the hash and the partition's number for each of its rows, so their greatest common
divisor is above that number, or the rows are not partitioned that way.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import chain
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.fs as fs
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ..model import Chunk, Reject
from ..pipeline.row_pipeline import RowPipeline
from ..pipeline.send_loop import committed_rows
from ..pipeline.settings import make_transport
from ..reader import open_source
from ..sender import Outcome, RateLimiter, Sender
from ..tally import Tally
from .rate_server import SharedRate
from .write_order import PropsyncSparkError, WriteOrder

_REJECT_FIELDS: Final = ("source", "row", "code", "reason", "values")
_REJECTS_AT_ONCE: Final = 10_000


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What a task did: its counts, which add up to its rows, and the file of its rejects, if it has any.

    `divisor` is what the number of partitions divides (see `PartitionCheck`).
    """

    tally: Tally = Tally()
    rejects_by_code: Counter[str] = field(default_factory=Counter)
    skipped_by_column: Counter[str] = field(default_factory=Counter)
    rejects_file: str | None = None
    divisor: int = 0


def send_partition(
    order: WriteOrder, partition: int, attempt: int, batches: Iterator[pa.RecordBatch]
) -> TaskResult:
    """Send the rows of a partition; `attempt` is unique in the write.

    Raises PropsyncSparkError for rows that belong elsewhere or too many rejects, EtlError if sending fails.
    """
    first = next(batches, None)
    if first is None:
        return TaskResult()
    return asyncio.run(_Task(order, partition, attempt).run(chain([first], batches)))


class _Task:
    """One attempt at one partition."""

    def __init__(self, order: WriteOrder, partition: int, attempt: int) -> None:
        self._order, self._partition = order, partition
        self._check = PartitionCheck(partition, sorted_by_id=order.increments)
        self._rows, self._tally, self._codes, self._skipped = 0, Tally(), Counter[str](), Counter[str]()
        name = f"part-{order.run_id}-{partition:05}-{attempt}.parquet"
        self._rejects = RejectsFile(order, name) if order.rejects_path else None

    async def run(self, batches: Iterator[pa.RecordBatch]) -> TaskResult:
        order, job, settings = self._order, self._order.job, self._order.settings
        # Rows of two partitions may have the same number, and their events never the same insert_id.
        own_id = blake2b(f"{order.run_id}/{self._partition}".encode(), digest_size=16).hexdigest()
        source = open_source([self._checked(batches)])
        pipeline = RowPipeline(job, source, run_id=own_id, limits=order.limits)
        transport = make_transport(job, order.key, settings)
        with ExitStack() as stack:
            rate: RateLimiter | None = None
            if order.rate is not None:
                rate = SharedRate(stack.enter_context(order.rate.connect()))
            if self._rejects is not None:
                stack.enter_context(self._rejects)
            sender = Sender(
                transport,
                rate=rate,
                slots=settings.concurrency,
                max_outage=settings.max_outage,
                backoff=settings.backoff,
            )
            async with transport, sender:
                chunks = pipeline.chunks(pipeline.rows.files())
                while (
                    not sender.stopping and (some := await asyncio.to_thread(next, chunks, None)) is not None
                ):
                    for chunk in some:
                        await sender.send(chunk, self._commit)
            tally = self._tally + sender.read_meter()
            ends = tally.accepted + tally.unchanged + tally.merged + tally.rejected
            if not self._rows == tally.rows == ends:
                raise RuntimeError(f"{self._rows:,} rows came, and {ends:,} have an end")
        path = self._rejects.path if self._rejects is not None and tally.rejected else None
        return TaskResult(tally, self._codes, self._skipped, path, self._check.divisor)

    def _checked(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The batches, each once it is known that its rows belong to this partition."""
        column = self._order.id_column
        for batch in batches:
            self._rows += batch.num_rows
            if column is not None and (fault := self._check.fault(batch.column(column))):
                remedy = f"write {self._order.partitioning}"
                raise PropsyncSparkError(f"partition {self._partition}: {fault}; {remedy}")
            yield batch

    async def _commit(self, chunk: Chunk, outcome: Outcome) -> None:
        rows = committed_rows(chunk, outcome)
        self._tally += rows.tally
        self._codes.update(reject.code for reject in rows.rejects)
        for column, _, count in rows.skipped:
            self._skipped[column] += count
        if self._rejects is not None:
            self._rejects.add(replace(one, source=f"partition {self._partition}") for one in rows.rejects)
        limit, tally = self._order.settings.max_rejects, self._tally
        if rows.rejects and limit.exceeded(tally.rejected, tally.rows, ended=False):
            raise PropsyncSparkError(
                f"{tally.rejected:,} of {tally.rows:,} rows of partition {self._partition} were rejected, "
                f"and max_rejects is {limit}; row {rows.rejects[-1].row}: {rows.rejects[-1].reason}"
            )


class RejectsFile(AbstractContextManager["RejectsFile"]):
    """The rejects of one attempt as Parquet; a `_` hides the file from readers until the attempt succeeds."""

    def __init__(self, order: WriteOrder, name: str) -> None:
        self._system, folder = order.rejects_folder()
        self._folder, self._target = folder, f"{folder.rstrip('/')}/{name}"
        self._unfinished = f"{folder.rstrip('/')}/_{name}"
        self.path = f"{(order.rejects_path or '').rstrip('/')}/{name}"
        self._rows: list[Reject] = []
        self._file: pq.ParquetWriter | None = None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is None and self._rows:
            self._flush()
        if self._file is not None:
            self._file.close()
            if error is None:
                self._system.move(self._unfinished, self._target)
            else:
                self._system.delete_file(self._unfinished)

    def add(self, rejects: Iterator[Reject]) -> None:
        """Add rejects; they are written in row groups."""
        self._rows += rejects
        if len(self._rows) >= _REJECTS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        rows = pa.Table.from_pylist(
            [{name: getattr(one, name) for name in _REJECT_FIELDS} for one in self._rows]
        )
        if self._file is None:
            self._system.create_dir(self._folder, recursive=True)
            self._file = pq.ParquetWriter(self._unfinished, rows.schema, filesystem=self._system)
        self._file.write_table(rows)
        self._rows = []


def remove_leftovers(order: WriteOrder, results: list[TaskResult]) -> None:
    """Remove the files of rejects of attempts that don't count."""
    if order.rejects_path is None:
        return
    system, folder = order.rejects_folder()
    counted = {one.rejects_file.rpartition("/")[2] for one in results if one.rejects_file}
    for file in system.get_file_info(fs.FileSelector(folder, allow_not_found=True)):
        if file.base_name.lstrip("_").startswith(f"part-{order.run_id}-") and file.base_name not in counted:
            system.delete_file(file.path)


# --- whether it has all rows of its users ----------------------------------------------------------------

_SEED: Final = np.uint32(42)


class PartitionCheck:
    """Checks the rows of one task, batch by batch; `divisor` is what the number of partitions divides."""

    def __init__(self, partition: int, *, sorted_by_id: bool) -> None:
        self.divisor = 0
        self._partition = partition
        self._sorted = sorted_by_id
        self._last: str | int | None = None

    def fault(self, ids: pa.Array) -> str | None:
        """What is wrong with the rows so far, after the next ones with these `ids`, as Spark has them.

        With `sorted_by_id` their ids must also ascend, as UTF-8.
        """
        away = np.unique(spark_hash(ids).astype(np.int64) - self._partition)
        self.divisor = math.gcd(self.divisor, *away.tolist())
        if 0 < self.divisor <= self._partition:
            return "it has rows of users that belong to other tasks"
        if not self._sorted or not len(ids):
            return None
        whole = pa.types.is_integer(ids.type)
        given = ids.cast(pa.int64() if whole else pa.string()).fill_null(-(2**63) if whole else "")
        if self._last is not None:
            given = pa.concat_arrays([pa.array([self._last], given.type), given])
        self._last = given[-1].as_py()
        descends = pc.any(pc.greater(given[:-1], given[1:])).as_py()
        return "its ids do not ascend, so a repeated task could count rows twice" if descends else None


def spark_hash(ids: pa.Array) -> NDArray[np.int32]:
    """Spark's hash of n texts or whole numbers, shape (n,). A null hashes to the seed."""
    with np.errstate(over="ignore"):
        if not pa.types.is_integer(ids.type):
            hashes = _hash_texts(ids.cast(pa.string()))
        elif ids.type.bit_width == 64:
            words = ids.fill_null(0).to_numpy().astype(np.int64).view(np.uint32).reshape(-1, 2)
            hashes = _finish(_mix(_mix(np.full(len(ids), _SEED), words[:, 0]), words[:, 1]), np.uint32(8))
        else:  # Spark hashes the small ones as int
            words = ids.fill_null(0).to_numpy().astype(np.int32).view(np.uint32)
            hashes = _finish(_mix(np.full(len(ids), _SEED), words), np.uint32(4))
    if ids.null_count:
        hashes[ids.is_null().to_numpy(zero_copy_only=False)] = _SEED
    return hashes.view(np.int32)


def _hash_texts(texts: pa.StringArray) -> NDArray[np.uint32]:
    """Words of four bytes, little-endian; then each byte that is left as a signed number of its own."""
    _, offsets_buffer, data = texts.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    letters = np.zeros(int(offsets[-1]) + 4 if len(texts) else 4, np.uint8)
    letters[: len(letters) - 4] = np.frombuffer(data or b"", np.uint8)[: len(letters) - 4]
    starts, lengths = offsets[:-1].astype(np.int64), np.diff(offsets)
    hashes = np.full(len(texts), _SEED)
    whole = lengths // 4
    words = np.ndarray((len(letters) - 3,), "<u4", letters, strides=(1,))
    for number in range(int(whole.max(initial=0))):
        rows = np.flatnonzero(whole > number)
        hashes[rows] = _mix(hashes[rows], words[starts[rows] + 4 * number])
    for number in range(3):
        rows = np.flatnonzero(lengths - 4 * whole > number)
        signed = letters[starts[rows] + 4 * whole[rows] + number].view(np.int8).astype(np.int32)
        hashes[rows] = _mix(hashes[rows], signed.view(np.uint32))
    return _finish(hashes, lengths.astype(np.uint32))


def _mix(hashes: NDArray[np.uint32], words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    mixed = _rotate(words * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
    return _rotate(hashes ^ mixed, 13) * np.uint32(5) + np.uint32(0xE6546B64)


def _finish(hashes: NDArray[np.uint32], lengths: NDArray[np.uint32] | np.uint32) -> NDArray[np.uint32]:
    hashes = hashes ^ lengths
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        hashes = (hashes ^ (hashes >> np.uint32(shift))) * np.uint32(factor)
    return hashes ^ (hashes >> np.uint32(16))


def _rotate(words: NDArray[np.uint32], bits: int) -> NDArray[np.uint32]:
    return (words << np.uint32(bits)) | (words >> np.uint32(32 - bits))
