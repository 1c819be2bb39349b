"""Identifications to JSON lines in one buffer, with the place where each line ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.json_lines import Splice, json_lines
from ..model import Body

_AT_ONCE: Final = 1 << 20
_START: Final = np.zeros(1, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Lines:
    """k JSON objects, each followed by a comma; `ends` (int64, shape (k + 1,)) begins with 0.

    Line i is `buffer[ends[i] : ends[i + 1]]`, the comma included.
    """

    buffer: memoryview
    ends: NDArray[np.int64]

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each line, its comma included; shape (k,)."""
        return np.diff(self.ends)

    def part(self, start: int, stop: int) -> memoryview:
        """Lines `start` to `stop - 1`, not copied."""
        return self.buffer[self.ends[start] : self.ends[stop]]


def write_lines(identifications: pa.RecordBatch, *rewrites: Splice) -> Lines:
    """Write a record batch as JSON; nulls are left out. `rewrites` change the text, but not its newlines."""
    text = json_lines(identifications)
    for rewrite in rewrites:
        text = rewrite(text)
    return Lines(memoryview(text.replace(b"\n", b",")), np.concatenate([_START, *_ends(text)]))


def array_body(parts: Sequence[memoryview]) -> Body:
    """A JSON array of the lines in `parts` (at least one), not copied."""
    *before, last = parts
    return (b"[", *before, last[:-1], b"]")


def _ends(text: bytes) -> Iterator[NDArray[np.int64]]:
    """Where lines end, in order; piece by piece, since looking takes as much memory as what is looked at."""
    letters = np.frombuffer(text, dtype=np.uint8)
    for start in range(0, len(letters), _AT_ONCE):
        yield np.flatnonzero(letters[start : start + _AT_ONCE] == ord("\n")) + (start + 1)


class Encoding(Protocol):
    """Writes identifications as lines; each line depends on its own row alone.

    `splice` is applied to the JSON lines first.
    """

    @property
    def splice(self) -> Splice | None:
        """What makes JSON lines of marked strings what they stand for."""

    def write(self, identifications: pa.RecordBatch, file: int, numbers: NDArray[np.int64]) -> Lines:
        """Write k identifications of file number `file`; `numbers` (shape (k,)) are the rows they end at."""
