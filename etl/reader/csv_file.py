"""CSV: every record of the file is a row of strings or a reject, whatever stands in it."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from etl.errors import SourceError
from etl.model import Format
from etl.reader import window as windows
from etl.reader.csv_block import Layout, Parsed, parse
from etl.reader.csv_delimiter import Delimiter
from etl.reader.csv_escapes import Escapes
from etl.reader.csv_header import (
    Top,
    checked,
    grammar_of,
    header_escapes,
    header_names,
    header_remark,
    take_header,
    unique_names,
)
from etl.reader.csv_rejects import CsvRejects
from etl.reader.decoding import BLOCK, encoding_name, text_chunks
from etl.reader.faults import translated
from etl.reader.grammar import Cut, line_ends
from etl.reader.pieces import Piece, mingled, without
from etl.reader.spans import Spans
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
        self._encoding = encoding_name(checked(options).encoding)
        options, top = self._opened(options)
        if options.delimiter is None and top.delimiter is not None:
            options, top = self._opened(replace(options, delimiter=top.delimiter))
        self._options = options
        hidden = header_escapes(options)
        grammar = grammar_of(given.name, top, options)
        header = header_names(given.name, top, grammar, hidden, options)
        if top.header:
            header = [self._delimiter.written(name.encode()).decode() for name in header]
        self._top, self._header = top, header
        self._names, self.repeated = unique_names(header)
        self._escapes = Escapes(options.escape, options.quote, (grammar.delimiter,))
        repeatable = [] if options.header is False else header
        self._layout = Layout(grammar, self._escapes, self._names, repeatable, self._delimiter)
        self._rejects = CsvRejects(given.name, self._layout, self._encoding)

    def _opened(self, options: CsvOptions) -> tuple[CsvOptions, Top]:
        """The options as the file is read by, and what stands above its rows."""
        self._delimiter = Delimiter(options.delimiter)
        options = replace(checked(options), delimiter=self._delimiter.read)
        with closing(self._chunks(min(self._block, HEADER_BLOCK), header_escapes(options))) as chunks:
            window = Window(chunks)
            top = take_header(self._given.name, window, options)
            self._after = window.data[:HEADER_BLOCK]
        return options, top

    def schema(self) -> pa.Schema:
        """The header's names, all of type string; none for a file without a header."""
        return pa.schema([(name, pa.string()) for name in self._names])

    def remark(self) -> str | None:
        """What is odd about the header, for those whose columns aren't in it; None for nothing."""
        if self._options.header is not None:
            return None
        return header_remark(self._header, self._after, self._options, self._layout.grammar)

    def total_rows(self) -> int | None:
        """None, but for a file without a header: only reading tells."""
        return None if self._names else 0

    def pieces(
        self, first: int, stop: int | None, columns: Sequence[str], *, spans: Spans | None = None
    ) -> Iterator[Piece]:
        """The blocks of records with wanted ones; the others are only counted."""
        wanted = spans or Spans([(first, stop)])
        if not self._names:
            return
        with closing(self._chunks(self._block, self._escapes)) as chunks:
            window = Window(chunks)
            line = take_header(self._given.name, window, self._options).line
            row, before = 1, b""
            while (following := wanted.next(row)) is not None and self._filled(window):
                cut = self._cut(window, row)
                block = window.data[: cut.end]
                parsed = self._parsed(block, cut, row, columns, following)
                line -= before == b"\r" and block.startswith(b"\n")  # a CRLF that was cut in two
                if row + parsed.records > following:
                    yield self._piece(parsed, block, row, line)
                row, line, before = row + parsed.records, line + self._lines(block), block[-1:]
                window.take(cut.end)

    def _chunks(self, size: int, escapes: Escapes) -> Generator[bytes, None, None]:
        return escapes.hide(self._delimiter.replaced(text_chunks(self._given, self._encoding, size)))

    def _filled(self, window: Window) -> bool:
        """Whether anything is left, after reading on to a block's size."""
        while not window.final and len(window.data) < self._block:
            window.grow()
        return bool(window.data)

    def _cut(self, window: Window, row: int) -> Cut:
        """The next whole records of the window, which begins with row number `row`."""
        size = 2 * self._block
        while True:
            # Not more than a block where the window grew for a record that has been taken since.
            view = min(len(window.data) if len(window.data) <= size else size // 2, windows.LIMIT)
            final, full = window.final and view == len(window.data), view >= windows.LIMIT
            cut = self._layout.grammar.cut(window.data, view, final=final, full=full)
            if cut.end:
                return cut
            if full:
                hint = "its line never ends: is it CSV at all?"
                raise SourceError(f"{self._given.name}: row {row} is longer than 32 MiB", hint=hint)
            size *= 2
            if len(window.data) < size:
                window.grow()

    def _parsed(self, block: bytes, cut: Cut, row: int, columns: Sequence[str], first: int) -> Parsed:
        """The block's records; of those that end before row `first` only as much as counting needs."""
        with translated(self._given.name, f"in row {row} or after it"):
            if row < first:
                counted = parse(block, cut.bad, self._layout, self._names[:1])
                if row + counted.records <= first:
                    return self._whole(counted, row)
            return self._whole(parse(block, cut.bad, self._layout, columns), row)

    def _whole(self, parsed: Parsed, row: int) -> Parsed:
        if not parsed.whole:
            raise SourceError(f"{self._given.name}: the records after row {row} can't be told apart")
        return parsed

    def _piece(self, parsed: Parsed, block: bytes, row: int, line: int) -> Piece:
        """The block's rows and rejects; `row` and `line` are the numbers of its first row and line."""
        rejects = [self._rejects.ragged(row + number - 1, text) for number, text in parsed.ragged]
        seen = 0
        for number, bad in parsed.bad:
            line, seen = line + self._lines(block[seen : bad.begin]), bad.begin
            text = block[bad.begin : bad.end]
            rejects.append(self._rejects.bad_line(row + number - 1, bad, text, line))
        piece = mingled(row, parsed.rows, sorted(rejects, key=lambda reject: reject.row))
        repeated = [self._rejects.repeated_header(int(piece.numbers[place])) for place in parsed.headers]
        piece = without(piece, repeated)
        return without(piece, self._rejects.badly_encoded(piece) if parsed.dirty else [])

    def _lines(self, block: bytes) -> int:
        return line_ends(block) + self._escapes.line_ends(block)
