"""Amplitude's limit on the length of text: a longer value is a fault, or is cut where the job says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from etl.amplitude import MAX_STRING_LENGTH
from etl.mapper.cells import Cells, faults_of
from etl.mapper.lists import Opened, open_lists

if TYPE_CHECKING:
    from numpy.typing import NDArray

TooLong: TypeAlias = Literal["reject", "truncate"]

STRING_TOO_LONG: Final = f"{{}} has more than {MAX_STRING_LENGTH} characters"
LIST_TOO_LONG: Final = f"the strings of {{}} have more than {MAX_STRING_LENGTH} characters together"


def fit_strings(values: pa.Array, too_long: TooLong) -> Cells:
    """Hold strings to the limit."""
    # Bytes are cheaper to count than characters, and never fewer.
    longest = pc.max(pc.binary_length(values)).as_py()
    if longest is None or longest <= MAX_STRING_LENGTH:
        return Cells(values)
    if too_long == "truncate":
        return Cells(pc.utf8_slice_codeunits(values, 0, MAX_STRING_LENGTH))
    longer = pc.greater(pc.utf8_length(values), MAX_STRING_LENGTH)
    return Cells(values, faults_of("too_long", longer, STRING_TOO_LONG))


def fit_lists(values: pa.Array, too_long: TooLong) -> Cells:
    """Hold lists of strings without nulls to the limit, which counts all strings of a list together.

    Of a list to be cut the first elements stay, as many as fit; a first one too long by itself is cut.
    """
    opened = open_lists(values)
    totals = _running_total(pc.binary_length(opened.flat))
    if not (_per_list(totals, opened) > MAX_STRING_LENGTH).any():
        return Cells(values)
    if too_long == "truncate":
        return Cells(_cut(opened))
    longer = _per_list(_running_total(pc.utf8_length(opened.flat)), opened) > MAX_STRING_LENGTH
    return Cells(values, faults_of("too_long", longer, LIST_TOO_LONG))


def _cut(opened: Opened) -> pa.Array:
    short = pc.utf8_slice_codeunits(opened.flat, 0, MAX_STRING_LENGTH)
    totals = _running_total(pc.utf8_length(short))
    before = np.repeat(totals[opened.starts], opened.lengths)
    return opened.rebuilt(short, keep=totals[1:] - before <= MAX_STRING_LENGTH)


def _running_total(counts: pa.Array) -> NDArray[np.int64]:
    """What stands before each element, and in all; shape (n + 1,)."""
    return np.concatenate([[0], np.cumsum(counts.to_numpy(zero_copy_only=False), dtype=np.int64)])


def _per_list(totals: NDArray[np.int64], opened: Opened) -> NDArray[np.int64]:
    sums: NDArray[np.int64] = totals[opened.starts + opened.lengths] - totals[opened.starts]
    return sums
