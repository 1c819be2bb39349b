"""Amplitude's limits on the length of text, alone and in lists, and on the number of groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..amplitude.limits import MAX_GROUP_VALUES, MAX_STRING_LENGTH
from ..arrow.layout import FlatLists, is_list, valid_mask
from .column_values import ColumnValues, Issues, issues_of

TooLong: TypeAlias = Literal["reject", "truncate"]

STRING_TOO_LONG: Final = f"{{}} has more than {MAX_STRING_LENGTH} characters"
LIST_TOO_LONG: Final = f"the strings of {{}} have more than {MAX_STRING_LENGTH} characters together"
TOO_MANY_GROUPS: Final = f"{{}} has more than {MAX_GROUP_VALUES} group values"
NESTED_LIST: Final = "{} has a list inside a list"


def issues_of_lists(lists: FlatLists, issues: Issues) -> Issues:
    """Issues of elements as issues of their lists."""
    n = len(lists.lengths)
    rows_of = (np.bincount(lists.owners[issue.rows], minlength=n) > 0 for issue in issues)
    return tuple(replace(one, rows=rows, shown=None) for one, rows in zip(issues, rows_of, strict=True))


def to_lists(values: pa.Array) -> pa.Array:
    """Lists as they are, each other value as a list of one; null stays null."""
    if is_list(values.type):
        return values
    present, elements = valid_mask(values), values.drop_null()
    return FlatLists(elements, present.astype(np.int64), ~present).rebuild(elements)


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
    lists = FlatLists.of(values)
    elements, owners, n = lists.elements, lists.owners, len(values)
    if (np.bincount(owners, pc.binary_length(elements), n) <= MAX_STRING_LENGTH).all():
        return ColumnValues(values)
    if too_long == "truncate":
        short = pc.utf8_slice_codeunits(elements, 0, MAX_STRING_LENGTH)
        upto = np.append(0, np.cumsum(pc.utf8_length(short)))
        return ColumnValues(lists.rebuild(short, upto[1:] - upto[lists.starts][owners] <= MAX_STRING_LENGTH))
    longer = np.bincount(owners, pc.utf8_length(elements), n) > MAX_STRING_LENGTH
    return ColumnValues(values, issues_of("too_long", longer, LIST_TOO_LONG))
