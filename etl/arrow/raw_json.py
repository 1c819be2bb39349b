"""JSON text on its way through string columns: marked there, and made part of the JSON lines again.

Arrow columns have one type, a JSON value may be anything. Its text travels between two marks, which are
drawn at random in each process, so that no source can forge them.
"""

from __future__ import annotations

import secrets
from typing import Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from etl.json_lines import json_texts

_OPEN: Final = f"\x00{secrets.token_hex(8)}("
_CLOSE: Final = f"){secrets.token_hex(8)}\x00"
_OPENED: Final = orjson.dumps(_OPEN)[:-1]
_CLOSED: Final = orjson.dumps(_CLOSE)[1:]


def mark(texts: pa.Array) -> pa.Array:
    """JSON texts as strings that `splice_json` recognizes; null stays null."""
    return pc.binary_join_element_wise(_OPEN, texts, _CLOSE, "")


def mark_one(text: str) -> str:
    """One JSON text as a string that `splice_json` recognizes."""
    return f"{_OPEN}{text}{_CLOSE}"


def without_marks(texts: pa.Array) -> pa.Array:
    """Strings in which marked JSON texts stand as text."""
    return pc.replace_substring(pc.replace_substring(texts, _OPEN, ""), _CLOSE, "")


def marked(values: pa.Array) -> pa.Array:
    """Values of any type as strings: text as it is, everything else as its marked JSON."""
    return values if pa.types.is_string(values.type) else mark(json_texts(values))


def unmarked(text: str) -> str | None:
    """The JSON text in a marked string; None where the string isn't marked."""
    return text[len(_OPEN) : -len(_CLOSE)] if text.startswith(_OPEN) and text.endswith(_CLOSE) else None


def splice_json(lines: bytes) -> bytes:
    """JSON lines in which every marked string has become the JSON value that it holds."""
    head, *tail = lines.split(_OPENED)
    parts = [head]
    for piece in tail:
        escaped, rest = piece.split(_CLOSED, 1)
        plain = b"\\" not in escaped
        parts += [escaped if plain else orjson.loads(b'"%b"' % escaped).encode(), rest]
    return b"".join(parts) if tail else lines
