"""Blocks of NDJSON as pyarrow reads them: fast, but not always exactly."""

from __future__ import annotations

import re
from typing import Final, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json

from etl.reader.json_values import EXACT
from etl.reader.ndjson_lines import Block

_NO_JSON: Final = re.compile(rb"[:\[,]\s*-?(?:NaN|Inf)")


def read_exactly(
    block: Block, schema: pa.Schema, *, others: Literal["ignore", "error"]
) -> pa.RecordBatch | None:
    """The block as pyarrow reads it, or None where it can't, or where that isn't exactly what JSON says.

    pyarrow takes NaN for a number, and doesn't mind two objects on a line. `others` is about columns, and
    keys inside objects, that the schema doesn't have.
    """
    if not block.neat or not len(schema) or _holds_no_json(block.data):
        return None
    try:
        table = json.read_json(
            pa.BufferReader(block.data),
            read_options=json.ReadOptions(use_threads=False, block_size=len(block.data) + 1),
            parse_options=json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others),
        )
        table.validate(full=True)
    except pa.ArrowException:
        return None
    batches = table.combine_chunks().to_batches()
    whole = len(batches) == 1 and table.num_rows == block.lines
    return batches[0] if whole and _is_exact(block, batches[0]) else None


def _holds_no_json(data: bytes) -> bool:
    return (b"NaN" in data or b"Inf" in data) and _NO_JSON.search(data) is not None


def _is_exact(block: Block, rows: pa.RecordBatch) -> bool:
    """Whether no float of these rows may be a whole number of more digits than it holds."""
    return not any(map(_is_wide, rows.columns)) or not block.long


def _is_wide(column: pa.Array) -> bool:
    if pa.types.is_nested(column.type):
        return any(map(_is_wide, column.flatten() if pa.types.is_struct(column.type) else [column.flatten()]))
    if not pa.types.is_floating(column.type):
        return False
    ends = pc.min_max(column).as_py().values()
    return any(end is not None and abs(end) >= EXACT for end in ends)
