"""Values that keep their source's type, made fit for JSON and for Amplitude at every level of nesting."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from etl.amplitude import MAX_DEPTH
from etl.json_lines import json_texts
from etl.mapper.cells import Cells, Fault, as_mask, faults_of
from etl.mapper.dates import check_days, to_seconds
from etl.mapper.limits import TooLong, fit_lists, fit_strings
from etl.mapper.lists import is_list, open_lists, without_nulls
from etl.mapper.numbers import finite
from etl.mapper.plain import plain
from etl.mapper.structs import struct_of
from etl.mapper.texts import scalar_texts

NESTED_LIST: Final = "{} has a list inside a list"
TOO_DEEP: Final = f"{{}} is nested deeper than {MAX_DEPTH} levels"


def native(values: pa.Array, too_long: TooLong) -> Cells:
    """Clean plain values; the type of the result depends on their type alone."""
    if _depth(values.type) > MAX_DEPTH:
        nothing = pa.nulls(len(values), pa.string())
        return Cells(nothing, faults_of("too_deep", values.is_valid(), TOO_DEEP))
    return _clean(values, too_long)


def as_text(values: pa.Array) -> Cells:
    """Plain values as strings; lists and objects as their JSON."""
    if _depth(values.type) == 0:
        return scalar_texts(values)
    return native(values, "reject").then(lambda cleaned: Cells(json_texts(cleaned)))


def _clean(values: pa.Array, too_long: TooLong) -> Cells:
    kind = values.type
    if pa.types.is_string(kind):
        return fit_strings(values, too_long)
    if pa.types.is_floating(kind):
        return finite(values)
    if pa.types.is_date(kind):
        return check_days(values)
    if pa.types.is_timestamp(kind):
        return to_seconds(values)
    if is_list(kind):
        return _lists(values, too_long)
    if pa.types.is_struct(kind):
        return _structs(values, too_long)
    return _maps(values, too_long) if pa.types.is_map(kind) else Cells(values)


def _inner(values: pa.Array, too_long: TooLong) -> Cells:
    return plain(values).then(lambda simple: _clean(simple, too_long))


def _lists(values: pa.Array, too_long: TooLong) -> Cells:
    opened = open_lists(values)
    elements = plain(opened.flat)
    if is_list(elements.values.type):
        return _lists_of_lists(values)
    strings = pa.types.is_string(elements.values.type)
    if not strings:  # the strings of a list count together
        elements = elements.then(lambda simple: _clean(simple, too_long))
    everything = np.ones(len(elements.values), dtype=np.bool_)
    lists = without_nulls(opened.rebuilt(elements.values, keep=everything))
    cells = Cells(lists, opened.parents(elements.faults))
    return cells.then(lambda some: fit_lists(some, too_long)) if strings else cells


def _lists_of_lists(values: pa.Array) -> Cells:
    """Nothing of such a list can be sent; only an empty one passes."""
    opened = open_lists(values)
    inner = Fault("nested_list", opened.flat.is_valid().to_numpy(zero_copy_only=False), NESTED_LIST)
    nothing = pa.nulls(len(opened.flat), pa.string())
    empty = opened.rebuilt(nothing, keep=np.zeros(len(nothing), dtype=np.bool_))
    (fault,) = opened.parents((inner,))
    return Cells(empty, faults_of(fault.code, fault.rows, fault.says))


def _structs(values: pa.Array, too_long: TooLong) -> Cells:
    """An object whose members are all null says nothing, so it becomes null itself."""
    members = [_inner(child, too_long) for child in values.flatten()]
    names = [field.name for field in values.type]
    faults = tuple(fault for member in members for fault in member.faults)
    pairs = list(zip(names, (member.values for member in members), strict=True))
    return Cells(struct_of(pairs, len(values)), faults)


def _maps(values: pa.Array, too_long: TooLong) -> Cells:
    """Maps with their keys as text, without the members that are null."""
    opened = open_lists(_as_lists(values))
    keys, items = opened.flat.flatten()
    names = plain(keys).then(scalar_texts)
    members = _inner(items, too_long)
    kind = pa.map_(pa.string(), members.values.type)
    # Fields as the type has them: Arrow ends the process where they differ.
    fields = [kind.key_field, kind.item_field]
    pairs = pa.StructArray.from_arrays([names.values, members.values], fields=fields)
    lists = opened.rebuilt(pairs, keep=as_mask(members.values.is_valid()))
    maps = pa.Array.from_buffers(kind, len(lists), lists.buffers()[:2], children=[lists.values])
    return Cells(maps, opened.parents(names.faults + members.faults))


def _as_lists(maps: pa.Array) -> pa.Array:
    """The same buffers read as lists of pairs, as Arrow takes no maps apart."""
    pairs = pa.StructArray.from_arrays([maps.keys, maps.items], names=["key", "value"])
    layout = maps.buffers()[:2]
    return pa.Array.from_buffers(
        pa.list_(pairs.type), len(maps), layout, offset=maps.offset, children=[pairs]
    )


def _depth(kind: pa.DataType) -> int:
    """Levels of nesting: 0 for a single value, 1 for a list or object of such."""
    if isinstance(kind, pa.BaseExtensionType):
        return _depth(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _depth(kind.value_type)
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    if pa.types.is_map(kind):
        inner = [kind.item_type]
    return 1 + max((_depth(part) for part in inner), default=0) if inner else 0
