"""CSV records that are no rows: what is wrong with them, and everything that could be read of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from etl.model import Reject
from etl.reader.decoding import MARK, MARK_BYTES, marked
from etl.reader.grammar import Grammar
from etl.reader.pieces import Piece, shown

EXTRA = "extra fields"


@dataclass(frozen=True, slots=True)
class CsvRejects:
    """Makes the rejects of one file. `names` are the header's."""

    source: str
    names: list[str]
    grammar: Grammar
    encoding: str

    def ragged(self, row: int, text: str) -> Reject:
        """A record with more or fewer fields than the header."""
        count = len(self.grammar.split(text.encode()))
        fields = f"{count} field{'s' * (count != 1)} where the header has {len(self.names)}"
        return self._reject(row, "ragged", f"{fields}: {shown(text.replace(MARK, ''))}", text.encode())

    def unclosed(self, row: int, tail: bytes) -> Reject:
        """The record at the end of a file that ends inside quotes."""
        lines = len(tail.splitlines())
        reason = f"a quote is never closed, so all {lines} lines to the file's end belong to this row"
        return self._reject(row, "unclosed_quote", reason, marked(tail))

    def badly_encoded(self, piece: Piece) -> list[Reject]:
        """Those good rows of the piece that have marked bytes in them."""
        bad = np.zeros(piece.rows.num_rows, dtype=np.bool_)
        for column in piece.rows.columns:
            bad |= pc.match_substring(column, MARK).to_numpy(zero_copy_only=False)
        rows = piece.rows.filter(pa.array(bad)).to_pylist()
        return [self._bad(int(row), values) for row, values in zip(piece.numbers[bad], rows, strict=True)]

    def _bad(self, row: int, values: dict[str, str]) -> Reject:
        name = next(name for name, value in values.items() if MARK in value)
        clean = {name: value.replace(MARK, "") for name, value in values.items()}
        reason = f"column {name}: {shown(clean[name])} is not {self.encoding}; say the file's encoding"
        return Reject(self.source, row, "bad_encoding", reason, orjson.dumps(clean).decode())

    def _reject(self, row: int, code: str, reason: str, record: bytes) -> Reject:
        fields = self.grammar.split(record.replace(MARK_BYTES, b""))
        values: dict[str, str | list[str]] = dict(zip(self.names, fields, strict=False))
        if len(fields) > len(self.names):
            values[self._extra()] = fields[len(self.names) :]
        return Reject(self.source, row, code, reason, orjson.dumps(values).decode())

    def _extra(self) -> str:
        name = EXTRA
        while name in self.names:
            name += "_"
        return name
