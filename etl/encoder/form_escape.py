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

# In this order: a `%` is not escaped twice, and a `+` is a plus sign before it stands for a space.
_ESCAPES = (*((bytes([byte]), b"%%%02X" % byte) for byte in b"%&+;\x7f"), (b" ", b"+"))
# Parts of this many bytes stay in the processor's caches, and those that are ASCII cost nothing.
_PART_BYTES: Final = 1 << 16
# Stands for an escaped backslash meanwhile: no JSON text has this character.
_SHIELD: Final = "\x01"
# What JSON's own characters and white space become if JSON is escaped as if it were a text.
_OVERDONE: Final = {r"\\": _SHIELD, r"\"": '"', r"\n": "\n", r"\t": "\t", r"\r": "\r", _SHIELD: "\\"}
# If half of so many texts of a column are repeated, each different one is escaped once.
_SAMPLED: Final = 256
# What a byte of a text adds to it, and who escapes it; both are known by the first byte of a character.
_ADDED, _IN_FORM, _IN_JSON = 0x0F, 0x10, 0x20


def _marks() -> bytes:
    marks = np.zeros(256, np.uint8)
    marks[:0x20], marks[list(b'\b\t\n\f\r"\\')] = _IN_JSON | 5, _IN_JSON | 1
    marks[0xC2:0xE0], marks[0xE0:0xF0], marks[0xF0:0xF5] = _IN_JSON | 4, _IN_JSON | 3, _IN_JSON | 8
    marks[list(b"%&+;\x7f")], marks[ord(" ")] = _IN_FORM | 2, _IN_FORM
    return marks.tobytes()


_MARKS: Final = _marks()


def escape_texts(texts: pa.StringArray) -> pa.LargeStringArray:
    """What stands between the quotes of each text as JSON in a form; null stays null."""
    _, offsets, data = texts.buffers()
    if not len(texts) or data is None:
        return texts.cast(pa.large_string())
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    raw = memoryview(data)[ends[0] : ends[-1]].tobytes()
    marks = np.frombuffer(raw.translate(_MARKS), np.uint8)
    if found := int(np.bitwise_or.reduce(marks)):
        if len(texts) > _SAMPLED and len(texts[:_SAMPLED].unique()) < _SAMPLED / 2:
            encoded = texts.dictionary_encode()
            return escape_texts(encoded.dictionary).take(encoded.indices)
        ends -= ends[0]
        ends += np.concatenate([[0], (marks & _ADDED).cumsum(dtype=np.int32)], dtype=np.int64)[ends]
        data = _in_form(raw)
        if found & _IN_JSON:
            data = quoted_ascii(data.decode())[1:-1].encode()
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
    escaped = pa.Array.from_buffers(pa.large_string(), len(texts), buffers)
    return pc.if_else(texts.is_valid(), escaped, None) if texts.null_count else escaped


def escape_text(text: str) -> str:
    """One text as JSON in a form, with its quotes."""
    return quoted_ascii(_in_form(text.encode()).decode())


def escape_lines(lines: bytes) -> bytes:
    """Escape UTF-8 JSON lines for a form; newlines between lines stay as they are.

    Lines in which nothing has to be escaped are returned themselves.
    """
    lines = _in_form(lines)
    if lines.isascii():
        return lines
    parts, start = list[bytes](), 0
    while start < len(lines):  # whole lines
        end = lines.find(b"\n", start + _PART_BYTES) + 1 or len(lines)
        part = lines[start:end]
        parts.append(part if part.isascii() else _in_ascii(part))
        start = end
    return b"".join(parts)


def _in_form(text: bytes) -> bytes:
    for byte, escaped in _ESCAPES:
        if byte in text:
            text = text.replace(byte, escaped)
    return text


def _in_ascii(lines: bytes) -> bytes:
    r"""JSON with `\uXXXX` for every character outside ASCII."""
    text = quoted_ascii(lines.decode())[1:-1]
    for overdone, own in _OVERDONE.items():
        text = text.replace(overdone, own)
    return text.encode()
