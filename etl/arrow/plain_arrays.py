"""Arrow data from outside becomes safe to work on: every kernel takes its types.

Dictionaries, run-end encodings and views are ways to store values and not types of them, so they come out as
their values, at every level of nesting; unions, which few kernels take, come out as text.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from .layout import FlatLists, map_entries, maps_of

_VIEWS: Final = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return the schema with every column as `plain_array` makes it, without metadata."""
    return pa.schema([(field.name, plain_type(field.type)) for field in schema])


def plain_rows(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Return the same rows with every column as `plain_array` makes it."""
    return pa.RecordBatch.from_arrays(list(map(plain_array, rows.columns)), names=rows.schema.names)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values of this type come out as."""
    if isinstance(kind, pa.BaseExtensionType):
        storage = plain_type(kind.storage_type)
        return kind if storage == kind.storage_type else storage
    if kind in _VIEWS:
        return _VIEWS[kind]
    if pa.types.is_union(kind):
        return pa.string()
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
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
    """Return the same values in the type of `plain_type`. They are valid, but for text that is not UTF-8."""
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
        lists = FlatLists.of(map_entries(values))
        keys, items = (plain_array(lists.elements.field(place)) for place in range(2))
        return maps_of(lists, keys, items)
    lists = FlatLists.of(values)
    return lists.rebuild(plain_array(lists.elements))


def storage_type(kind: pa.DataType) -> pa.DataType:
    """Return the type that values of this type are stored as, without extensions."""
    kind = plain_type(kind)
    return storage_type(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def storage_array(values: pa.Array) -> pa.Array:
    """Return the same values in the type of `storage_type`."""
    values = plain_array(values)
    return storage_array(values.storage) if isinstance(values.type, pa.BaseExtensionType) else values
