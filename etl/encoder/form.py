r"""JSON text as the value of a form field: the fewest bytes that every form parser reads back unchanged.

Percent-encoding every byte of JSON makes it 1.6 times as big. A form parser only takes `%`, `&`, `+` (and,
in older ones, `;`) for something else, so these and DEL are percent-encoded. A space is written `+`, as every
browser does. Characters outside ASCII become JSON's own `\uXXXX` escapes, which are never longer than their
percent-encoded UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..arrow.json_lines import Splice
from .lines import Lines, write_lines

# In this order: a `%` is not escaped twice, and a `+` is a plus sign before it stands for a space.
_ESCAPES = (*((bytes([byte]), b"%%%02X" % byte) for byte in b"%&+;\x7f"), (b" ", b"+"))
# Parts of this many bytes stay in the processor's caches, and those that are ASCII cost nothing.
_AT_ONCE: Final = 1 << 16
# Stands for an escaped backslash meanwhile: no JSON text has this byte.
_SHIELD: Final = b"\x01"
_LATIN_1: Final = (b"\xc2", b"\xc3")  # with these bytes UTF-8 begins the characters U+0080 to U+00FF
_ABOVE_16_BITS: Final = (b"\xf0", b"\xf1", b"\xf2", b"\xf3", b"\xf4")  # and with these the ones above U+FFFF


@dataclass(frozen=True, slots=True)
class FormEncoding:
    """JSON as the field of a urlencoded form. `splice` is applied to the JSON lines first."""

    splice: Splice | None = None

    def write(self, identifications: pa.RecordBatch, file: int, numbers: NDArray[np.int64]) -> Lines:
        """Write identifications; their file and rows don't show."""
        splices = [self.splice] if self.splice else []
        return write_lines(identifications, *splices, form_escape)


def form_escape(lines: bytes) -> bytes:
    """Escape UTF-8 JSON lines for an urlencoded form; newlines between lines stay as they are.

    Lines in which nothing has to be escaped are returned themselves.
    """
    if not lines.isascii():
        lines = b"".join(part if part.isascii() else _in_ascii(part) for part in _parts(lines))
    for byte, escaped in _ESCAPES:
        if byte in lines:
            lines = lines.replace(byte, escaped)
    return lines


def _parts(lines: bytes) -> Iterator[bytes]:
    """Whole lines of about `_AT_ONCE` bytes together."""
    start = 0
    while start < len(lines):
        end = lines.find(b"\n", start + _AT_ONCE) + 1 or len(lines)
        yield lines[start:end]
        start = end


def _in_ascii(lines: bytes) -> bytes:
    r"""JSON with `\uXXXX` for every character outside ASCII. All of it is in C, so no text is worth a cache.

    Python writes `\xe9`, `\u20ac` and `\U0001f600`. The first is completed, the last is kept from coming up.
    Neither is JSON's own where no escaped backslash is left.
    """
    shielded = b"\\" in lines
    latin_1 = any(byte in lines for byte in _LATIN_1)
    high = any(byte in lines for byte in _ABOVE_16_BITS)
    text = (_replaced(lines, b"\\\\", _SHIELD) if shielded else lines).decode()
    lines = (_with_surrogates(text) if high else text).encode("ascii", "backslashreplace")
    if latin_1:
        lines = _replaced(lines, b"\\x", b"\\u00")
    return lines.replace(_SHIELD, b"\\\\") if shielded else lines


def _with_surrogates(text: str) -> str:
    """The text with two surrogates, as JSON has them, in place of each character above U+FFFF."""
    units = np.frombuffer(text.encode("utf-16-le"), "<u2").astype("<u4")
    found: str = units.view(f"<U{len(units)}").item()
    return found


def _replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    """What `data.replace(old, new)` is, in half its time where `old` has two bytes."""
    buffers = [None, pa.py_buffer(np.array([0, len(data)])), pa.py_buffer(data)]
    whole = pa.Array.from_buffers(pa.large_binary(), 1, buffers)
    replaced: bytes = pc.replace_substring(whole, pattern=old, replacement=new)[0].as_py()
    return replaced
