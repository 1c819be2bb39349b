"""How entries of a snapshot stand in an Arrow file, and rows on their way there. No I/O.

An entry whose user is in doubt has the highest bit of `run` set. In a job with both ids a device's entry has
the key of the user whom it was linked to first: links are for good.

Fingerprints by property stand user by user, not property by property: a lookup meets one place in memory
instead of one for each property. Before them stands one for them all, so that of a user without a change
only that is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from etl.snapshot.fingerprints import whole_fingerprints
from etl.snapshot.partitions import KEY
from etl.snapshot.stamp import Contents, Stamp

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from etl.model import Fingerprints
    from etl.snapshot.layout import Layout

RUN: Final = "run"
WHOLE: Final = "whole"
PRINTS: Final = "prints"
OWNER: Final = "owner"
DOUBT: Final = "doubt"
IN_DOUBT: Final = np.uint32(1 << 31)  # in a run's number
SNAPSHOT: Final = "snapshot"


@dataclass(frozen=True, slots=True)
class Entries:
    """m users: `keys` (uint64, shape (m,)), `runs` (uint32, shape (m,)) and `fingerprints` (shape (m, p)).

    `owners` (uint64, shape (m,)): whom a device is linked to, 0 for nobody; None where nobody asks.
    """

    keys: NDArray[np.uint64]
    runs: NDArray[np.uint32]
    fingerprints: Fingerprints
    owners: NDArray[np.uint64] | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def picked(self, places: NDArray[Any]) -> Entries:
        """The entries at these places, or where the mask is true."""
        owners = None if self.owners is None else self.owners[places]
        return Entries(self.keys[places], self.runs[places], self.fingerprints[places], owners)


def added_schema(layout: Layout) -> pa.Schema:
    """Rows of an export: a key and its fingerprints."""
    return pa.schema([_field(KEY, pa.uint64()), _field(PRINTS, pa.binary(_width(layout)))])


def sent_schema(layout: Layout) -> pa.Schema:
    """Rows that were sent: the same, whether they are in doubt, and whom a device was linked to."""
    owner = [_field(OWNER, pa.uint64())] if layout.paired else []
    key, fingerprints = added_schema(layout)
    return pa.schema([key, fingerprints, _field(DOUBT, pa.uint8()), *owner])


def snapshot_schema(layout: Layout, stamp: Stamp, hashing: int) -> pa.Schema:
    """A snapshot's columns, with all that it says of itself."""
    width = pa.from_numpy_dtype(layout.dtype)
    fields = [_field(KEY, pa.uint64()), _field(RUN, pa.uint32()), _field(WHOLE, width)]
    if layout.paired:
        fields.append(_field(OWNER, pa.uint64()))
    if layout.mode == "property":
        fields.append(_field(PRINTS, pa.binary(_width(layout))))
    contents = Contents(SNAPSHOT, stamp, layout.mode, layout.names, hashing)
    return pa.schema(fields, contents.metadata())


def added_rows(keys: NDArray[np.uint64], fingerprints: Fingerprints, schema: pa.Schema) -> pa.RecordBatch:
    """Rows of `added_schema`."""
    return pa.RecordBatch.from_arrays([pa.array(keys), _fixed(fingerprints)], schema=schema)


def added_entries(rows: pa.RecordBatch, layout: Layout, run: int) -> Entries:
    """The inverse of `added_rows`, as entries of a run."""
    runs = np.full(rows.num_rows, run, dtype=np.uint32)
    fingerprints = matrix(rows.column(PRINTS), layout.dtype)
    owners = rows.column(OWNER).to_numpy() if OWNER in rows.schema.names else None
    return Entries(rows.column(KEY).to_numpy(), runs, fingerprints, owners)


def sent_rows(
    keys: NDArray[np.uint64],
    fingerprints: Fingerprints,
    owners: NDArray[np.uint64] | None,
    *,
    doubtful: bool,
    schema: pa.Schema,
) -> pa.RecordBatch:
    """Rows of `sent_schema`, all in doubt or none."""
    doubts = np.full(len(keys), doubtful, dtype=np.uint8)
    arrays = [pa.array(keys), _fixed(fingerprints), pa.array(doubts)]
    return pa.RecordBatch.from_arrays(arrays + ([] if owners is None else [pa.array(owners)]), schema=schema)


def doubts_of(rows: pa.RecordBatch) -> NDArray[np.bool_]:
    """Which rows of `sent_schema` are in doubt; shape (n,)."""
    doubts: NDArray[np.bool_] = rows.column(DOUBT).to_numpy().view(np.bool_)
    return doubts


def snapshot_rows(entries: Entries, layout: Layout, schema: pa.Schema) -> pa.RecordBatch:
    """Rows of `snapshot_schema`."""
    columns = [
        pa.array(entries.keys),
        pa.array(entries.runs),
        pa.array(whole_fingerprints(entries.fingerprints, layout)),
    ]
    if layout.paired:
        assert entries.owners is not None  # noqa: S101 - as `snapshot_entries` and `sent_rows` make them
        columns.append(pa.array(entries.owners))
    if layout.mode == "property":
        columns.append(_fixed(entries.fingerprints))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def snapshot_entries(pieces: Sequence[pa.RecordBatch], names: Sequence[str], layout: Layout) -> Entries:
    """Rows of a snapshot with the columns `names` as entries with those of `layout`, 0 where it lacks one."""
    rows = pa.Table.from_batches(pieces).combine_chunks().to_batches()[:1] if pieces else []
    if not rows:
        nothing = np.empty((0, len(layout.names)), dtype=layout.dtype)
        nobody = np.empty(0, np.uint64)
        return Entries(nobody, np.empty(0, np.uint32), nothing, nobody if layout.paired else None)
    found = stored_fingerprints(rows[0], layout)
    fingerprints = np.zeros((len(found), len(layout.names)), dtype=layout.dtype)
    here, there = shared(layout.names, names)
    fingerprints[:, here] = found[:, there]
    owners = owners_of(rows[0]) if layout.paired else None
    return Entries(rows[0].column(KEY).to_numpy(), rows[0].column(RUN).to_numpy(), fingerprints, owners)


def owners_of(rows: pa.RecordBatch) -> NDArray[np.uint64]:
    """Whom the devices among a snapshot's rows are linked to; shape (m,). Older snapshots don't know."""
    if OWNER not in rows.schema.names:
        return np.zeros(rows.num_rows, dtype=np.uint64)
    owners: NDArray[np.uint64] = rows.column(OWNER).to_numpy()
    return owners


def stored_fingerprints(rows: pa.RecordBatch, layout: Layout) -> Fingerprints:
    """The fingerprints of a snapshot's rows, in the snapshot's own order of columns, not copied."""
    if layout.mode == "user":
        whole: Fingerprints = rows.column(WHOLE).to_numpy().reshape(-1, 1)
        return whole
    return matrix(rows.column(PRINTS), layout.dtype)


def shared(names: Sequence[str], stored: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places of the names that are in both, in the one and in the other."""
    places = {name: place for place, name in enumerate(stored)}
    both = [(place, places[name]) for place, name in enumerate(names) if name in places]
    return [here for here, _ in both], [there for _, there in both]


def matrix(column: pa.FixedSizeBinaryArray, kind: np.dtype[Any]) -> Fingerprints:
    """The numbers in values of fixed size, one row each, not copied."""
    width = column.type.byte_width // kind.itemsize
    numbers = np.frombuffer(column.buffers()[1] or b"", dtype=kind)
    fingerprints: Fingerprints = numbers[column.offset * width : (column.offset + len(column)) * width]
    return fingerprints.reshape(len(column), width)


def _fixed(fingerprints: Fingerprints) -> pa.FixedSizeBinaryArray:
    data = pa.py_buffer(np.ascontiguousarray(fingerprints))
    kind = pa.binary(fingerprints.shape[1] * fingerprints.itemsize)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(fingerprints), [None, data])


def _width(layout: Layout) -> int:
    return layout.dtype.itemsize * len(layout.names)


def _field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)
