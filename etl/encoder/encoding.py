r"""Encodes identifications as JSON lines in one buffer: for a form of the Identify API, or as events.

A form takes the fewest bytes that every form parser reads back unchanged. Percent-encoding every byte
makes JSON 1.6 times as big. A form parser only takes `%`, `&`, `+` (and, in older ones, `;`) for something
else, so these and DEL are percent-encoded. A space is written `+`, as every browser does. Characters outside
ASCII become JSON's own `\uXXXX` escapes, which are never longer than their percent-encoded UTF-8.

A retry and a resumed run give an event the same insert_id, and no other event has it. It has 64 hex digits:
the run (32), the file (6) and row (10) where the event ends, and a hash of the line (16). The place differs
within a run, and the run id between runs.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from json.encoder import encode_basestring_ascii as quoted_ascii
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.requests import IDENTIFY_EVENT
from ..arrow.json_text import Splice, json_lines, line_ends, may_be_marked
from ..arrow.layout import text_layout, valid_mask
from ..model import Body
from ..subject import LENGTH_FACTOR, LOW_BYTE_MASKS, WORD_FACTOR, mix_bits

_START: Final = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Lines:
    """k JSON objects, each followed by a comma: line i is `buffer[ends[i] : ends[i + 1]]`, comma included.

    `ends` (int64, shape (k + 1,)) begins with 0 for all lines of the buffer.
    """

    buffer: memoryview
    ends: NDArray[np.int64]

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each line, its comma included; shape (k,)."""
        return np.diff(self.ends)

    @property
    def text(self) -> memoryview:
        """All lines, not copied."""
        return self.buffer[self.ends[0] : self.ends[-1]]

    def __getitem__(self, lines: slice) -> Lines:
        """Some of the lines, not copied."""
        return Lines(self.buffer, self.ends[lines.start : lines.stop + 1])


def array_body(parts: Sequence[memoryview]) -> Body:
    """A JSON array of the lines in `parts` (at least one), not copied."""
    *before, last = parts
    return (b"[", *before, last[:-1], b"]")


@dataclass(frozen=True, slots=True)
class FormEncoding:
    """JSON as the field of a urlencoded form. `splice` makes marked strings what they stand for.

    With `sizes_only` lines are as long as they would be, but have only zeros in them.
    """

    splice: Splice | None = None
    sizes_only: bool = False

    def write(self, identifications: pa.RecordBatch, file: int, numbers: NDArray[np.int64]) -> Lines:
        """Write k identifications, whose file and rows don't show; each line depends on its own row alone."""
        if not identifications.num_rows:
            return Lines(memoryview(b""), _START)
        if self.sizes_only:
            ends = np.concatenate([_START, form_sizes(identifications, self.splice).cumsum()])
            return Lines(np.broadcast_to(np.uint8(0), int(ends[-1])).data, ends)  # takes no memory
        objects = form_objects(identifications, self.splice)
        _, offsets, text = objects.buffers()
        ends = np.frombuffer(offsets, np.int64)[: len(objects) + 1]
        return Lines(memoryview(text)[: ends[-1]], ends)


@dataclass(frozen=True, slots=True)
class EventEncoding:
    """Plain JSON of `$identify` events of the run `run_id` (32 hex digits)."""

    run_id: str
    splice: Splice | None = None

    def write(self, identifications: pa.RecordBatch, file: int, numbers: NDArray[np.int64]) -> Lines:
        """Write k events of file number `file`, with insert_ids; `numbers` are the rows they end at.

        No byte of an event depends on other events.
        """
        text = json_lines(identifications, splice=self.splice)
        lines = Lines(memoryview(text.replace(b"\n", b",")), line_ends(text))
        if not len(numbers):
            return lines
        places = numbers.astype(np.uint64) | np.uint64(file << _ROW_BITS)
        big_endian = np.stack([places, hash_lines(lines)], axis=1).astype(">u8").view(np.uint8)
        digits = _PAIRS[big_endian].view(np.uint8)  # 16 of each of the two; shape (k, 32)
        before, after = (np.frombuffer(part, np.uint8) for part in (_BEFORE + self.run_id.encode(), _AFTER))
        spread = [np.broadcast_to(part, (len(numbers), len(part))) for part in (before, after)]
        heads = np.concatenate([spread[0], digits, spread[1]], axis=1)  # go behind the brace of each line
        moved = np.arange(len(numbers) + 1) * heads.shape[1]
        # Every line begins with a brace. Taken from behind it, a line ends with the brace of the next one; so
        # heads go between lines, and only the first brace and the last end are an exception.
        ends = np.append(lines.ends[:-1], lines.ends[-1] - 1)
        parts = _binaries(moved, heads), _binaries(ends, lines.buffer[1:]), pa.scalar(b"", pa.large_binary())
        tail = memoryview(pc.binary_join_element_wise(*parts).buffers()[2])[: ends[-1] + moved[-1]]
        return Lines(memoryview(b"".join([b"{", tail])), lines.ends + moved)


Encoding: TypeAlias = FormEncoding | EventEncoding


# --- events ----------------------------------------------------------------------------------------------

_BEFORE: Final = f'"event_type":"{IDENTIFY_EVENT}","insert_id":"'.encode()
_AFTER: Final = b'",'
_ROW_BITS: Final = 40
_PAIRS: Final = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), dtype=np.uint16)
_HALF: Final = np.uint64(32)


def hash_lines(lines: Lines) -> NDArray[np.uint64]:
    """Hash each line to 64 bits; shape (k,)."""
    data = np.concatenate([np.frombuffer(lines.buffer, np.uint8), np.zeros(8, np.uint8)])
    words = np.ndarray(len(data) - 7, "<u8", data, strides=1)  # that begin at each byte
    starts, sizes = lines.ends[:-1], lines.sizes()
    hashed = sizes.astype(np.uint64) * LENGTH_FACTOR
    whole = int(sizes.min()) // 8 * 8
    for done in range(0, int(sizes.max()), 8):
        rows = slice(None) if done < whole else np.flatnonzero(sizes > done)
        word = words[starts[rows] + done]
        if done >= whole:
            word &= LOW_BYTE_MASKS[np.minimum(sizes[rows] - done, 8)]
        mixed = (hashed[rows] ^ word) * WORD_FACTOR
        hashed[rows] = mixed ^ (mixed >> _HALF)
    return mix_bits(hashed)


def _binaries(ends: NDArray[np.int64], data: bytes | memoryview | NDArray[np.uint8]) -> pa.Array:
    """Pieces of data as an Arrow array, without a copy."""
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)


# --- forms, put together column by column ----------------------------------------------------------------
#
# There is far more JSON than text in which anything has to be escaped. So texts are escaped by themselves,
# and joined with what stands between them. What is not text, such as numbers, the JSON writer writes.

# What each row has at a place: a text of its own, or the same text in all rows.
_Piece: TypeAlias = str | pa.LargeStringArray
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

    members: list[list[_Piece]] = []
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


def _member(name: str, values: pa.Array, splice: Splice | None) -> list[_Piece]:
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
    members = pc.binary_slice(_binaries(ends, lines), _BRACE, -_BRACE_AND_NEWLINE).view(_TEXT)
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


# --- characters that a form parser would misread ---------------------------------------------------------
#
# They are escaped first; no escape of a form has a character that JSON escapes, nor the other way round.

# In this order: a `%` is not escaped twice, and a `+` is a plus sign before it stands for a space.
_ESCAPES = (*((bytes([byte]), b"%%%02X" % byte) for byte in b"%&+;\x7f"), (b" ", b"+"))
# If half of so many texts of a column are repeated, each different one is escaped once.
_SAMPLED: Final = 256
# How many bytes the escape of a byte adds, and which escape it has; by the first byte of a character.
_ADDED, _IN_FORM, _IN_JSON = 0x0F, 0x10, 0x20
_OF_BYTES: Final = np.zeros(256, np.uint8)
_OF_BYTES[:0x20], _OF_BYTES[list(b'\b\t\n\f\r"\\')] = _IN_JSON | 5, _IN_JSON | 1
_OF_BYTES[0xC2:0xE0], _OF_BYTES[0xE0:0xF0], _OF_BYTES[0xF0:0xF5] = _IN_JSON | 4, _IN_JSON | 3, _IN_JSON | 8
_OF_BYTES[list(b"%&+;\x7f")], _OF_BYTES[ord(" ")] = _IN_FORM | 2, _IN_FORM
_MARKS: Final = _OF_BYTES.tobytes()
_AS_JSON: Final = "propsync.json"  # how Python is to encode what is outside ASCII
_ADDITIONS: Final = (_OF_BYTES & _ADDED).tobytes()


def escape_texts(texts: pa.StringArray) -> pa.LargeStringArray:
    """Each text as JSON in a form, without its quotes; null stays null."""
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
