"""CSV: every record of the file is a row of strings or a reject, whatever stands in it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

import pyarrow as pa

from etl.errors import SourceError
from etl.model import Format, Reject
from etl.reader.csv_block import Parsed, parse
from etl.reader.csv_header import checked, column_names, grammar_of, take_header
from etl.reader.csv_rejects import CsvRejects
from etl.reader.decoding import BLOCK, encoding_name, text_chunks
from etl.reader.faults import translated
from etl.reader.pieces import Piece, mingled, without
from etl.reader.window import Window

if TYPE_CHECKING:
    from etl.job.spec import CsvOptions
    from etl.reader.formats import Input

HEADER_BLOCK = 1 << 16


class CsvFile:
    """One CSV file. All columns are strings and never null; `block` is in bytes."""

    format: Format = "csv"
    text = True

    def __init__(self, given: Input, options: CsvOptions, block: int = BLOCK) -> None:
        self._given = given
        self._block = block
        self._options = checked(options)
        self._encoding = encoding_name(options.encoding)
        with closing(self._chunks(min(block, HEADER_BLOCK))) as chunks:
            header = take_header(given.name, Window(chunks), options)
        self._grammar = grammar_of(given.name, header, options)
        self._names = column_names(given.name, header, self._grammar)
        self._rejects = CsvRejects(given.name, self._names, self._grammar, self._encoding)

    def schema(self) -> pa.Schema:
        """The header's names, all of type string; none for a file without a header."""
        return pa.schema([(name, pa.string()) for name in self._names])

    def total_rows(self) -> int | None:
        """None, but for a file without a header: only reading tells."""
        return None if self._names else 0

    def pieces(self, first: int, stop: int | None, columns: Sequence[str]) -> Iterator[Piece]:
        """The records from about `first` on; those before are only counted."""
        if not self._names:
            return
        with closing(self._chunks(self._block)) as chunks:
            window = Window(chunks)
            take_header(self._given.name, window, self._options)
            row = 1
            while self._filled(window) and (stop is None or row < stop):
                piece = self._next(window, row, columns, first)
                if piece.stop > first:
                    yield piece
                row = piece.stop

    def _chunks(self, size: int) -> Generator[bytes, None, None]:
        return text_chunks(self._given, self._encoding, size)

    def _filled(self, window: Window) -> bool:
        """Whether anything is left, after reading on to a block's size."""
        while not window.final and len(window.data) < self._block:
            window.grow()
        return bool(window.data)

    def _next(self, window: Window, row: int, columns: Sequence[str], first: int) -> Piece:
        """The next records as a piece, `row` being the first one's number; all if the file ends with them."""
        while True:
            for end in self._ends(window):
                parsed = self._parsed(window.data[:end], row, columns, first)
                if parsed.whole:
                    window.take(end)
                    return self._piece(parsed, row)
            if window.final:
                return self._unclosed(window, row, columns)
            if window.full:
                hint = 'a quote in it is probably never closed; say quote: "" if quotes mean nothing here'
                raise SourceError(f"{self._given.name}: row {row} is longer than 32 MiB", hint=hint)
            window.grow()

    def _ends(self, window: Window) -> Iterator[int]:
        """Places to cut the window at, the cheapest guess first."""
        if window.final:
            yield len(window.data)
            return
        likely, tried = self._grammar.likely_end(window.data), 0
        if likely:
            yield likely
            tried = likely
        exact = self._grammar.exact_end(window.data)
        if exact not in (0, tried):
            yield exact

    def _parsed(self, block: bytes, row: int, columns: Sequence[str], first: int = 1) -> Parsed:
        """The block's records; of those that end before row `first` only as much as counting needs."""
        with translated(self._given.name, f"in row {row} or after it"):
            if row < first:
                counted = parse(block, self._grammar, self._names, self._names[:1])
                if not counted.whole or row + counted.records <= first:
                    return counted
            return parse(block, self._grammar, self._names, columns)

    def _piece(self, parsed: Parsed, row: int, last: Sequence[Reject] = ()) -> Piece:
        ragged = [self._rejects.ragged(row + number - 1, text) for number, text in parsed.ragged]
        piece = mingled(row, parsed.rows, [*ragged, *last])
        return without(piece, self._rejects.badly_encoded(piece) if parsed.dirty else [])

    def _unclosed(self, window: Window, row: int, columns: Sequence[str]) -> Piece:
        """What is left of a file that ends inside quotes: the record in which they begin is a reject."""
        end = self._grammar.exact_end(window.data)
        parsed, tail = self._parsed(window.data[:end], row, columns), window.data[end:]
        if not parsed.whole or not tail:
            raise SourceError(f"{self._given.name}: the records after row {row} can't be told apart")
        window.take(len(window.data))
        return self._piece(parsed, row, [self._rejects.unclosed(row + parsed.records, tail)])
