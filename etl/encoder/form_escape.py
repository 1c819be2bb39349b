r"""JSON lines as a field of an urlencoded form.

It takes the fewest bytes that every form parser reads back unchanged. Percent-encoding every byte makes JSON
1.6 times as big. A form parser only takes `%`, `&`, `+` (and, in older ones, `;`) for something else, so
these and DEL are percent-encoded. A space is written `+`, as every browser does. Characters outside ASCII
become JSON's own `\uXXXX` escapes, which are never longer than their percent-encoded UTF-8.

Text columns that aren't ASCII are escaped before the JSON is written, since there is much more JSON than such
text. Until then DEL stands for the backslash of an escape, which the JSON writer would escape again.
"""

from __future__ import annotations

from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as quoted_ascii
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# In this order: a `%` is not escaped twice, and a `+` is a plus sign before it stands for a space.
_ESCAPES = (*((bytes([byte]), b"%%%02X" % byte) for byte in b"%&+;\x7f"), (b" ", b"+"))
# Parts of this many bytes stay in the processor's caches, and those that are ASCII cost nothing.
_PART_BYTES: Final = 1 << 16
# Stands for an escaped backslash meanwhile: no JSON text has this byte.
_SHIELD: Final = b"\x01"
_LATIN_1: Final = (b"\xc2", b"\xc3")  # with these bytes UTF-8 begins the characters U+0080 to U+00FF
_ABOVE_16_BITS: Final = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")  # and with these the ones above U+FFFF
_DEL: Final = b"\x7f"
# If half of so many texts of a column are repeated, each different one is escaped once.
_SAMPLED: Final = 256
# By how many bytes a character grows that begins with this byte: a control character, or one outside ASCII.
_GROWTH: Final = np.zeros(256, dtype=np.int32)
_START: Final = np.zeros(1, dtype=np.int32)
_GROWTH[:0x20], _GROWTH[list(b"\b\t\n\f\r")] = 5, 1
_GROWTH[0xC2:0xE0], _GROWTH[0xE0:0xF0], _GROWTH[0xF0:0xF5] = 4, 3, 8


def escape_columns(rows: pa.RecordBatch) -> pa.RecordBatch | None:
    """Escape the text columns outside ASCII, for `unmask` to complete once the rows are JSON lines.

    None: no column has to be escaped, or some text or name holds a DEL of its own.
    """
    try:
        columns = _escaped_all(rows.columns, rows.schema)
    except _OwnDelError:
        return None
    return columns and pa.RecordBatch.from_arrays(columns, names=rows.schema.names)


def unmask(lines: bytes) -> bytes:
    """Write the backslashes of escapes in JSON lines of escaped columns."""
    return lines.replace(_DEL, b"\\")


class _OwnDelError(ValueError):
    """A text or name holds a DEL, or a type is unknown."""


def _escaped_all(columns: list[pa.Array], fields: Iterable[pa.Field]) -> list[pa.Array] | None:
    """The columns with escapes; None if none needs any."""
    if any(_DEL.decode() in field.name for field in fields):
        raise _OwnDelError
    escaped = [_escaped(column) for column in columns]
    return None if all(one is column for one, column in zip(escaped, columns, strict=True)) else escaped


def _escaped(column: pa.Array) -> pa.Array:
    """The same column with escapes; itself if it needs none."""
    kind = column.type
    if pa.types.is_string(kind):
        return _escaped_texts(column)
    if pa.types.is_struct(kind):
        fields = _escaped_all([column.field(number) for number in range(kind.num_fields)], kind)
        nulls = column.is_null() if column.null_count else None
        return (fields and pa.StructArray.from_arrays(fields, fields=list(kind), mask=nulls)) or column
    if pa.types.is_list(kind):
        items = column.values
        escaped = _escaped(items)
        if escaped is items:
            return column
        layout = column.buffers()[:2]
        return pa.Array.from_buffers(
            kind, len(column), layout, column.null_count, column.offset, children=[escaped]
        )
    if not (pa.types.is_primitive(kind) or pa.types.is_null(kind)):
        raise _OwnDelError
    return column


def _escaped_texts(column: pa.Array) -> pa.Array:
    """Texts with escapes whose backslashes are DELs."""
    _, offsets, data = column.buffers()
    if not len(column) or data is None:
        return column
    ends = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    raw = memoryview(data)[ends[0] : ends[-1]].tobytes()
    if _DEL in raw:
        raise _OwnDelError
    if raw.isascii():
        return column
    if len(column) > _SAMPLED and len(column[:_SAMPLED].unique()) < _SAMPLED / 2:
        encoded = column.dictionary_encode()
        return _escaped_texts(encoded.dictionary).take(encoded.indices)
    lines = quoted_ascii(raw.decode())[1:-1].encode()
    # What the JSON writer escapes itself is left to it.
    if b"\\" in raw:
        lines = lines.replace(rb"\\", _SHIELD)
    if b'"' in raw:
        lines = lines.replace(rb"\"", b'"')
    lines = lines.replace(b"\\", _DEL)
    if b"\\" in raw:
        lines = lines.replace(_SHIELD, b"\\")
    letters = np.frombuffer(raw, dtype=np.uint8)
    grown = np.flatnonzero(letters - np.uint8(0x20) >= 0xC2 - 0x20)  # control characters wrap around
    growth = np.concatenate([_START, _GROWTH[letters[grown]].cumsum(dtype=np.int32)])
    starts = ends - ends[0]
    starts += growth[grown.searchsorted(starts)]
    texts = pa.Array.from_buffers(pa.string(), len(column), [None, pa.py_buffer(starts), pa.py_buffer(lines)])
    return pc.if_else(column.is_valid(), texts, None) if column.null_count else texts


def form_escape(lines: bytes) -> bytes:
    """Escape UTF-8 JSON lines for an urlencoded form; newlines between lines stay as they are.

    Lines in which nothing has to be escaped are returned themselves.
    """
    if not lines.isascii():
        parts, start = list[bytes](), 0
        while start < len(lines):  # whole lines
            end = lines.find(b"\n", start + _PART_BYTES) + 1 or len(lines)
            part = lines[start:end]
            parts.append(part if part.isascii() else _in_ascii(part))
            start = end
        lines = b"".join(parts)
    for byte, escaped in _ESCAPES:
        if byte in lines:
            lines = lines.replace(byte, escaped)
    return lines


def _in_ascii(lines: bytes) -> bytes:
    r"""JSON with `\uXXXX` for every character outside ASCII. All of it is in C, so no text is worth a cache.

    Python writes `\xe9`, `\u20ac` and `\U0001f600`. The first is completed, the last is kept from coming up.
    Neither is JSON's own where no escaped backslash is left.
    """
    shielded = b"\\" in lines
    latin_1 = any(byte in lines for byte in _LATIN_1)
    high = any(byte in lines for byte in _ABOVE_16_BITS)
    text = (_replaced(lines, b"\\\\", _SHIELD) if shielded else lines).decode()
    if high:  # two surrogates, as JSON has them, in place of each character above U+FFFF
        units = np.frombuffer(text.encode("utf-16-le"), "<u2").astype("<u4")
        text = units.view(f"<U{len(units)}").item()
    lines = text.encode("ascii", "backslashreplace")
    if latin_1:
        lines = _replaced(lines, b"\\x", b"\\u00")
    return lines.replace(_SHIELD, b"\\\\") if shielded else lines


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """What `data.replace(old, new)` is, in half its time where `old` has two bytes."""
    buffers = [None, pa.py_buffer(np.array([0, len(data)])), pa.py_buffer(data)]
    whole = pa.Array.from_buffers(pa.large_binary(), 1, buffers)
    replaced: bytes = pc.replace_substring(whole, pattern=old, replacement=new)[0].as_py()
    return replaced
