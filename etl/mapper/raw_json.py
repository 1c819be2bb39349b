"""JSON text on its way through string columns: marked there, and made part of the JSON lines again.

Arrow columns have one type, a json value may be anything. Its text travels between two marks, which are
drawn at random in each process, so that no source can forge them.
"""

from __future__ import annotations

import secrets
from typing import Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from etl.mapper.cells import as_mask
from etl.mapper.lists import Opened, open_lists

_OPEN: Final = f"\x00{secrets.token_hex(8)}("
_CLOSE: Final = f"){secrets.token_hex(8)}\x00"
_OPENED: Final = orjson.dumps(_OPEN)[:-1]
_CLOSED: Final = orjson.dumps(_CLOSE)[1:]


def mark(texts: pa.Array) -> pa.Array:
    """JSON texts as strings that `splice_json` recognizes; null stays null."""
    return pc.binary_join_element_wise(_OPEN, texts, _CLOSE, "")


def mark_elements(texts: pa.Array) -> pa.Array:
    """JSON texts as lists of marked strings: those of arrays by element, any other as a list of one."""
    lists = [None if text is None else _elements(text) for text in texts.to_pylist()]
    array = pa.array(lists, pa.list_(pa.string()))
    opened: Opened = open_lists(array)
    return opened.rebuilt(mark(opened.flat), keep=as_mask(opened.flat.is_valid()))


def splice_json(lines: bytes) -> bytes:
    """JSON lines in which every marked string has become the JSON value that it holds."""
    head, *tail = lines.split(_OPENED)
    parts = [head]
    for piece in tail:
        escaped, rest = piece.split(_CLOSED, 1)
        parts += [orjson.loads(b'"%b"' % escaped).encode(), rest]
    return b"".join(parts)


def _elements(text: str) -> list[str]:
    value = orjson.loads(text)
    return [orjson.dumps(element).decode() for element in (value if isinstance(value, list) else [value])]
