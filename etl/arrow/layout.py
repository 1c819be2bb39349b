"""How columns are laid out: texts, lists and masks as numpy arrays, value columns in structs, plain types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .. import amplitude

RowMask: TypeAlias = NDArray[np.bool_]
FieldPath: TypeAlias = tuple[str, ...]

# --- masks, texts and lists ------------------------------------------------------------------------------

# All of Arrow's types of lists.
_LIST_TYPES: Final = (
    pa.ListType,
    pa.LargeListType,
    pa.FixedSizeListType,
    pa.ListViewType,
    pa.LargeListViewType,
)


def as_mask(marks: pa.Array) -> RowMask:
    """Boolean marks as a numpy array; null counts as false."""
    filled = marks.fill_null(False) if marks.null_count else marks
    mask: RowMask = filled.to_numpy(zero_copy_only=False)
    return mask


def valid_mask(values: pa.Array) -> RowMask:
    """Mark the values that aren't null; shape (n,)."""
    return as_mask(values.is_valid())


def text_layout(texts: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """Where each text, string or binary, begins and stops in the column's bytes; and these. Nulls have none.

    Shapes (n,), (n,) and (bytes,).
    """
    _, offset_buffer, data = texts.buffers()
    if not len(texts) or data is None:
        nothing = np.zeros(len(texts), dtype=np.int64)
        return nothing, nothing, np.zeros(0, dtype=np.uint8)
    offsets = np.frombuffer(offset_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    low, high = int(offsets[0]), int(offsets[-1])
    ends = offsets.astype(np.int64) - low
    starts, stops = ends[:-1], ends[1:]
    if texts.null_count:
        stops = np.where(valid_mask(texts), stops, starts)
    return starts, stops, np.frombuffer(data, np.uint8)[low:high]


def is_list(kind: pa.DataType) -> bool:
    """Whether it is one of Arrow's types of lists."""
    return isinstance(kind, _LIST_TYPES)


@dataclass(frozen=True, slots=True)
class FlatLists:
    """n lists as one array of their elements, shape (m,): list i is `lengths[i]` elements from `starts[i]`.

    `nulls` (bool, shape (n,)) marks the lists that are null; these have no elements.
    """

    elements: pa.Array
    lengths: NDArray[np.int64]
    nulls: RowMask

    @classmethod
    def of(cls, values: pa.Array) -> FlatLists:
        """Take lists of any of Arrow's types."""
        lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        return cls(values.flatten(), lengths, as_mask(values.is_null()))

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each list starts in `elements`; shape (n,)."""
        return np.cumsum(self.lengths) - self.lengths

    @property
    def owners(self) -> NDArray[np.int64]:
        """The number of each element's list; shape (m,)."""
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    def rebuild(self, elements: pa.Array, keep: RowMask | None = None) -> pa.Array:
        """The lists with other elements, shape (m,); with `keep` only the marked ones of these."""
        stops = np.cumsum(self.lengths)
        if keep is not None and not keep.all():
            kept = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
            stops, elements = kept[stops], elements.filter(pa.array(keep))
        offsets = np.concatenate([[0], stops]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=pa.array(self.nulls))


def map_entries(maps: pa.Array) -> pa.Array:
    """Maps as lists of structs with a key and a value."""
    # Not by a cast: of maps within maps it makes an array whose children are too short (seen in 26.0).
    kind, pairs = pa.list_(maps.values.type), [maps.values]
    return pa.Array.from_buffers(kind, len(maps), maps.buffers()[:2], offset=maps.offset, children=pairs)


def maps_of(lists: FlatLists, keys: pa.Array, items: pa.Array, keep: RowMask | None = None) -> pa.Array:
    """Maps with m keys and items, which the lists are of; with `keep` only with the marked ones."""
    kind = pa.map_(keys.type, items.type)
    # Fields as the type has them: Arrow ends the process if they differ.
    pairs = pa.StructArray.from_arrays([keys, items], fields=[kind.key_field, kind.item_field])
    rebuilt = lists.rebuild(pairs, keep)
    return pa.Array.from_buffers(kind, len(rebuilt), rebuilt.buffers()[:2], children=[rebuilt.values])


# --- value columns of identifications --------------------------------------------------------------------


def field_groups(paths: Sequence[FieldPath]) -> Iterator[list[FieldPath]]:
    """Group columns that one row decides together: a family's fields, or `$set` and `$unset` of a name."""
    groups: dict[object, list[FieldPath]] = {}
    for path in paths:
        group: object = path
        if len(path) == 1:
            group = next((family for family in amplitude.FAMILIES if path[0] in family), path)
        elif path[:2] in {("user_properties", "$set"), ("user_properties", "$unset")}:
            group = ("$set", path[2])
        groups.setdefault(group, []).append(path)
    yield from groups.values()


def value_columns(identifications: pa.RecordBatch) -> Iterator[tuple[FieldPath, pa.Array]]:
    """Yield each value column and its path.

    A path is (field,), ("groups", type) or ("user_properties", operator, name).
    """
    for field, column in zip(identifications.schema, identifications.columns, strict=True):
        depth = {"groups": 1, "user_properties": 2}.get(field.name, 0)
        yield from _flattened((field.name,), column, depth)


def _flattened(path: FieldPath, column: pa.Array, depth: int) -> Iterator[tuple[FieldPath, pa.Array]]:
    if depth == 0 or not pa.types.is_struct(column.type):
        yield path, column
        return
    for field, child in zip(column.type, column.flatten(), strict=True):
        yield from _flattened((*path, field.name), child, depth - 1)


def nested_rows(columns: Mapping[FieldPath, pa.Array]) -> pa.RecordBatch:
    """Identifications with value columns (shape (n,) each) nested into structs, in order of appearance.

    A struct of nulls is null.
    """
    names, arrays = map(list, zip(*_nested(columns), strict=True))
    return pa.RecordBatch.from_arrays(arrays, names=names)


def _nested(columns: Mapping[FieldPath, pa.Array]) -> Iterator[tuple[str, pa.Array]]:
    members: dict[str, dict[FieldPath, pa.Array]] = {}
    for (name, *rest), values in columns.items():
        members.setdefault(name, {})[tuple(rest)] = values
    for name, own in members.items():
        yield name, own[()] if () in own else struct_of(list(_nested(own)))


def struct_of(members: Sequence[tuple[str, pa.Array]]) -> pa.Array:
    """A struct array of the members, at least one of them, each of shape (n,); null where all are null."""
    names, columns = map(list, zip(*members, strict=True))
    return pa.StructArray.from_arrays(columns, names=names, mask=pa.array(all_null(columns)))


def all_null(columns: Sequence[pa.Array]) -> RowMask:
    """Which rows are null in each of the columns, at least one of them; shape (n,)."""
    if any(column.null_count == 0 for column in columns):
        return np.zeros(len(columns[0]), np.bool_)
    null: RowMask = np.logical_and.reduce([as_mask(column.is_null()) for column in columns])
    return null


# --- plain types -----------------------------------------------------------------------------------------

# Arrow data from outside becomes safe to work on: every kernel takes its types. Dictionaries, run-end
# encodings and views are ways to store values and not types of them, so they come out as their values, at
# every level of nesting; unions, which few kernels take, come out as text. Decimals of a negative scale come
# out as whole numbers: arro3 (seen in 0.9) writes their zeros as 000, which is not JSON.
_VIEWS: Final = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
_DECIMALS: Final = ((38, pa.decimal128), (76, pa.decimal256))  # with the most digits that they hold


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
    if pa.types.is_decimal(kind) and kind.scale < 0:
        digits = kind.precision - kind.scale
        return next((make(digits, 0) for most, make in _DECIMALS if digits <= most), pa.float64())
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
    if pa.types.is_decimal(kind):
        return values.cast(plain_type(kind))
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
