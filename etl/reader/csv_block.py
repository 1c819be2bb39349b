"""Whole CSV records as columns, with proof that they were whole.

A sentinel record is parsed after them. If it comes back as a record of its own, the block ended between
records; if a quoted value swallowed it, the block didn't. Bad lines are replaced by records with a field too
many, which pyarrow hands back with their numbers.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from etl.reader.csv_delimiter import Delimiter
from etl.reader.csv_escapes import Escapes
from etl.reader.decoding import MARK_BYTES, marked
from etl.reader.grammar import BadLine, Grammar

# Letters and digits, which no delimiter and no quote is.
SENTINEL: Final = uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Layout:
    """How the records of one file are written, and the `names` of its columns.

    `header` has them as the header spells them, or nothing where a record that repeats it can't be told;
    `delimiter` brings back one that was replaced.
    """

    grammar: Grammar
    escapes: Escapes
    names: list[str]
    header: list[str]
    delimiter: Delimiter


@dataclass(frozen=True, slots=True)
class Parsed:
    """What pyarrow made of a block of records.

    `rows` are those with as many fields as there are names; `ragged` has number (from 1, in the block) and
    text of the others, and `bad` number and line of each bad line. `whole` says that the block ended between
    records, `dirty` that it has marked bytes. `headers` are the positions in `rows` of records that repeat
    the header.
    """

    rows: pa.RecordBatch
    ragged: list[tuple[int, str]]
    bad: list[tuple[int, BadLine]]
    whole: bool
    dirty: bool
    headers: list[int]

    @property
    def records(self) -> int:
        """How many records and bad lines the block has."""
        return int(self.rows.num_rows) + len(self.ragged) + len(self.bad)


def parse(block: bytes, bad: Sequence[BadLine], layout: Layout, columns: Sequence[str]) -> Parsed:
    """The columns of a block that begins with a record; `columns` are some of the header's names."""
    misfits: list[tuple[int, str]] = []

    def note(row: csv.InvalidRow) -> str:
        misfits.append((row.number or 0, row.text))
        return "skip"

    delimiter, names = layout.grammar.delimiter, layout.names
    sentinel = SENTINEL + delimiter * (len(names) - 1)
    data = b"".join((marked(_without(block, bad, delimiter * len(names))), b"\n", sentinel.encode(), b"\n"))
    included = list(dict.fromkeys([names[0], *columns]))
    table = csv.read_csv(
        pa.BufferReader(data),
        # Without threads, because only then pyarrow numbers the misfits.
        read_options=csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        parse_options=csv.ParseOptions(
            delimiter=delimiter, quote_char=layout.grammar.quote or False, invalid_row_handler=note
        ),
        convert_options=csv.ConvertOptions(
            include_columns=included,
            column_types=dict.fromkeys(included, pa.string()),
            check_utf8=False,
            null_values=[],
        ),
    )
    rows = _one_batch(table)
    whole = rows.num_rows > 0 and rows.column(0)[-1].as_py() == SENTINEL
    rows = layout.delimiter.restored(layout.escapes.restored(rows.slice(0, rows.num_rows - whole), block))
    headers = _headers(rows, dict(zip(names, layout.header, strict=False)))
    if headers and len(included) < len(names):
        headers = parse(block, bad, layout, names).headers
    replaced = {
        number: bad[place] for number, text in misfits if (place := _place(text, delimiter)) is not None
    }
    return Parsed(
        rows.select(list(columns)),
        [(number, text) for number, text in misfits if number not in replaced],
        list(replaced.items()),
        whole,
        MARK_BYTES in data,
        headers,
    )


def _without(block: bytes, bad: Sequence[BadLine], fields: str) -> bytes:
    """The block with a misfit in place of each bad line, which says the place of the line in `bad`."""
    if not bad:
        return block
    parts, begin = list[bytes](), 0
    for place, line in enumerate(bad):
        parts += (block[begin : line.begin], f"{SENTINEL}{place}{fields}".encode())
        begin = line.end
    return b"".join((*parts, block[begin:]))


def _place(text: str, delimiter: str) -> int | None:
    """The place that a misfit of ours says; None for one of the file's own."""
    return int(text[len(SENTINEL) :].partition(delimiter)[0]) if text.startswith(SENTINEL) else None


def _headers(rows: pa.RecordBatch, header: dict[str, str]) -> list[int]:
    """Positions of the rows whose first field is the header's first, and the others that are there, too."""
    if not header:
        return []
    first = header[rows.schema.names[0]]
    found = np.flatnonzero(pc.equal(rows.column(0), first).to_numpy(zero_copy_only=False))
    for name in rows.schema.names[1:] if len(found) else ():
        same = pc.equal(rows.column(name).take(pa.array(found)), header[name])
        found = found[same.to_numpy(zero_copy_only=False)]
    return [int(place) for place in found]


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
