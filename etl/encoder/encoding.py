"""Identifications to JSON lines in one buffer: for a form as the Identify API takes it, or as events.

Events: a resend and a resumed run give an event the same insert_id, and no other event has it. It has 64 hex
digits: the run (32), the file (6) and row (10) where the event ends, and a hash of the line (16). By the
place no two of a run are the same, and by the run none of two runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..amplitude.requests import IDENTIFY_EVENT
from ..arrow.json_text import Splice, json_lines, line_ends
from ..model import Body
from ..subject import LENGTH_FACTOR, LOW_BYTE_MASKS, WORD_FACTOR, mix_bits
from .form import form_objects, form_sizes

_START: Final = np.zeros(1, dtype=np.int64)

_BEFORE: Final = f'"event_type":"{IDENTIFY_EVENT}","insert_id":"'.encode()
_AFTER: Final = b'",'
_ROW_BITS: Final = 40
_PAIRS: Final = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), dtype=np.uint16)
_HALF: Final = np.uint64(32)


@dataclass(frozen=True, slots=True)
class Lines:
    """k JSON objects, each followed by a comma: line i is `buffer[ends[i] : ends[i + 1]]`, comma included.

    `ends` (int64, shape (k + 1,)) begins with 0 where all lines of the buffer are meant.
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


# --- forms ----------------------------------------------------------------------------------------------


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


# --- events ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EventEncoding:
    """Plain JSON of `$identify` events of the run `run_id` (32 hex digits)."""

    run_id: str
    splice: Splice | None = None

    def write(self, identifications: pa.RecordBatch, file: int, numbers: NDArray[np.int64]) -> Lines:
        """Write k events of file number `file`, with insert_ids; `numbers` are the rows they end at.

        None of an event depends on what other events there are.
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


def _binaries(ends: NDArray[np.int64], data: memoryview | NDArray[np.uint8]) -> pa.Array:
    """Pieces of data as an Arrow array, without a copy."""
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(ends) - 1, buffers)
