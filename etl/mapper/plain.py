"""Every way to store a value in Arrow, brought down to the few types that the rules are written for.

These are booleans, integers, floats, decimals, strings of valid UTF-8, date32, timestamps, lists, structs
and maps.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.json_lines import json_texts
from etl.mapper.cells import Cells, faults_of
from etl.values import is_textual

_NOT_TEXT: Final = "{} is binary data, not UTF-8 text"


def plain(values: pa.Array) -> Cells:
    """Decode dictionaries, runs, views, extensions, binaries and rare types; the top level only."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        return _uuids(values) if kind.extension_name == "arrow.uuid" else plain(values.storage)
    if pa.types.is_dictionary(kind):
        return plain(values.dictionary_decode())
    if pa.types.is_run_end_encoded(kind):
        return plain(pc.run_end_decode(values))
    if is_textual(kind):
        return _strings(values)
    return Cells(_rare(values))


def _strings(values: pa.Array) -> Cells:
    """Arrow doesn't check the strings of a Parquet file; a cast from binary does."""
    if not pa.types.is_binary(values.type):
        values = values.cast(pa.binary())
    try:
        return Cells(values.cast(pa.string()))
    except pa.ArrowInvalid:
        texts = [_decoded(value) for value in values.to_pylist()]
    strings = pa.array(texts, pa.string())
    return Cells(strings, faults_of("bad_text", pc.and_not(strings.is_null(), values.is_null()), _NOT_TEXT))


def _decoded(value: bytes | None) -> str | None:
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _uuids(values: pa.Array) -> Cells:
    return Cells(
        pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    )


def _rare(values: pa.Array) -> pa.Array:
    """Types with an everyday twin become that; those without one become text."""
    kind = values.type
    if pa.types.is_null(kind):
        return values.cast(pa.string())
    if pa.types.is_float16(kind):
        return values.cast(pa.float32())
    if pa.types.is_date64(kind):
        return _days(values)
    if pa.types.is_time(kind):
        return values.cast(pa.string())
    if pa.types.is_duration(kind) or pa.types.is_interval(kind):
        return pc.utf8_trim(json_texts(values), characters='"')
    if pa.types.is_union(kind):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    return values


def _days(values: pa.Array) -> pa.Array:
    milliseconds = values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    days = np.clip(np.floor_divide(milliseconds, 86_400_000), -(2**31), 2**31 - 1).astype(np.int32)
    return pa.array(days, mask=values.is_null().to_numpy(zero_copy_only=False)).cast(pa.date32())
