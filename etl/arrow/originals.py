"""What JSON doesn't say of a row of typed columns, as text that stands beside its JSON in a reject.

A timestamp of microseconds, a decimal or bytes come out of JSON as text or as another number. So the values
of such columns are kept as Arrow has them, in the form of its files (IPC): schema and row are packed and
written in base64.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# What a reject's values were read from.
JSON_ORIGIN: Final = "json"
CSV_ORIGIN: Final = "csv"
_ARROW: Final = "arrow:"
_MOST_BYTES: Final = 1 << 26  # of one row
_TOLD_BY_JSON: Final = (
    *(pa.null(), pa.bool_(), pa.string(), pa.large_string(), pa.float64()),
    *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()),
)


def arrow_origins(rows: pa.RecordBatch) -> list[str]:
    """For each row what `arrow_row` makes its typed values of again; depends on nothing but that row."""
    typed = [place for place, kind in enumerate(rows.schema.types) if kind not in _TOLD_BY_JSON]
    odd = _not_finite(rows)
    if not typed and not odd:
        return [JSON_ORIGIN] * rows.num_rows
    schemas: dict[tuple[int, ...], str] = {}
    found = []
    for row in range(rows.num_rows):
        places = tuple(sorted([*typed, *(place for place, marks in odd.items() if marks[row])]))
        if not places:
            found.append(JSON_ORIGIN)
            continue
        if places not in schemas:
            schemas[places] = _packed(_schema(rows, places).serialize())
        # Taken and not sliced: what stands beside a slice in its buffers would be written, too.
        one = pa.RecordBatch.from_arrays(
            [picked(rows.column(place), [row]) for place in places],
            names=[rows.schema.names[place] for place in places],
        )
        found.append(f"{_ARROW}{schemas[places]}.{_packed(one.serialize())}")
    return found


def schema_text(origin: str) -> str:
    """The part of an origin that rows of the same columns and types share; "" where it is none of Arrow's."""
    return origin.partition(".")[0] if origin.startswith(_ARROW) else ""


def arrow_row(origin: str) -> pa.RecordBatch:
    """The typed values of one row. Raises ValueError where the text is none that `arrow_origins` makes."""
    schema, _, row = origin.removeprefix(_ARROW).partition(".")
    try:
        found = pa.ipc.read_record_batch(pa.py_buffer(_unpacked(row)), _read_schema(schema))
        found.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, zlib.error) as error:
        raise ValueError("it is damaged") from error
    if found.num_rows != 1:
        raise ValueError("it is not of one row")
    return found


def picked(column: pa.Array, positions: NDArray[np.int64] | Sequence[int]) -> pa.Array:
    """The values at `positions`, copied; of every type."""
    try:
        return column.take(pa.array(positions, pa.int64()))
    except pa.ArrowNotImplementedError:  # views and runs can be cut, but not taken from
        if not len(positions):
            return column.slice(0, 0)
        return pa.concat_arrays([column.slice(int(place), 1) for place in positions])


def _schema(rows: pa.RecordBatch, places: tuple[int, ...]) -> pa.Schema:
    return pa.schema([(rows.schema.names[place], rows.schema.types[place]) for place in places])


def _not_finite(rows: pa.RecordBatch) -> dict[int, NDArray[np.bool_]]:
    """Which values of columns of doubles JSON has no number for, by the places of these columns."""
    found = {}
    for place, column in enumerate(rows.columns):
        if column.type == pa.float64():
            marks = np.asarray(pc.invert(pc.is_finite(column)).fill_null(False))
            if marks.any():
                found[place] = marks
    return found


@lru_cache(64)
def _read_schema(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(_unpacked(text)))


def _packed(data: pa.Buffer) -> str:
    return b64encode(zlib.compress(data, 6)).decode()


def _unpacked(text: str) -> bytes:
    unpacking = zlib.decompressobj()
    data = unpacking.decompress(b64decode(text, validate=True), _MOST_BYTES)
    if not unpacking.eof:
        raise ValueError("it is cut off, or too long")
    return data
