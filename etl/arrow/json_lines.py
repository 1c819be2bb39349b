"""Record batches as JSON lines, and JSON text that travels through string columns into these lines.

Arrow columns have one type, a JSON value may have any. So JSON text travels between two marks, which are
drawn at random in each process, so that no source can forge them; `splice_json` puts it into the lines.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from arro3.io import write_ndjson
from numpy.typing import NDArray

from .exact_json import is_json
from .layout import FlatLists, is_list

# Changes the text of JSON lines, but not where they end: for example, puts in what Arrow has no type for.
Splice: TypeAlias = Callable[[bytes], bytes]

# Looking for newlines takes as much memory as what is looked at, so it is done in parts of this many bytes.
_AT_ONCE: Final = 1 << 20
_START: Final = np.zeros(1, dtype=np.int64)
_OPEN: Final = f"\x00{secrets.token_hex(8)}("
_CLOSE: Final = f"){secrets.token_hex(8)}\x00"
_OPEN_IN_JSON: Final = orjson.dumps(_OPEN)[:-1]
_CLOSE_IN_JSON: Final = orjson.dumps(_CLOSE)[1:]


def json_lines(rows: pa.RecordBatch, *, explicit_nulls: bool = False, splice: Splice | None = None) -> bytes:
    """Return a JSON object and a newline for each row; nulls are left out unless `explicit_nulls`."""
    stream = io.BytesIO()
    if rows.num_rows:
        columns = list(map(_rebuilt, rows.columns))
        rows = pa.RecordBatch.from_arrays(columns, names=rows.schema.names) if columns else rows
        write_ndjson(rows, stream, explicit_nulls=explicit_nulls)
    return splice(stream.getvalue()) if splice else stream.getvalue()


def line_ends(lines: bytes) -> NDArray[np.int64]:
    """Where n lines end, behind their newlines; shape (n + 1,), it begins with 0."""
    letters = np.frombuffer(lines, dtype=np.uint8)
    starts = range(0, len(letters), _AT_ONCE)
    ends = [np.flatnonzero(letters[at : at + _AT_ONCE] == ord("\n")) + (at + 1) for at in starts]
    return np.concatenate([_START, *ends])


def json_texts(values: pa.Array) -> pa.Array:
    """Write each value as JSON text, shape (n,), with marked JSON in it; null stays null.

    Costs a Python object a row.
    """
    lines = json_lines(pa.record_batch([values], names=["v"]), splice=splice_json)
    # A line is {"v":...}, or {} for a null.
    texts = [line[5:-1] or None for line in lines.split(b"\n")[:-1]]
    return pa.array(texts, pa.binary()).cast(pa.string())


def _rebuilt(column: pa.Array) -> pa.Array:
    """The same values; structs are built anew from their fields, which aren't copied.

    arro3 (seen in 0.9) applies the offset of a struct within a struct twice, and reads past its end.
    """
    if not pa.types.is_struct(column.type) or not column.type.num_fields:
        return column
    fields = [_rebuilt(column.field(number)) for number in range(column.type.num_fields)]
    nulls = column.is_null() if column.null_count else None
    return pa.StructArray.from_arrays(fields, fields=list(column.type), mask=nulls)


def mark_json(texts: pa.Array) -> pa.Array:
    """Mark JSON texts for `splice_json`; null stays null."""
    return pc.binary_join_element_wise(_OPEN, texts, _CLOSE, "")


def mark_json_text(text: str) -> str:
    """Mark one JSON text for `splice_json`."""
    return f"{_OPEN}{text}{_CLOSE}"


def strip_marks(texts: pa.Array) -> pa.Array:
    """Remove the marks, so that marked JSON becomes plain text."""
    return pc.replace_substring(pc.replace_substring(texts, _OPEN, ""), _CLOSE, "")


def as_marked_text(values: pa.Array) -> pa.Array:
    """Write values of any type as strings: text as it is, everything else as its marked JSON."""
    if is_json(values.type):
        return mark_json(values.storage)
    return values if pa.types.is_string(values.type) else mark_json(json_texts(values))


def as_marked_lists(values: pa.Array) -> pa.Array:
    """Write lists of any type as lists of strings: text as it is, other elements as their marked JSON."""
    lists = FlatLists.of(values)
    return lists.rebuild(as_marked_text(lists.elements))


def concat_values(arrays: Sequence[pa.Array]) -> pa.Array:
    """Arrays one behind the other, at least one of them; those of several types as marked text.

    Where all are lists, the result is lists of marked text.
    """
    if any(values.type != arrays[0].type for values in arrays):
        lists = all(is_list(values.type) for values in arrays)
        arrays = list(map(as_marked_lists if lists else as_marked_text, arrays))
    return pa.concat_arrays(arrays)


def may_be_marked(texts: pa.Array) -> bool:
    """Whether one of them can stand for other JSON than a string: marks have a NUL in them."""
    return bool(pc.any(pc.match_substring(texts, "\x00")).as_py())


def unmark_json(text: str) -> str | None:
    """Return the JSON text in a marked string; None if the string isn't marked."""
    return text[len(_OPEN) : -len(_CLOSE)] if text.startswith(_OPEN) and text.endswith(_CLOSE) else None


def splice_json(lines: bytes) -> bytes:
    """Replace every marked string in JSON lines by the JSON value that it holds."""
    head, *tail = lines.split(_OPEN_IN_JSON)
    parts = [head]
    for piece in tail:
        escaped, rest = piece.split(_CLOSE_IN_JSON, 1)
        plain = b"\\" not in escaped
        parts += [escaped if plain else orjson.loads(b'"%b"' % escaped).encode(), rest]
    return b"".join(parts) if tail else lines
