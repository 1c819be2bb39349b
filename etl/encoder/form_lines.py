"""Identifications as JSON objects in a form, put together column by column.

There is far more JSON than text in which anything has to be escaped. So texts are escaped by themselves, and
joined with what stands between them. What is not text, such as numbers, the JSON writer writes.
"""

from __future__ import annotations

from functools import reduce
from itertools import groupby
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..arrow.json_lines import Splice, json_lines, line_ends, may_be_marked
from ..arrow.layout import text_layout, valid_mask
from .form_escape import escape_lines, escape_text, escape_texts, escaped_sizes

# What each row has at a place: a text of its own, or the same text in all rows.
_Piece: TypeAlias = str | pa.LargeStringArray
_Member: TypeAlias = list[_Piece]
_Column: TypeAlias = tuple[str, pa.Array]
_TEXT: Final = pa.large_string()
_BRACE, _BRACE_AND_NEWLINE = 1, 2
_POWERS: Final = 10 ** np.arange(1, 20, dtype=np.uint64)  # from which on whole numbers have a digit more


def form_objects(rows: pa.RecordBatch, splice: Splice | None = None) -> pa.LargeStringArray:
    """Each row as a JSON object with a comma behind it, escaped for a form; shape (n,). Nulls are left out.

    `splice` makes marked strings what they stand for.
    """
    return _joined([*_object(rows, splice), ","])


def form_sizes(rows: pa.RecordBatch, splice: Splice | None = None) -> NDArray[np.int64]:
    """The bytes of each of `form_objects`, without making these; shape (n,)."""
    sizes, members = np.full(rows.num_rows, len("{},")), np.zeros(rows.num_rows, np.int64)
    others = list[int]()
    for place, (name, values) in enumerate(zip(rows.schema.names, rows.columns, strict=True)):
        if pa.types.is_struct(values.type) and values.type.num_fields:
            own = form_sizes(pa.RecordBatch.from_struct_array(values), splice) - len(",")
        elif pa.types.is_string(values.type) and not (splice and may_be_marked(values)):
            own = escaped_sizes(values) + len('""')
        elif pa.types.is_int64(values.type):
            numbers = values.fill_null(0).to_numpy()
            own = np.searchsorted(_POWERS, np.abs(numbers).view(np.uint64), side="right") + 1 + (numbers < 0)
        else:
            others.append(place)
            continue
        given = valid_mask(values) if values.null_count else True
        sizes += (own + (len(escape_text(name)) + len(":"))) * given
        members += given
    if others:
        own = np.diff(line_ends(escape_lines(json_lines(rows.select(others), splice=splice)))) - len("{}\n")
        sizes += own
        members += own > 0
    sizes += np.maximum(members - 1, 0)  # the commas between them
    return sizes


def _object(rows: pa.RecordBatch, splice: Splice | None) -> list[_Piece]:
    """The pieces of an object that has the columns as members."""

    def joins(column: _Column) -> bool:
        """Whether it is put together here: a struct, or a text; but not what is to be spliced.

        Where texts are missing, the JSON writer is quicker, unless they are outside ASCII.
        """
        values = column[1]
        if pa.types.is_struct(values.type):
            return bool(values.type.num_fields)
        if not pa.types.is_string(values.type) or (splice and may_be_marked(values)):
            return False
        return not values.null_count or not text_layout(values)[2].tobytes().isascii()

    members: list[_Member] = []
    for joined, some in groupby(zip(rows.schema.names, rows.columns, strict=True), joins):
        if joined:
            members += (_member(name, values, splice) for name, values in some)
        else:
            members.append([_written(list(some), splice)])
    if any(isinstance(piece, pa.Array) and piece.null_count for member in members for piece in member):
        first, *others = map(_joined, members)
        if first.null_count:  # where all are null, Arrow (seen in 26.0) returns no row
            empty = reduce(pc.and_, (one.is_null() for one in (first, *others)))
            first = pc.if_else(empty, pa.scalar("", _TEXT), first)
        given = pc.binary_join_element_wise(first, *others, pa.scalar(",", _TEXT), null_handling="skip")
        return ["{", given, "}"]
    pieces = [piece for member in members for piece in (",", *member)]
    return ["{", *pieces[1:], "}"]


def _member(name: str, values: pa.Array, splice: Splice | None) -> _Member:
    """The pieces of a member; one of them is null where the value is."""
    key = f"{escape_text(name)}:"
    if pa.types.is_string(values.type):
        return [f'{key}"', escape_texts(values), '"']
    member = [key, *_object(pa.RecordBatch.from_struct_array(values), splice)]
    return [pc.if_else(values.is_valid(), _joined(member), None)] if values.null_count else member


def _written(columns: list[_Column], splice: Splice | None) -> pa.LargeStringArray:
    """Members that the JSON writer writes, side by side; null where all are null."""
    names, values = map(list, zip(*columns, strict=True))
    lines = escape_lines(json_lines(pa.RecordBatch.from_arrays(values, names), splice=splice))
    ends = line_ends(lines)
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(lines)]
    objects = pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)
    members = pc.binary_slice(objects, _BRACE, -_BRACE_AND_NEWLINE).view(_TEXT)
    given = np.diff(ends) > len(b"{}\n")
    return members if given.all() else pc.if_else(pa.array(given), members, None)


def _joined(pieces: list[_Piece]) -> pa.LargeStringArray:
    """The pieces of each row as one text; null where one of them is null."""
    if len(pieces) == 1 and isinstance(pieces[0], pa.Array):
        return pieces[0]
    texts = list[pa.Scalar | pa.Array]()
    for kind, some in groupby(pieces, type):
        group = list(some)
        texts += [pa.scalar("".join(group), _TEXT)] if kind is str else group
    return pc.binary_join_element_wise(*texts, pa.scalar("", _TEXT))
