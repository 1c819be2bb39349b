"""Identifications to form-escaped JSON lines in one buffer, with the place where each line ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.encoder.form import form_escape
from etl.json_lines import json_lines

Splice = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Lines:
    """k JSON objects, each followed by a comma; `ends` (int64, shape (k + 1,)) begins with 0.

    Line i is `buffer[ends[i] : ends[i + 1]]`, the comma included.
    """

    buffer: bytes
    ends: NDArray[np.int64]

    def sizes(self) -> NDArray[np.int64]:
        """Bytes of each line, its comma included; shape (k,)."""
        return np.diff(self.ends)

    def part(self, start: int, stop: int) -> bytes:
        """Lines `start` to `stop - 1`."""
        return self.buffer[self.ends[start] : self.ends[stop]]


def write_lines(identifications: pa.RecordBatch, splice: Splice | None = None) -> Lines:
    """Write a record batch as JSON; nulls are left out. `splice` is applied to the JSON lines first."""
    if identifications.num_rows == 0:
        return Lines(b"", np.zeros(1, dtype=np.int64))
    text = json_lines(identifications)
    escaped = bytearray(form_escape(splice(text) if splice else text))
    letters = np.frombuffer(escaped, dtype=np.uint8)
    newlines = np.flatnonzero(letters == ord("\n"))
    letters[newlines] = ord(",")
    return Lines(bytes(escaped), np.concatenate([[0], newlines + 1]))


def array_body(*parts: bytes) -> bytes:
    """A JSON array of the lines in `parts`, as it goes into the form field."""
    return b"[" + b"".join(parts)[:-1] + b"]"
