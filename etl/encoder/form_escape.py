r"""JSON as a field of an urlencoded form.

It takes the fewest bytes that every form parser reads back unchanged. Percent-encoding every byte makes JSON
1.6 times as big. A form parser only takes `%`, `&`, `+` (and, in older ones, `;`) for something else, so
these and DEL are percent-encoded. A space is written `+`, as every browser does. Characters outside ASCII
become JSON's own `\uXXXX` escapes, which are never longer than their percent-encoded UTF-8.

What a form needs has no character that JSON escapes, and the other way round, so it is done first.
"""

from __future__ import annotations

from json.encoder import encode_basestring_ascii as quoted_ascii
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# In this order: a `%` is not escaped twice, and a `+` is a plus sign before it stands for a space.
_ESCAPES = (*((bytes([byte]), b"%%%02X" % byte) for byte in b"%&+;\x7f"), (b" ", b"+"))
# Parts of this many bytes stay in the processor's caches, and those that are ASCII cost nothing.
_PART_BYTES: Final = 1 << 16
# Stands for an escaped backslash meanwhile: no JSON text has this byte.
_SHIELD: Final = b"\x01"
_LATIN_1: Final = (b"\xc2", b"\xc3")  # with these bytes UTF-8 begins the characters U+0080 to U+00FF
_ABOVE_16_BITS: Final = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")  # and with these the ones above U+FFFF
# If half of so many texts of a column are repeated, each different one is escaped once.
_SAMPLED: Final = 256
# What a byte of a text adds to it, and who escapes it; both are known by the first byte of a character.
_ADDED, _IN_FORM, _IN_JSON = 0x0F, 0x10, 0x20
_OF_BYTES: Final = np.zeros(256, np.uint8)
_OF_BYTES[:0x20], _OF_BYTES[list(b'\b\t\n\f\r"\\')] = _IN_JSON | 5, _IN_JSON | 1
_OF_BYTES[0xC2:0xE0], _OF_BYTES[0xE0:0xF0], _OF_BYTES[0xF0:0xF5] = _IN_JSON | 4, _IN_JSON | 3, _IN_JSON | 8
_OF_BYTES[list(b"%&+;\x7f")], _OF_BYTES[ord(" ")] = _IN_FORM | 2, _IN_FORM
_MARKS: Final = _OF_BYTES.tobytes()
_ADDITIONS: Final = (_OF_BYTES & _ADDED).tobytes()


def are_ascii(texts: pa.StringArray) -> bool:
    """Whether no text has a character outside ASCII."""
    return _layout(texts)[1].isascii()


def escape_texts(texts: pa.StringArray) -> pa.LargeStringArray:
    """What stands between the quotes of each text as JSON in a form; null stays null."""
    ends, text = _layout(texts)
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
    ends, text = _layout(texts)
    added = np.frombuffer(text.translate(_ADDITIONS), np.uint8)
    if added.any():
        ends += np.concatenate([[0], added.cumsum(dtype=np.int32)], dtype=np.int64)[ends]
    return np.diff(ends)


def _layout(texts: pa.StringArray) -> tuple[NDArray[np.int64], bytes]:
    """Where each of n texts ends, behind a 0; and all of them in one."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return np.zeros(len(texts) + 1, np.int64), b""
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return np.subtract(ends, ends[0], dtype=np.int64), memoryview(data)[ends[0] : ends[-1]].tobytes()


def escape_text(text: str) -> str:
    """One text as JSON in a form, with its quotes."""
    return quoted_ascii(_in_form(text.encode()).decode())


def escape_lines(lines: bytes) -> bytes:
    r"""Escape UTF-8 JSON lines for a form; newlines between lines stay as they are.

    Lines in which nothing has to be escaped are returned themselves. All of it is in C: Python writes `\xe9`,
    `\u20ac` and `\U0001f600`. The first is completed, the last is kept from coming up. Neither is JSON's own
    where no escaped backslash is left.
    """
    lines = _in_form(lines)
    if lines.isascii():
        return lines
    parts, start = list[bytes](), 0
    while start < len(lines):  # whole lines
        end = lines.find(b"\n", start + _PART_BYTES) + 1 or len(lines)
        part = lines[start:end]
        start = end
        if not part.isascii():
            latin_1 = any(byte in part for byte in _LATIN_1)
            high = any(byte in part for byte in _ABOVE_16_BITS)
            text = part.replace(b"\\\\", _SHIELD).decode()
            if high:  # two surrogates, as JSON has them, in place of each character above U+FFFF
                units = np.frombuffer(text.encode("utf-16-le"), "<u2").astype("<u4")
                text = units.view(f"<U{len(units)}").item()
            part = text.encode("ascii", "backslashreplace")
            if latin_1:
                part = part.replace(b"\\x", b"\\u00")
            part = part.replace(_SHIELD, b"\\\\")
        parts.append(part)
    return b"".join(parts)


def _in_form(text: bytes) -> bytes:
    for byte, escaped in _ESCAPES:
        if byte in text:
            text = text.replace(byte, escaped)
    return text
