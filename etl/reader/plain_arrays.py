"""The many ways to store a value in Arrow, brought down to those that every kernel works on.

Dictionaries, run-end encodings and views are ways to store values and not types of them, so they come out as
their values, at every level of nesting; unions, which few kernels take, as text.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_VIEWS: Final = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that values of this type come out as."""
    if kind in _VIEWS:
        return _VIEWS[kind]
    if pa.types.is_union(kind):
        return pa.string()
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        storage = plain_type(kind.storage_type)
        return kind if storage == kind.storage_type else storage
    if pa.types.is_struct(kind):
        return _unless_same(kind, pa.struct([(field.name, plain_type(field.type)) for field in kind]))
    if pa.types.is_map(kind):
        return _unless_same(kind, pa.map_(plain_type(kind.key_type), plain_type(kind.item_type)))
    if _is_list_view(kind):
        return pa.list_(plain_type(kind.value_type))
    if _is_list(kind):
        inner = plain_type(kind.value_type)
        return kind if inner == kind.value_type else pa.list_(inner)
    return kind


def plain_array(values: pa.Array) -> pa.Array:
    """The same values in the type that `plain_type` says. They are valid, but for text that is no UTF-8."""
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
        return plain_array(values.values).take(_runs(values))
    if isinstance(kind, pa.BaseExtensionType):
        return plain_array(values.storage)
    if pa.types.is_struct(kind):
        # Not flattened: Arrow ends the process over a union in a struct.
        members = [plain_array(values.field(place)) for place in range(kind.num_fields)]
        return pa.StructArray.from_arrays(
            members, names=[field.name for field in kind], mask=values.is_null()
        )
    return _plain_map(values) if pa.types.is_map(kind) else _plain_list(values)


def _unless_same(kind: pa.DataType, plain: pa.DataType) -> pa.DataType:
    """The type itself where nothing is to be done, with what it says of its fields."""
    before = [kind.field(place).type for place in range(kind.num_fields)]
    return kind if before == [plain.field(place).type for place in range(plain.num_fields)] else plain


def _is_list_view(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(is_it(kind) for is_it in lists)


def _runs(values: pa.RunEndEncodedArray) -> pa.Array:
    """For each value the number of its run; int64, shape (n,)."""
    ends = values.run_ends.to_numpy(zero_copy_only=False)
    places = np.arange(values.offset, values.offset + len(values))
    return pa.array(np.searchsorted(ends, places, side="right"))


def _plain_list(values: pa.Array) -> pa.Array:
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, plain_array(values.flatten()), mask=values.is_null())


def _plain_map(values: pa.MapArray) -> pa.Array:
    keys, items = plain_array(values.keys), plain_array(values.items)
    kind = pa.map_(keys.type, items.type)
    # Fields as the type has them: Arrow ends the process where they differ.
    pairs = pa.StructArray.from_arrays([keys, items], fields=[kind.key_field, kind.item_field])
    layout = values.buffers()[:2]
    return pa.Array.from_buffers(kind, len(values), layout, offset=values.offset, children=[pairs])
