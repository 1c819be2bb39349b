"""Jobs, tables and their chunks for the tests of the encoder."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import numpy as np
import pyarrow as pa
from arro3.io import write_ndjson

from etl.encoder import Encoder, Encoding, Limits
from etl.job.spec import Job
from etl.mapper import Mapper
from etl.model import Batch, Chunk, Mapped

Identification = dict[str, Any]


def mapper_of(identification: Mapping[str, object], **others: object) -> Mapper:
    data = {"name": "test", "source": "rows.csv", "identification": identification, **others}
    return Mapper(Job.of(data, folder=Path()).identification)


def batch_of(table: pa.Table, start: int, stop: int) -> Batch:
    rows = pa.RecordBatch.from_arrays(
        [column.combine_chunks() for column in table.slice(start, stop - start).columns], schema=table.schema
    )
    return Batch("rows.csv", 0, start + 1, stop + 1, np.arange(start, stop) + 1, rows)


def mapped_of(mapper: Mapper, table: pa.Table, breaks: Iterable[int] = ()) -> list[Mapped]:
    """The table's rows, mapped in batches that end at `breaks` (0-based) and at its end."""
    ends = [0, *sorted(breaks), table.num_rows]
    return [mapper.map(batch_of(table, a, b)) for a, b in pairwise(ends)]


def chunks_of(
    mapped: list[Mapped], limits: Limits, *, first: int = 1, encoding: Encoding | None = None
) -> list[Chunk]:
    encoder = Encoder(first=first, limits=limits, encoding=encoding)
    return [chunk for batch in mapped for chunk in encoder.feed(batch)] + list(encoder.finish())


def body_of(chunk: Chunk) -> bytes:
    """The body's pieces as one."""
    return b"".join(chunk.body)


def events_of(chunk: Chunk) -> list[Identification]:
    """What a server reads in the body of a chunk of events."""
    found: list[Identification] = json.loads(body_of(chunk)) if chunk.body else []
    return found


def sent_by(chunk: Chunk) -> list[Identification]:
    """What a server reads in a chunk's body."""
    text = unquote_plus(body_of(chunk).decode("ascii"))
    found: list[Identification] = json.loads(text) if text else []
    return found


def one_by_one(mapped: list[Mapped]) -> list[Identification]:
    """Every row's own identification, unmerged."""
    found: list[Identification] = []
    for batch in mapped:
        if batch.identifications.num_rows:
            stream = io.BytesIO()
            write_ndjson(batch.identifications, stream)
            found += [json.loads(line) for line in stream.getvalue().decode().split("\n")[:-1]]
    return found
