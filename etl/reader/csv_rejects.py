"""CSV records that are no rows: what is wrong with them, and everything that could be read of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from etl.arrow.originals import CSV_ORIGIN
from etl.model import Reject
from etl.reader.csv_block import Layout
from etl.reader.decoding import MARK, MARK_BYTES, marked
from etl.reader.grammar import BadLine
from etl.reader.pieces import Piece, shown
from etl.values import told_origin

EXTRA = "extra fields"


@dataclass(frozen=True, slots=True)
class CsvRejects:
    """Makes the rejects of one file."""

    source: str
    layout: Layout
    encoding: str

    @property
    def origin(self) -> str:
        """That of its rejects, where the name of the file doesn't say it."""
        return "" if told_origin(self.source) == CSV_ORIGIN else CSV_ORIGIN

    def ragged(self, row: int, text: str) -> Reject:
        """A record with more or fewer fields than the header."""
        names, fields = self.layout.names, self._fields(text.encode())
        written = self._written(text.encode()).decode().replace(MARK, "")
        count = f"{len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(names)}"
        values: dict[str, str | list[str]] = dict(zip(names, fields, strict=False))
        if len(fields) > len(names):
            values[self._extra()] = fields[len(names) :]
        return self._reject(row, "ragged", f"{count}: {shown(written)}", values)

    def bad_line(self, row: int, bad: BadLine, line: bytes, number: int) -> Reject:
        """A line that begins a record whose quotes are wrong; `number` is its number in the file.

        Its fields can't be told apart for sure, so the line is kept as it stands.
        """
        written = self._written(line)
        text = marked(written).replace(MARK_BYTES, b"").decode()
        reason = _reason(bad, number) + self._remedy(text)
        swallowed = bad.lines - 1
        if bad.fault == "stray":
            return self._reject(row, "stray_quote", reason, {"line": text}, swallowed)
        return self._reject(row, "unclosed_quote", reason, {"line": text}, swallowed)

    def repeated_header(self, row: int) -> Reject:
        """A record that has the header's names for values."""
        reason = "this record repeats the header, as happens where files are joined"
        return self._reject(
            row, "repeated_header", reason, dict(zip(self.layout.names, self.layout.header, strict=True))
        )

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
        return self._reject(row, "bad_encoding", reason, clean)

    def _remedy(self, line: str) -> str:
        """What to do where the line has backslashes before quotes, as Spark and MySQL write them."""
        grammar, escapes = self.layout.grammar, self.layout.escapes
        if escapes.escape or f"\\{grammar.quote}" not in line:
            return ""
        return f'; if \\{grammar.quote} stands for a quote, add `csv: {{escape: "\\\\"}}` to the job file'

    def _fields(self, record: bytes) -> list[str]:
        fields = self.layout.grammar.split(record.replace(MARK_BYTES, b""))
        meant = (self.layout.escapes.meant(field.encode()) for field in fields)
        return [self.layout.delimiter.written(field).decode() for field in meant]

    def _written(self, text: bytes) -> bytes:
        """What was read as the file has it."""
        return self.layout.delimiter.written(self.layout.escapes.written(text))

    def _reject(
        self,
        row: int,
        code: str,
        reason: str,
        values: dict[str, str] | dict[str, str | list[str]],
        swallowed: int = 0,
    ) -> Reject:
        text = orjson.dumps(values).decode()
        return Reject(self.source, row, code, reason, text, swallowed, origin=self.origin)

    def _extra(self) -> str:
        name = EXTRA
        while name in self.layout.names:
            name += "_"
        return name


def _reason(bad: BadLine, number: int) -> str:
    """What is wrong, and what becomes of the other lines that the record would have spanned."""
    last = number + bad.lines - 1
    where = f"line {number}" if bad.lines == 1 else f"lines {number} to {last} ({bad.lines:,} lines)"
    what = "text follows a closing quote" if bad.fault == "stray" else "a quote is never closed"
    if bad.lines == 1:
        return f"{what}, {where}"
    rest = "the line after it is" if bad.lines == 2 else "the lines after it are"
    return f"{what}, so the record would span {where}; its first line is rejected, and {rest} read as records"
