"""Merges the rows of one user in a chunk into one identification, by the meaning of each operator.

Sending the merged identification leaves the same profile as sending the rows one by one, in their order.

A sum or a list is exact only up to a size. By column, each row takes a share of what one identification can
hold (`merge_shares`). Rows that take more than a whole share together aren't merged; they go in chunks one
after the other. A share depends on the row's value alone, and is a whole number of parts (`WHOLE_SHARE`), so
that sums of shares don't depend on how rows were batched.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.requests import LIST_OPERATORS, MAX_STRING_LENGTH
from ..arrow.json_text import concat_values, dump_json, json_texts, load_json, mark_json, may_be_marked
from ..arrow.layout import FieldPath, FlatLists, field_groups, nested_rows, valid_mask, value_columns
from ..subject import subject_of

Shares: TypeAlias = NDArray[np.int64]
_Indices: TypeAlias = NDArray[np.int64]
_Numbers: TypeAlias = NDArray[np.float64]

# For these the values of the last row come first.
_LAST_FIRST = frozenset({"$prepend", "$preInsert"})
_DISTINCT = frozenset({"$preInsert", "$postInsert"})


def group_users(identifications: pa.RecordBatch) -> _Indices:
    """Number the users 0..k-1 in order of appearance; shape (n,). Compares ids, not keys."""
    codes = np.zeros(identifications.num_rows, dtype=np.int64)
    for _, ids in subject_of(identifications).columns(identifications):
        encoded = ids.dictionary_encode(null_encoding="encode")
        indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        codes = codes * (len(encoded.dictionary) + 1) + indices
    users: _Indices = pa.array(codes).dictionary_encode().indices.to_numpy().astype(np.int64)
    return users


def join_identifications(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Identifications one behind the other, at least one batch of them.

    Values that differ in type, as those of JSON may, become text with JSON marked in it.
    """
    if all(batch.schema.equals(batches[0].schema) for batch in batches):
        return pa.concat_batches(batches)
    columns: dict[FieldPath, list[pa.Array]] = {}
    for batch in batches:
        for path, values in value_columns(batch):
            columns.setdefault(path, []).append(values)
    return nested_rows({path: concat_values(some) for path, some in columns.items()})


def merge_rows(identifications: pa.RecordBatch, groups: _Indices) -> pa.RecordBatch:
    """One identification a group, in order of group number; shape (groups.max() + 1,), the same fields.

    `groups` (int64, shape (n,)) names each row's user. Types stay, but that sums are as wide as Arrow's sums.
    """
    found, users = dict(value_columns(identifications)), int(groups.max()) + 1
    wiped = ("user_properties", "$clearAll") in found
    merged: dict[FieldPath, pa.Array] = {}
    for paths in field_groups(list(found)):
        operator = paths[0][1] if paths[0][0] == "user_properties" else "$set"
        columns = [found[path] for path in paths]
        if wiped and paths[0][0] == "user_properties":  # only the last row counts
            rows = np.arange(len(groups))
        elif operator == "$add":
            merged[paths[0]] = _total(columns[0], groups, users)
            continue
        elif operator in LIST_OPERATORS:
            merged[paths[0]] = _joined(columns[0], groups, users, operator)
            continue
        else:
            rows = np.flatnonzero(np.logical_or.reduce([valid_mask(column) for column in columns]))
            rows = rows[::-1] if operator == "$setOnce" else rows
        picked = np.full(users, -1, dtype=np.int64)  # -1: the user has no such row
        picked[groups[rows]] = rows  # of equal indices numpy keeps the last
        indices = pa.array(picked, mask=picked < 0)
        merged |= {path: found[path].take(indices) for path in paths}
    return nested_rows({path: merged[path] for path in found})


def _total(column: pa.Array, groups: _Indices, users: int) -> pa.Array:
    """Sums by user; null where every row is null. Whole numbers have a whole sum, if they are all."""
    kind = column.type
    if pa.types.is_string(kind):  # marked
        totals: list[Any] = [None] * users
        for user, value in zip(groups.tolist(), _json_values(column), strict=True):
            if value is not None:
                totals[user] = (totals[user] or 0) + value
        texts = [None if total is None else dump_json(total) for total in totals]
        return mark_json(pa.array(texts, pa.string()))
    # The numbers as the server reads them, in a type that holds the sums that `merge_shares` allows.
    if pa.types.is_decimal256(kind):
        column = column.cast(pa.decimal256(76, kind.scale))
    elif pa.types.is_decimal(kind):
        column = column.cast(pa.decimal128(38, kind.scale))
    elif pa.types.is_floating(kind) and kind.bit_width < 64:
        column = column.cast(pa.string()).cast(pa.float64())  # a 0.1 of 32 bits is written as 0.1
    table = pa.table({"user": groups, "value": column})
    sums = table.group_by("user", use_threads=False).aggregate([("value", "sum")]).sort_by("user")
    return sums["value_sum"].combine_chunks()


def _joined(column: pa.Array, groups: _Indices, users: int, operator: str) -> pa.Array:
    """Each user's lists one behind the other; null where all are null."""
    lists = FlatLists.of(column)
    rows, places = lists.owners, np.arange(len(lists.elements))
    if operator in _DISTINCT:
        # Of each user's equal values the first one counts: what comes later is there already.
        codes = _codes(lists.elements)
        pairs = groups[rows] * (int(codes.max(initial=0)) + 1) + codes
        places = np.sort(np.unique(pairs, return_index=True)[1])
    owners = groups[rows[places]]
    order = -rows[places] if operator in _LAST_FIRST else rows[places]
    by_user = places[np.lexsort((places, order, owners))]
    absent = np.bincount(groups[~lists.nulls], minlength=users) == 0
    taken = lists.elements.take(pa.array(by_user))
    return FlatLists(taken, np.bincount(owners, minlength=users), absent).rebuild(taken)


def _codes(values: pa.Array) -> _Indices:
    """A number for each value; those that are equal as JSON have the same."""
    kind = values.type
    if pa.types.is_floating(kind):
        values = pc.add(values, pa.scalar(0.0, kind))  # -0.0 becomes 0.0
    # Values of these types are equal if their JSON is, and the other way round.
    plain = pa.types.is_primitive(kind) or pa.types.is_decimal(kind)
    if plain or (pa.types.is_string(kind) and not may_be_marked(values)):
        codes: _Indices = values.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return codes
    known: dict[object, int] = {}
    found = [known.setdefault(_key(value), len(known)) for value in _json_values(values)]
    return np.array(found, dtype=np.int64)


def _key(value: object) -> object:
    """A key that is equal exactly where values are equal as JSON: 1 is 1.0, and True isn't."""
    if isinstance(value, dict):
        return ("object", *sorted((name, _key(member)) for name, member in value.items()))
    if isinstance(value, list):
        return ("list", *map(_key, value))
    return ("boolean", value) if isinstance(value, bool) else value


# --- how many rows can be merged -------------------------------------------------------------------------

WHOLE_SHARE: Final = 1 << 40
_MOST: Final = 2 * WHOLE_SHARE  # of one row; thousands of them can be added up
# Below what the types hold: adding up in doubles, as is done here, is off by less than the difference.
_MOST_INTEGER: Final = 9e18
_MOST_FLOAT: Final = 1e308
_DECIMAL_DIGITS: Final = 38
_ADDING: Final = frozenset({"$add", *LIST_OPERATORS})


def merge_shares(identifications: pa.RecordBatch) -> Shares | None:
    """The share of each row in each column whose values add up; shape (n, c). None where there is none."""
    columns = {path: one for path, one in value_columns(identifications) if path[0] == "user_properties"}
    operators = {path[1] for path in columns}
    if "$clearAll" in operators or _ADDING.isdisjoint(operators):  # with $clearAll only the last row counts
        return None
    shares = [
        _shares_of_sum(column) if path[1] == "$add" else _shares_of_list(column)
        for path, column in columns.items()
        if path[1] in _ADDING
    ]
    whole: Shares = np.minimum(np.ceil(np.stack(shares, axis=1) * WHOLE_SHARE), _MOST).astype(np.int64)
    return whole


def _shares_of_sum(column: pa.Array) -> _Numbers:
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
    for row, value in enumerate(_json_values(column)):
        if isinstance(value, int):
            shares[row] = float(min(abs(value), 10**300)) / _MOST_INTEGER
        elif isinstance(value, float):
            shares[row] = abs(value) / _MOST_FLOAT
    return shares


def _shares_of_list(column: pa.Array) -> _Numbers:
    """By bytes, which are never fewer than characters; the server counts strings only, and drops the rest."""
    lists = FlatLists.of(column)
    if not pa.types.is_string(lists.elements.type):
        return np.zeros(len(column))
    if may_be_marked(lists.elements):
        found = _json_values(lists.elements)
        sizes = np.array([len(value.encode()) if isinstance(value, str) else 0 for value in found])
    else:
        sizes = pc.binary_length(lists.elements).fill_null(0).to_numpy(zero_copy_only=False)
    return np.bincount(lists.owners, weights=sizes, minlength=len(column)) / MAX_STRING_LENGTH


def _json_values(values: pa.Array) -> list[Any]:
    """Each value as it is read from JSON, whole numbers with all their digits; shape (n,)."""
    return [None if text is None else load_json(text) for text in json_texts(values).to_pylist()]
