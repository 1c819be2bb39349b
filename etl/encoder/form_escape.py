r"""JSON as a field of an urlencoded form.

It takes the fewest bytes that every form parser reads back unchanged. Percent-encoding every byte makes JSON
1.6 times as big. A form parser only takes `%`, `&`, `+` (and, in older ones, `;`) for something else, so
these and DEL are percent-encoded. A space is written `+`, as every browser does. Characters outside ASCII
become JSON's own `\uXXXX` escapes, which are never longer than their percent-encoded UTF-8.

What a form needs has no character that JSON escapes, and the other way round, so it is done first.
"""

from __future__ import annotations

import codecs
from json.encoder import encode_basestring_ascii as quoted_ascii
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..arrow.layout import text_layout

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
