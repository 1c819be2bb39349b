"""Lists as one array of their elements and back, and Amplitude's limit on the length of text in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.limits import MAX_GROUP_VALUES, MAX_STRING_LENGTH
from ..arrow.structs import LIST_TYPES
from .column_values import ColumnValues, RowMask, ValueIssue, as_mask, issues_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

TooLong: TypeAlias = Literal["reject", "truncate"]

STRING_TOO_LONG: Final = f"{{}} has more than {MAX_STRING_LENGTH} characters"
LIST_TOO_LONG: Final = f"the strings of {{}} have more than {MAX_STRING_LENGTH} characters together"
TOO_MANY_GROUPS: Final = f"{{}} has more than {MAX_GROUP_VALUES} group values"
NESTED_LIST: Final = "{} has a list inside a list"


@dataclass(frozen=True, slots=True)
class FlatLists:
    """n lists as one array of their elements, shape (m,): list i is `lengths[i]` elements from `starts[i]`.

    `nulls` (bool, shape (n,)) marks the lists that are null; these have no elements.
    """

    elements: pa.Array
    lengths: NDArray[np.int64]
    nulls: RowMask

    @property
    def starts(self) -> NDArray[np.int64]:
        """Where each list starts in `elements`; shape (n,)."""
        return np.cumsum(self.lengths) - self.lengths

    def issues_of_lists(self, issues: tuple[ValueIssue, ...]) -> tuple[ValueIssue, ...]:
        """Issues of elements as issues of their lists."""
        owners = np.repeat(np.arange(len(self.lengths)), self.lengths)
        n = len(self.lengths)
        rows_of = (np.bincount(owners[issue.rows], minlength=n) > 0 for issue in issues)
        return tuple(replace(one, rows=rows, shown=None) for one, rows in zip(issues, rows_of, strict=True))

    def rebuild(self, elements: pa.Array, keep: RowMask | None = None) -> pa.Array:
        """The lists with other elements, shape (m,); with `keep` only the marked ones of these."""
        stops = np.cumsum(self.lengths)
        if keep is not None and not keep.all():
            kept = np.concatenate([[0], np.cumsum(keep, dtype=np.int64)])
            stops, elements = kept[stops], elements.filter(pa.array(keep))
        offsets = np.concatenate([[0], stops]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), elements, mask=pa.array(self.nulls))


def is_list(kind: pa.DataType) -> bool:
    """Whether it is one of the list types that `flatten_lists` takes."""
    return isinstance(kind, LIST_TYPES)


def flatten_lists(values: pa.Array) -> FlatLists:
    """Separate lists into their elements and their lengths."""
    lengths = pc.list_value_length(values).fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    return FlatLists(values.flatten(), lengths, as_mask(values.is_null()))


def to_lists(values: pa.Array) -> ColumnValues:
    """Lists as they are, each other value as a list of one; null stays null."""
    if is_list(values.type):
        return ColumnValues(values)
    present, elements = as_mask(values.is_valid()), values.drop_null()
    return ColumnValues(FlatLists(elements, present.astype(np.int64), ~present).rebuild(elements))


def count_groups(values: pa.Array) -> ColumnValues:
    """Group values as they are; a list of too many is an issue."""
    if not is_list(values.type):
        return ColumnValues(values)
    many = pc.greater(pc.list_value_length(values), MAX_GROUP_VALUES)
    return ColumnValues(values, issues_of("too_many_groups", many, TOO_MANY_GROUPS))


def fit_strings(values: pa.Array, too_long: TooLong) -> ColumnValues:
    """Apply the limit to strings: a longer one is an issue, or is cut."""
    # Bytes are cheaper to count than characters, and never fewer.
    longest = pc.max(pc.binary_length(values)).as_py()
    if longest is None or longest <= MAX_STRING_LENGTH:
        return ColumnValues(values)
    if too_long == "truncate":
        return ColumnValues(pc.utf8_slice_codeunits(values, 0, MAX_STRING_LENGTH))
    longer = pc.greater(pc.utf8_length(values), MAX_STRING_LENGTH)
    return ColumnValues(values, issues_of("too_long", longer, STRING_TOO_LONG))


def fit_lists(values: pa.Array, too_long: TooLong) -> ColumnValues:
    """Apply the limit to lists of strings without nulls; all strings of a list count together.

    A list that is cut keeps its first elements, as many as fit. A first one too long by itself is cut.
    """
    lists = flatten_lists(values)
    starts, stops = lists.starts, lists.starts + lists.lengths

    def running_total(counts: pa.Array) -> NDArray[np.int64]:
        return np.concatenate([[0], np.cumsum(counts.to_numpy(zero_copy_only=False), dtype=np.int64)])

    totals = running_total(pc.binary_length(lists.elements))
    if not (totals[stops] - totals[starts] > MAX_STRING_LENGTH).any():
        return ColumnValues(values)
    if too_long == "truncate":
        short = pc.utf8_slice_codeunits(lists.elements, 0, MAX_STRING_LENGTH)
        totals = running_total(pc.utf8_length(short))
        before = np.repeat(totals[starts], lists.lengths)
        return ColumnValues(lists.rebuild(short, totals[1:] - before <= MAX_STRING_LENGTH))
    totals = running_total(pc.utf8_length(lists.elements))
    longer = totals[stops] - totals[starts] > MAX_STRING_LENGTH
    return ColumnValues(values, issues_of("too_long", longer, LIST_TOO_LONG))
