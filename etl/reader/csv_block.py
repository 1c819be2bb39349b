"""Whole CSV records as columns, with proof that they were whole.

A sentinel record is parsed after them. If it comes back as a record of its own, the block ended between
records; if a quoted value swallowed it, the block didn't. So the parser itself says where records end.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from pyarrow import csv

from etl.reader.decoding import MARK_BYTES, marked
from etl.reader.grammar import Grammar

SENTINEL: Final = f"~{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What pyarrow made of a block of records.

    `rows` are those with as many fields as there are names, `ragged` has number (from 1, in the block) and
    text of the others. `whole` says that the block ended between records, `dirty` that it has marked bytes.
    """

    rows: pa.RecordBatch
    ragged: list[tuple[int, str]]
    whole: bool
    dirty: bool

    @property
    def records(self) -> int:
        """How many records the block has."""
        return int(self.rows.num_rows) + len(self.ragged)


def parse(block: bytes, grammar: Grammar, names: list[str], columns: Sequence[str]) -> Parsed:
    """The columns of a block that begins with a record; `columns` are some of `names`, the header's."""
    ragged: list[tuple[int, str]] = []

    def note(row: csv.InvalidRow) -> str:
        ragged.append((row.number or 0, row.text))
        return "skip"

    sentinel = SENTINEL + grammar.delimiter * (len(names) - 1)
    data = b"".join((marked(block), b"\n", sentinel.encode(), b"\n"))
    included = list(dict.fromkeys([names[0], *columns]))
    table = csv.read_csv(
        pa.BufferReader(data),
        # Without threads, because only then pyarrow numbers the ragged records.
        read_options=csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        parse_options=csv.ParseOptions(
            delimiter=grammar.delimiter, quote_char=grammar.quote or False, invalid_row_handler=note
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
    rows = rows.slice(0, rows.num_rows - whole).select(list(columns))
    return Parsed(rows, ragged, whole, MARK_BYTES in data)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
