"""Blocks of NDJSON as pyarrow reads them: fast, but not always exactly."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import pyarrow as pa
from pyarrow import json

from etl.reader.json_values import EXACT
from etl.reader.ndjson_lines import Block

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
    """Whether no float of these rows may be a whole number that it doesn't hold as it is written."""
    floats = [values for column in rows.columns for values in _floats(column)]
    if any(((values == 0) & np.signbit(values)).any() for values in floats):
        return False  # it may be -0 or -0.0, and as a whole number the former is 0
    return not any((np.abs(values) >= EXACT).any() for values in floats) or not block.long


def _floats(column: pa.Array) -> Iterator[NDArray[np.float64]]:
    """The floats of a column, also those in lists and objects; a null is NaN."""
    if pa.types.is_floating(column.type):
        yield column.to_numpy(zero_copy_only=False)
    elif pa.types.is_struct(column.type):
        for member in column.flatten():
            yield from _floats(member)
    elif pa.types.is_nested(column.type):
        yield from _floats(column.flatten())
