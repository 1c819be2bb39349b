"""Rows of one user that fall in one chunk, merged into one identification as the operators mean.

The rule for every operator: sending the merged identification leaves the profile as sending the rows one by
one, in their order, would have left it.

A sum or a list can hold only so much and stay exact. Each row takes a share of what one identification holds,
by column (`merge_shares`). Rows that take more than all of it together aren't merged; they go in chunks one
after the other. A share depends on the row's value alone, and is a whole number of `WHOLE_SHARE` parts, so
that sums of shares don't depend on how rows were batched.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.limits import MAX_STRING_LENGTH
from ..amplitude.operators import LIST_OPERATORS
from ..arrow.exact_json import dump_json, load_json
from ..arrow.json_lines import Splice, as_marked_text, json_lines, mark_json, unmark_json
from ..arrow.structs import FieldPath, field_groups, nest_columns, valid_mask, value_columns
from ..subject import subject_of

Indices = NDArray[np.int64]

# For these the values of the last row come first.
_LAST_FIRST = frozenset({"$prepend", "$preInsert"})
_DISTINCT = frozenset({"$preInsert", "$postInsert"})
Shares: TypeAlias = NDArray[np.int64]
_Numbers: TypeAlias = NDArray[np.float64]

WHOLE_SHARE: Final = 1 << 40
_MOST: Final = 2 * WHOLE_SHARE  # of one row; thousands of them can be added up
# Below what the types hold: adding up in doubles, as is done here, is off by less than the difference.
_MOST_INTEGER: Final = 9e18
_MOST_FLOAT: Final = 1e308
_DECIMAL_DIGITS: Final = 38
_ADDING: Final = frozenset({"$add", *LIST_OPERATORS})
_MOST_CHARACTERS: Final = MAX_STRING_LENGTH  # of all strings in a list; the server drops the rest


def group_users(identifications: pa.RecordBatch) -> Indices:
    """Number the users 0..k-1 in order of appearance; shape (n,). Compares ids, not keys."""
    codes = np.zeros(identifications.num_rows, dtype=np.int64)
    for _, ids in subject_of(identifications).columns(identifications):
        encoded = ids.dictionary_encode(null_encoding="encode")
        indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        codes = codes * (len(encoded.dictionary) + 1) + indices
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def join_identifications(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Identifications one behind the other, at least one batch of them.

    Values that differ in type, as those of JSON may, become text with JSON marked in it.
    """
    if all(batch.schema.equals(batches[0].schema) for batch in batches):
        return pa.concat_batches(batches)
    together: dict[FieldPath, list[pa.Array]] = {}
    for batch in batches:
        for path, values in value_columns(batch):
            together.setdefault(path, []).append(values)
    found = {}
    for path, columns in together.items():
        if any(column.type != columns[0].type for column in columns):
            lists = all(pa.types.is_list(column.type) for column in columns)
            columns = [_text_lists(column) if lists else as_marked_text(column) for column in columns]
        found[path] = pa.concat_arrays(columns)
    return pa.RecordBatch.from_arrays(
        [nest_columns(field, (field.name,), found) for field in batches[0].schema],
        names=batches[0].schema.names,
    )


def _text_lists(column: pa.Array) -> pa.Array:
    """Lists of any type as lists of marked text."""
    lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, as_marked_text(column.flatten()), mask=column.is_null())


def merge_rows(
    identifications: pa.RecordBatch, groups: Indices, splice: Splice | None = None
) -> pa.RecordBatch:
    """One identification a group, in order of group number; shape (groups.max() + 1,), the same fields.

    Types stay, but that sums are as wide as Arrow's sums. `splice` makes JSON lines of marked strings what
    they stand for.
    """
    found = dict(value_columns(identifications))
    last_only = ("user_properties", "$clearAll") in found
    window = _Window(groups, int(groups.max()) + 1, splice)
    merged: dict[FieldPath, pa.Array] = {}
    for group in field_groups(list(found)):
        columns = [found[path] for path in group]
        wiped = last_only and group[0][0] == "user_properties"
        merged |= zip(group, window.merge(group[0], columns, wiped=wiped), strict=True)
    arrays = [nest_columns(field, (field.name,), merged) for field in identifications.schema]
    return pa.RecordBatch.from_arrays(arrays, names=identifications.schema.names)


@dataclass(frozen=True, slots=True)
class _Window:
    """The rows of a chunk: `groups` (int64, shape (n,)) names each row's user, 0..users-1."""

    groups: Indices
    users: int
    splice: Splice | None

    def merge(self, path: FieldPath, columns: list[pa.Array], *, wiped: bool) -> list[pa.Array]:
        """Merge a group of columns whose values are set together; `path` is the first one's."""
        operator = path[1] if path[0] == "user_properties" else "$set"
        if wiped:
            return self._take(columns, self._pick(np.ones(len(self.groups), dtype=np.bool_)))
        if operator == "$add":
            return [self._total(column) for column in columns]
        if operator in LIST_OPERATORS:
            return [self._joined(column, operator) for column in columns]
        given = np.logical_or.reduce([valid_mask(column) for column in columns])
        return self._take(columns, self._pick(given, first=operator == "$setOnce"))

    def _pick(self, given: NDArray[np.bool_], *, first: bool = False) -> Indices:
        """For each user the last (or first) row of the given ones; -1 where there is none."""
        rows = np.flatnonzero(given)
        if first:
            rows = rows[::-1]
        picked = np.full(self.users, -1, dtype=np.int64)
        picked[self.groups[rows]] = rows  # of equal indices numpy keeps the last
        return picked

    def _take(self, columns: list[pa.Array], picked: Indices) -> list[pa.Array]:
        indices = pa.array(picked, mask=picked < 0)
        return [column.take(indices) for column in columns]

    def _total(self, column: pa.Array) -> pa.Array:
        """Sums by user; null where every row is null. Whole numbers have a whole sum, if they are all."""
        kind = column.type
        if pa.types.is_string(kind):  # marked
            totals: list[int | float | None] = [None] * self.users
            for user, text in zip(self.groups.tolist(), column.to_pylist(), strict=True):
                if text is not None:
                    totals[user] = (totals[user] or 0) + load_json(unmark_json(text) or text)
            texts = [None if total is None else dump_json(total) for total in totals]
            return mark_json(pa.array(texts, pa.string()))
        # The numbers as the server reads them, in a type that holds the sums that `merge_shares` allows.
        if pa.types.is_decimal256(kind):
            column = column.cast(pa.decimal256(76, kind.scale))
        elif pa.types.is_decimal(kind):
            column = column.cast(pa.decimal128(38, kind.scale))
        elif pa.types.is_floating(kind) and kind.bit_width < 64:
            column = column.cast(pa.string()).cast(pa.float64())  # a 0.1 of 32 bits is written as 0.1
        table = pa.table({"user": self.groups, "value": column})
        sums = table.group_by("user", use_threads=False).aggregate([("value", "sum")]).sort_by("user")
        return sums["value_sum"].combine_chunks()

    def _joined(self, column: pa.Array, operator: str) -> pa.Array:
        """Each user's lists one behind the other; null where all are null."""
        rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
        values = column.flatten()
        places = np.arange(len(rows))
        if operator in _DISTINCT:
            # Of each user's equal values the first one counts: what comes later is there already.
            codes = _codes(values, self.splice)
            pairs = self.groups[rows] * (int(codes.max(initial=0)) + 1) + codes
            places = np.sort(np.unique(pairs, return_index=True)[1])
        users = self.groups[rows[places]]
        order = -rows[places] if operator in _LAST_FIRST else rows[places]
        by_user = np.lexsort((places, order, users))
        counts = np.bincount(users, minlength=self.users)
        absent = np.bincount(self.groups[valid_mask(column)], minlength=self.users) == 0
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        taken = values.take(pa.array(places[by_user]))
        return pa.ListArray.from_arrays(offsets, taken, type=column.type, mask=pa.array(absent))


def _codes(values: pa.Array, splice: Splice | None) -> Indices:
    """A number for each value; those that are equal as JSON have the same."""
    kind = values.type
    if pa.types.is_floating(kind):
        values = pc.add(values, pa.scalar(0.0, kind))  # -0.0 becomes 0.0
    # Values of these types are equal if their JSON is, and the other way round.
    plain = pa.types.is_primitive(kind) or pa.types.is_decimal(kind)
    if plain or (pa.types.is_string(kind) and not may_be_marked(values)):
        codes: Indices = values.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return codes
    known: dict[object, int] = {}
    found = [known.setdefault(_key(value), len(known)) for value in json_values(values, splice)]
    return np.array(found, dtype=np.int64)


def _key(value: object) -> object:
    """What is equal and has the same hash where values are equal as JSON: 1 is 1.0, and True isn't."""
    if isinstance(value, dict):
        return ("object", *sorted((name, _key(member)) for name, member in value.items()))
    if isinstance(value, list):
        return ("list", *map(_key, value))
    return ("boolean", value) if isinstance(value, bool) else value


# --- how many rows can be merged -------------------------------------------------------------------------


def merge_shares(identifications: pa.RecordBatch, splice: Splice | None = None) -> Shares | None:
    """The share of each row in each column whose values add up; shape (n, c). None where there is none.

    `splice` makes JSON lines of marked strings what they stand for.
    """
    schema = identifications.schema
    place = schema.get_field_index("user_properties")
    operators = {field.name for field in schema.field(place).type} if place >= 0 else set()
    if "$clearAll" in operators or _ADDING.isdisjoint(operators):  # with $clearAll only the last row counts
        return None
    shares = [
        _shares_of_sum(column, splice) if path[1] == "$add" else _shares_of_list(column, splice)
        for path, column in value_columns(identifications)
        if path[0] == "user_properties" and path[1] in _ADDING
    ]
    whole: Shares = np.minimum(np.ceil(np.stack(shares, axis=1) * WHOLE_SHARE), _MOST).astype(np.int64)
    return whole


def _shares_of_sum(column: pa.Array, splice: Splice | None) -> _Numbers:
    kind, whole = column.type, 0.0
    if pa.types.is_decimal(kind):
        whole = float(10.0 ** (_DECIMAL_DIGITS - 1 - kind.scale))
    elif pa.types.is_integer(kind):
        whole = _MOST_INTEGER
    elif pa.types.is_floating(kind):
        whole = _MOST_FLOAT
    if whole:
        floats: _Numbers = column.cast(pa.float64(), safe=False).fill_null(0.0).to_numpy(zero_copy_only=False)
        return np.abs(floats) / whole
    shares = np.zeros(len(column))
    for row, value in enumerate(json_values(column, splice)):
        if isinstance(value, int):
            shares[row] = float(min(abs(value), 10**300)) / _MOST_INTEGER
        elif isinstance(value, float):
            shares[row] = abs(value) / _MOST_FLOAT
    return shares


def _shares_of_list(column: pa.Array, splice: Splice | None) -> _Numbers:
    """By bytes, which are never fewer than characters; the server counts strings only."""
    elements = column.flatten()
    if not pa.types.is_string(elements.type):
        return np.zeros(len(column))
    rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
    if may_be_marked(elements):
        found = json_values(elements, splice)
        sizes = np.array([len(value.encode()) if isinstance(value, str) else 0 for value in found])
    else:
        sizes = pc.binary_length(elements).fill_null(0).to_numpy(zero_copy_only=False)
    return np.bincount(rows, weights=sizes, minlength=len(column)) / _MOST_CHARACTERS


def may_be_marked(texts: pa.Array) -> bool:
    """Whether one of them can stand for other JSON than a string: marks have a NUL in them."""
    return bool(pc.any(pc.match_substring(texts, "\x00")).as_py())


def json_values(values: pa.Array, splice: Splice | None) -> list[object]:
    """Each value as it is read from JSON, whole numbers with all their digits; shape (n,)."""
    lines = json_lines(pa.record_batch([values], names=["v"]), explicit_nulls=True, splice=splice)
    return [json.loads(line)["v"] for line in lines.split(b"\n")[:-1]]
