r"""Identifications as JSON objects in a field of an urlencoded form, put together column by column.

A form takes the fewest bytes that every form parser reads back unchanged. Percent-encoding every byte makes
JSON 1.6 times as big. A form parser only takes `%`, `&`, `+` (and, in older ones, `;`) for something else, so
these and DEL are percent-encoded. A space is written `+`, as every browser does. Characters outside ASCII
become JSON's own `\uXXXX` escapes, which are never longer than their percent-encoded UTF-8.

What a form needs has no character that JSON escapes, and the other way round, so it is done first. There is
far more JSON than text in which anything has to be escaped. So texts are escaped by themselves, and joined
with what stands between them. What is not text, such as numbers, the JSON writer writes.
"""

from __future__ import annotations

import codecs
from functools import reduce
from itertools import groupby
from json.encoder import encode_basestring_ascii as quoted_ascii
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..arrow.json_text import Splice, json_lines, line_ends, may_be_marked
from ..arrow.layout import text_layout, valid_mask

# In this order: a `%` is not escaped twice, and a `+` is a plus sign before it stands for a space.
_ESCAPES = (*((bytes([byte]), b"%%%02X" % byte) for byte in b"%&+;\x7f"), (b" ", b"+"))
# If half of so many texts of a column are repeated, each different one is escaped once.
_SAMPLED: Final = 256
# What a byte of a text adds to it, and who escapes it; both are known by the first byte of a character.
_ADDED, _IN_FORM, _IN_JSON = 0x0F, 0x10, 0x20
_OF_BYTES: Final = np.zeros(256, np.uint8)
_OF_BYTES[:0x20], _OF_BYTES[list(b'\b\t\n\f\r"\\')] = _IN_JSON | 5, _IN_JSON | 1
_OF_BYTES[0xC2:0xE0], _OF_BYTES[0xE0:0xF0], _OF_BYTES[0xF0:0xF5] = _IN_JSON | 4, _IN_JSON | 3, _IN_JSON | 8
_OF_BYTES[list(b"%&+;\x7f")], _OF_BYTES[ord(" ")] = _IN_FORM | 2, _IN_FORM
_MARKS: Final = _OF_BYTES.tobytes()
_AS_JSON: Final = "propsync.json"  # how Python is to encode what is outside ASCII
_ADDITIONS: Final = (_OF_BYTES & _ADDED).tobytes()


def escape_texts(texts: pa.StringArray) -> pa.LargeStringArray:
    """What stands between the quotes of each text as JSON in a form; null stays null."""
    starts, _, letters = text_layout(texts)
    ends, text = np.append(starts, len(letters)), letters.tobytes()
    marks = np.frombuffer(text.translate(_MARKS), np.uint8)
    if found := int(np.bitwise_or.reduce(marks)):
        if len(texts) > _SAMPLED and len(texts[:_SAMPLED].unique()) < _SAMPLED / 2:
            encoded = texts.dictionary_encode()
            return escape_texts(encoded.dictionary).take(encoded.indices)
        added = (marks & _ADDED).cumsum(dtype=np.int32)
        ends += np.concatenate([[0], added], dtype=np.int64)[ends]
        text = _in_form(text)
        if found & _IN_JSON:
            text = quoted_ascii(text.decode())[1:-1].encode()
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(text)]
    escaped = pa.Array.from_buffers(pa.large_string(), len(texts), buffers)
    return pc.if_else(texts.is_valid(), escaped, None) if texts.null_count else escaped


def escaped_sizes(texts: pa.StringArray) -> NDArray[np.int64]:
    """The bytes of each of `escape_texts`, which aren't made; of a null they mean nothing."""
    starts, _, letters = text_layout(texts)
    ends = np.append(starts, len(letters))
    added = np.frombuffer(letters.tobytes().translate(_ADDITIONS), np.uint8)
    if added.any():
        ends += np.concatenate([[0], added.cumsum(dtype=np.int32)], dtype=np.int64)[ends]
    return np.diff(ends)


def escape_text(text: str) -> str:
    """One text as JSON in a form, with its quotes."""
    return quoted_ascii(_in_form(text.encode()).decode())


def escape_lines(lines: bytes) -> bytes:
    """Escape UTF-8 JSON lines for a form; newlines between lines stay as they are."""
    lines = _in_form(lines)
    return lines if lines.isascii() else lines.decode().encode("ascii", _AS_JSON)


def _escaped(error: UnicodeEncodeError) -> tuple[str, int]:
    """What stands for characters outside ASCII that come together, and where they end."""
    return quoted_ascii(error.object[error.start : error.end])[1:-1], error.end


codecs.register_error(_AS_JSON, _escaped)  # type: ignore[arg-type]


def _in_form(text: bytes) -> bytes:
    for byte, escaped in _ESCAPES:
        if byte in text:
            text = text.replace(byte, escaped)
    return text


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
