"""Rows of one user that fall in one chunk, merged into one identification as the operators mean.

The rule for every operator: sending the merged identification leaves the profile as sending the rows one by
one, in their order, would have left it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from etl import amplitude
from etl.arrow.exact_json import dump, load
from etl.arrow.raw_json import mark, marked, unmarked
from etl.leaves import Path, assemble, bundles, leaves, valid

Indices = NDArray[np.int64]

# For these the values of the last row come first.
_LAST_FIRST = frozenset({"$prepend", "$preInsert"})
_DISTINCT = frozenset({"$preInsert", "$postInsert"})


def group_users(identifications: pa.RecordBatch) -> Indices:
    """Number the users 0..k-1 in order of appearance; shape (n,). Compares ids, not keys."""
    codes = np.zeros(identifications.num_rows, dtype=np.int64)
    for name in amplitude.ID_FIELDS:
        if name in identifications.schema.names:
            encoded = identifications.column(name).dictionary_encode(null_encoding="encode")
            indices = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
            codes = codes * (len(encoded.dictionary) + 1) + indices
    return _by_appearance(codes)


def joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Identifications one behind the other, at least one batch of them.

    Values that differ in type, as those of JSON may, become text with JSON marked in it.
    """
    if all(batch.schema.equals(batches[0].schema) for batch in batches):
        return pa.concat_batches(batches)
    together: dict[Path, list[pa.Array]] = {}
    for batch in batches:
        for path, values in leaves(batch):
            together.setdefault(path, []).append(values)
    found = {path: pa.concat_arrays(_alike(columns)) for path, columns in together.items()}
    return pa.RecordBatch.from_arrays(
        [assemble(field, (field.name,), found) for field in batches[0].schema], names=batches[0].schema.names
    )


def _alike(columns: list[pa.Array]) -> list[pa.Array]:
    if all(column.type == columns[0].type for column in columns):
        return columns
    if not all(pa.types.is_list(column.type) for column in columns):
        return [marked(column) for column in columns]
    return [
        pa.ListArray.from_arrays(_offsets(column), marked(column.flatten()), mask=column.is_null())
        for column in columns
    ]


def _offsets(lists: pa.Array) -> pa.Array:
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def merge_rows(identifications: pa.RecordBatch, groups: Indices) -> pa.RecordBatch:
    """One identification a group, in order of group number; shape (groups.max() + 1,), the same fields.

    Types stay, but that sums are as wide as Arrow's sums.
    """
    found = dict(leaves(identifications))
    last_only = ("user_properties", "$clearAll") in found
    window = _Window(groups, int(groups.max()) + 1)
    merged: dict[Path, pa.Array] = {}
    for bundle in bundles(list(found)):
        columns = [found[path] for path in bundle]
        wiped = last_only and bundle[0][0] == "user_properties"
        merged |= zip(bundle, window.merge(bundle[0], columns, wiped=wiped), strict=True)
    arrays = [assemble(field, (field.name,), merged) for field in identifications.schema]
    return pa.RecordBatch.from_arrays(arrays, names=identifications.schema.names)


@dataclass(frozen=True, slots=True)
class _Window:
    """The rows of a chunk: `groups` (int64, shape (n,)) names each row's user, 0..users-1."""

    groups: Indices
    users: int

    def merge(self, path: Path, columns: list[pa.Array], *, wiped: bool) -> list[pa.Array]:
        """Merge a bundle of columns whose values stand or fall together; `path` is the first one's."""
        operator = path[1] if path[0] == "user_properties" else "$set"
        if wiped:
            return self._take(columns, self._pick(np.ones(len(self.groups), dtype=np.bool_)))
        if operator == "$add":
            return [self._total(column) for column in columns]
        if operator in amplitude.LIST_OPERATORS:
            return [self._joined(column, operator) for column in columns]
        given = np.logical_or.reduce([valid(column) for column in columns])
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
        if pa.types.is_string(column.type):
            return self._marked_total(column)
        table = pa.table({"user": self.groups, "value": column})
        sums = table.group_by("user", use_threads=False).aggregate([("value", "sum")]).sort_by("user")
        return sums["value_sum"].combine_chunks()

    def _marked_total(self, column: pa.Array) -> pa.Array:
        totals: list[int | float | None] = [None] * self.users
        for user, text in zip(self.groups.tolist(), column.to_pylist(), strict=True):
            if text is not None:
                totals[user] = (totals[user] or 0) + load(unmarked(text) or text)
        return mark(pa.array([None if total is None else dump(total) for total in totals], pa.string()))

    def _joined(self, column: pa.Array, operator: str) -> pa.Array:
        """Each user's lists one behind the other; null where all are null."""
        rows = pc.list_parent_indices(column).to_numpy(zero_copy_only=False).astype(np.int64)
        values = column.flatten()
        order = -rows if operator in _LAST_FIRST else rows
        places = np.lexsort((np.arange(len(rows)), order, self.groups[rows]))
        users, values = self.groups[rows][places], values.take(pa.array(places))
        if operator in _DISTINCT:
            keep = _distinct(users, values, last=operator in _LAST_FIRST)
            users, values = users[keep], values.take(pa.array(keep))
        counts = np.bincount(users, minlength=self.users)
        absent = np.bincount(self.groups[valid(column)], minlength=self.users) == 0
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), values, type=column.type, mask=pa.array(absent))


def _distinct(users: Indices, values: pa.Array, *, last: bool) -> Indices:
    """Places of each user's distinct values: the first of equals, or the last."""
    codes = values.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)
    pairs = users * (len(values) + 1) + codes
    if last:
        _, index = np.unique(pairs[::-1], return_index=True)
        return np.sort(len(pairs) - 1 - index)
    _, index = np.unique(pairs, return_index=True)
    return np.sort(index)


def _by_appearance(codes: Indices) -> Indices:
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]
