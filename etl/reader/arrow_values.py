"""Arrow data from outside becomes safe to work on: its text is text, and every kernel takes its types.

Dictionaries, run-end encodings and views are ways to store values and not types of them, so they come out as
their values, at every level of nesting; unions, which few kernels take, come out as text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import SourceError
from ..model import Batch, Reject
from .file_reader import batch_of, excerpt, reject_rows

_VIEWS: Final = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
_BYTES: Final = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with every column as `plain_array` makes it, without metadata."""
    return pa.schema([(field.name, plain_type(field.type)) for field in schema])


def plain_batches(name: str, first: int, batches: Iterable[pa.RecordBatch]) -> Iterator[Batch]:
    """Make consecutive batches plain; the first one begins with row `first` of the file called `name`.

    A row with bytes that are no text becomes a reject. SourceError for data that is damaged in another way,
    and for a column of a type that can't be read.
    """
    for given in batches:
        bad = _unreadable(name, first, given)
        columns = []
        for column, values in zip(given.schema.names, given.columns, strict=True):
            try:
                columns.append(plain_array(values))
            except (pa.ArrowException, ArithmeticError, LookupError, TypeError, ValueError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
                message = (
                    f"{name}: column {column} is of the type {values.type}, which can't be read: {reason}"
                )
                hint = "cast the column to a plain type such as string, or leave it out"
                raise SourceError(message, hint=hint) from error
        rows = pa.RecordBatch.from_arrays(columns, names=given.schema.names) if columns else given
        batch = batch_of(name, first, rows)
        yield reject_rows(batch, [_reject(name, first + at, rows.slice(at, 1)) for at in bad])
        first = batch.stop


def _unreadable(name: str, first: int, rows: pa.RecordBatch, start: int = 0) -> list[int]:
    """Positions of the rows with bad text, found by halving, so that good batches are validated once."""
    try:
        rows.validate(full=True)
    except pa.ArrowInvalid as error:
        if "UTF8" not in str(error).upper().replace("-", ""):
            place = f"rows {first} to {first + rows.num_rows - 1}"
            raise SourceError(f"{name}: {place} are damaged", hint="copy or export it again") from error
        if rows.num_rows == 1:
            return [start]
        half = rows.num_rows // 2
        low = _unreadable(name, first, rows.slice(0, half), start)
        return low + _unreadable(name, first + half, rows.slice(half), start + half)
    return []


def _reject(name: str, row: int, one: pa.RecordBatch) -> Reject:
    """A row with bad text; bad bytes are shown as digits, and text inside lists and structs as null."""
    values, bad = dict[str, Any](), ""
    for column_name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            column.validate(full=True)
            values[column_name] = column[0].as_py()
        except pa.ArrowInvalid:
            text = column.view(_BYTES[column.type])[0].as_py() if column.type in _BYTES else None
            values[column_name] = None if text is None else text.decode(errors="backslashreplace")
            bad = bad or column_name
    reason = f"column {bad}: {excerpt(str(values.get(bad)))} is not UTF-8 text"
    written = orjson.dumps(values, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    return Reject(name, row, "bad_encoding", reason, written)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values of this type come out as."""
    if kind in _VIEWS:
        return _VIEWS[kind]
    if pa.types.is_union(kind):
        return pa.string()
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        storage = plain_type(kind.storage_type)
        return kind if storage == kind.storage_type else storage
    if pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        plain = pa.list_(plain_type(kind.value_type))
    elif pa.types.is_struct(kind):
        plain = pa.struct([(field.name, plain_type(field.type)) for field in kind])
    elif pa.types.is_map(kind):
        plain = pa.map_(plain_type(kind.key_type), plain_type(kind.item_type))
    else:
        return kind
    # The type itself if nothing is to be done, with the names and metadata of its fields.
    before, after = ([one.field(n).type for n in range(one.num_fields)] for one in (kind, plain))
    return kind if before == after else plain


def plain_array(values: pa.Array) -> pa.Array:
    """Return the same values in the type of `plain_type`. They are valid, but for text that is no UTF-8."""
    kind = values.type
    if plain_type(kind) == kind:
        return values
    if kind in _VIEWS:
        binary = values.cast(pa.binary())
        return binary if kind == pa.binary_view() else binary.view(pa.string())
    if pa.types.is_union(kind):
        return pa.array([None if value is None else str(value) for value in values.to_pylist()], pa.string())
    if pa.types.is_dictionary(kind):
        return plain_array(values.dictionary).take(values.indices)
    if pa.types.is_run_end_encoded(kind):
        ends = values.run_ends.to_numpy(zero_copy_only=False)
        places = np.arange(values.offset, values.offset + len(values))
        return plain_array(values.values).take(pa.array(np.searchsorted(ends, places, side="right")))
    if isinstance(kind, pa.BaseExtensionType):
        return plain_array(values.storage)
    if pa.types.is_struct(kind):
        # Not flattened: Arrow ends the process over a union in a struct.
        members = [plain_array(values.field(place)) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(
            members, names=[field.name for field in kind], mask=values.is_null()
        )
    if pa.types.is_map(kind):
        keys, items = plain_array(values.keys), plain_array(values.items)
        plain = pa.map_(keys.type, items.type)
        # Fields as the type has them: Arrow ends the process if they differ.
        pairs = pa.StructArray.from_arrays([keys, items], fields=[plain.key_field, plain.item_field])
        layout = values.buffers()[:2]
        return pa.Array.from_buffers(plain, len(values), layout, offset=values.offset, children=[pairs])
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, plain_array(values.flatten()), mask=values.is_null())
