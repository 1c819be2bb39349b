r"""JSON text as the value of a form field: the fewest bytes that every form parser reads back unchanged.

Percent-encoding every byte of JSON makes it 1.6 times as big. A form parser only takes `%`, `&`, `+` (and,
in older ones, `;`) for something else, so these and DEL are percent-encoded. A space is written `+`, as every
browser does. Characters outside ASCII become JSON's own `\uXXXX` escapes, which are never longer than their
percent-encoded UTF-8.
"""

from __future__ import annotations

import codecs
import json
from functools import lru_cache

# In this order: a `%` is not escaped twice, and a `+` is a plus sign before it stands for a space.
_ESCAPES = (*((bytes([byte]), b"%%%02X" % byte) for byte in b"%&+;\x7f"), (b" ", b"+"))


def form_escape(lines: bytes) -> bytes:
    """Escape UTF-8 JSON lines for an urlencoded form; newlines between lines stay as they are.

    Lines in which nothing has to be escaped are returned themselves.
    """
    if not lines.isascii():
        lines = lines.decode().encode("ascii", "json_escape")
    for byte, escaped in _ESCAPES:
        if byte in lines:
            lines = lines.replace(byte, escaped)
    return lines


@lru_cache(maxsize=65_536)
def _escaped(run: str) -> str:
    return json.dumps(run)[1:-1]


def _json_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return _escaped(error.object[error.start : error.end]), error.end


codecs.register_error("json_escape", _json_escape)
