"""CSV: the header of a file, and each record as a row of strings or a reject, whatever it contains."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from ..arrow.originals import CSV_ENDINGS, CSV_ORIGIN
from ..errors import SourceError
from ..model import Batch, Reject
from ..run_events import Warned
from ..text import counted
from . import decoding
from .csv_records import (
    DELIMITERS,
    LINE_END,
    SENTINEL,
    BadLine,
    CsvDialect,
    CsvLayout,
    ParsedBlock,
    Substitution,
    WholeRecords,
    count_line_ends,
    line_end,
    parse,
)
from .decoding import BLOCK, MARK, ReadBuffer, encoding_name, mark_bad_bytes, text_chunks
from .file_reader import FileReader, ReadOptions, RowSpans, excerpt, reject_of, reject_rows
from .files import InputFile, source_errors

if TYPE_CHECKING:
    from ..job.sections import CsvOptions

_SAY_ENCODING: Final = "; say which encoding it is with `csv: {encoding: NAME}`"
NO_NAME: Final = "no name"
_HEADER_BLOCK: Final = 1 << 16
# As spreadsheets write it above the header.
_SEP_LINE: Final = re.compile(r'(?i)"?sep=([^a-z0-9"\0\x1a])"?')
_CHECKED_LINES: Final = 6
MORE_BELOW: Final = "and the lines after it have"
# What no column is called, by kind.
VALUE: Final = re.compile(
    r"(?P<mail>[^@\s]+@[^@\s]+\.\w+)|(?P<number>[+-]?\d+[.,]\d+|\d{5,})|(?P<date>\d{4}-\d\d?-\d\d?.*"
    r"|\d\d?[./]\d\d?[./]\d{2,4})|(?P<url>https?://.*)"
    r"|(?P<uuid>[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"
)
_DIGITS: Final = re.compile(r"\d+")
_IS_DATA: Final = (
    "the header looks like data (`{}`): if the file has none, name its columns with "
    "`csv: {{header: [NAME, ...]}}`"
)


class _Top(NamedTuple):
    """The lines above the rows of a file: `size` bytes of text; the rows begin at line number `line`.

    `first` is the first record, which is the header unless the job has one, without its line end;
    `delimiter` is the one that a line `sep=` names, and `below` are the first lines after all that.
    """

    first: str
    delimiter: str | None
    size: int
    line: int
    below: list[bytes]


class CsvReader(FileReader):
    """Reads one CSV file. All columns are strings and never null; `block` is in bytes."""

    format = "csv"
    endings = CSV_ENDINGS
    text = True

    def __init__(self, input_file: InputFile, options: ReadOptions, block: int = BLOCK) -> None:
        super().__init__(input_file, options)
        self._block = block
        self._csv = checked(options.csv)
        self._encoding = encoding_name(self._csv.encoding)
        self._top = top = self._read_top()
        self._guessed = self._csv.delimiter is None and top.delimiter is None
        if self._csv.delimiter is None:
            tabs = ".tsv" in self.name.lower() and "\t" in top.first
            guess = "\t" if tabs else likeliest_delimiter(top.first, self._csv.quote)
            self._csv = checked(replace(self._csv, delimiter=top.delimiter or guess))
            self._top = self._read_top()
        self._header = self._header_names()
        names, self.repeated = unique_names(self._header)
        if block == BLOCK:  # a column of a block costs as much as 4 KiB of its text; 16 MiB are enough
            self._block = min(max(BLOCK, len(names) << 12), 1 << 24)
        skipped = self._csv.skip_rows
        if skipped and top.size and not top.first and (self._csv.header is None or top.line <= skipped):
            text = f"{self.name} ends within the {counted(skipped, 'line')} that `csv.skip_rows` leaves out"
            self.warnings = (Warned("skip_rows", f"{text}: it has no rows"),)
        header = [] if self._csv.header is False else self._header
        written = self._dialect, self._substitution, names, header
        self._layout = _FileLayout(*written, self.name, self._encoding)

    def schema(self) -> pa.Schema:
        """Return the header's names, all of type string; none for a file without a header."""
        return pa.schema([(name, pa.string()) for name in self._layout.names])

    def total_rows(self) -> int | None:
        """Return None, as rows are only counted by reading; 0 for a file without a header."""
        return None if self._layout.names else 0

    def remark(self, names: Collection[str] = ()) -> str | None:
        """Return why the header may be none: other numbers of fields below it, or names that are values.

        One of `names` is a value if it is like the one below it, but for the digits.
        """
        if self._csv.header is not None:
            return None
        if names:
            below = self._dialect.split(*self._top.below[:1] or [b""])
            for name, text in zip(self._header, below, strict=False):
                same = _DIGITS.search(name) and _DIGITS.sub("0", name) == _DIGITS.sub("0", text)
                both = VALUE.fullmatch(name.strip()) and VALUE.fullmatch(text.strip())
                if name in names and (same or both):
                    return _IS_DATA.format(name)
            return None
        if self._top.below:
            dialect = self._dialect
            if self._guessed and len(self._header) == 1:
                delimiter = likeliest_delimiter(self._top.below[0].decode("utf-8", "replace"), dialect.quote)
                dialect = CsvDialect(delimiter, dialect.quote)
            (fields, _), *_ = Counter(len(dialect.split(line)) for line in self._top.below).most_common(1)
            if fields > len(self._header):
                return (
                    f"the header has {counted(len(self._header), 'name')}, {MORE_BELOW} {fields} fields: if "
                    "lines stand above the header, say how many with `csv: {skip_rows: N}`"
                )
        value = next((name for name in self._header if VALUE.fullmatch(name.strip())), None)
        return None if value is None else _IS_DATA.format(value)

    # --- the header --------------------------------------------------------------------------------------

    def _read_top(self) -> _Top:
        self._substitution = Substitution(self._csv, self._csv.delimiter)
        self._dialect = CsvDialect(self._substitution.delimiter or "".join(DELIMITERS), self._csv.quote)
        with closing(self._chunks(min(self._block, _HEADER_BLOCK), [0])) as chunks:
            buffer = ReadBuffer(chunks)
            while (top := self._top_of(buffer.data, final=buffer.final)) is None:
                if len(buffer.data) > decoding.MAX_RECORD:
                    if LINE_END.search(buffer.data) is None:
                        raise self.input_file.error(
                            ": the first line is longer than 32 MiB", "is it CSV at all?"
                        )
                    hint = "if a quote in it is never closed, correct it"
                    raise self.input_file.error(": the header is longer than 32 MiB", hint)
                buffer.grow()
        return top

    def _top_of(self, data: bytes, *, final: bool) -> _Top | None:
        """Find the lines above the rows; None if `data`, the beginning of the file, is too short."""
        named = _SEP_LINE.fullmatch(LINE_END.split(data, 1)[0].decode("utf-8", "replace"))
        size = 0
        for _ in range(max(self._csv.skip_rows, int(named is not None))):
            end_found = LINE_END.search(data, size)
            size = end_found.end() if end_found else len(data)
        record = self._dialect.first_record(data, size, final=final)
        if record is None:
            return None
        begin, end = record
        first = mark_bad_bytes(data[begin:end]).decode()
        if MARK in first:
            what = ": the header is not in the encoding that the file should have"
            raise self.input_file.error(what, "say which it has, for example `csv: {encoding: cp1252}`")
        if "\0" in first:
            hint = "if it is UTF-16 without a byte order mark, add `csv: {encoding: utf-16-le}`"
            raise self.input_file.error(": the header holds NUL bytes, so this is not a CSV file", hint)
        if self._csv.header is None:
            size = line_end(data, end)
        below = list(filter(None, LINE_END.split(data[size : size + _HEADER_BLOCK])))[:_CHECKED_LINES]
        return _Top(first, named[1] if named else None, size, 1 + count_line_ends(data, 0, size), below)

    def _header_names(self) -> list[str]:
        """The columns' names as the header or the job has them; SourceError for wrong quotes in it."""
        if isinstance(self._csv.header, tuple):
            return list(self._csv.header)
        first, dialect = self._top.first, self._dialect
        fields = dialect.split(first.encode()) if first else []
        if self._csv.header is False:
            return [str(number) for number in range(1, len(fields) + 1)]
        if first and not dialect.is_sound(first.encode()):
            hint = "correct it; write a quote inside of quotes twice, or after the character of `csv.escape`"
            what = ": in the header a quote is never closed, or text follows a closing one"
            raise self.input_file.error(what, hint)
        return list(map(self._substitution.as_meant, fields))

    # --- the rows ----------------------------------------------------------------------------------------

    def batches(self, spans: RowSpans, columns: Sequence[str], *, exact: bool = False) -> Iterator[Batch]:
        """Yield the blocks of records with wanted ones; the others are only counted."""
        if not self._layout.names:
            return
        position = [0]
        with closing(self._chunks(self._block, position)) as chunks:
            buffer = ReadBuffer(chunks)
            while len(buffer.data) < self._top.size:
                buffer.grow()
            buffer.take(self._top.size)
            row, line, before = 1, self._top.line, b""
            while (following := spans.next(row)) is not None:
                while not buffer.final and 2 * len(buffer.data) <= self._block:
                    buffer.grow()
                if not buffer.data:
                    return
                records = self._whole_records(buffer, row)
                block, parsed = buffer.data[: records.end], None
                with source_errors(self.name, f"in row {row} or after it"):
                    if row < following:  # only as much as counting needs
                        parsed = parse(block, records.bad, self._layout, self._layout.names[:1])
                    if parsed is None or (parsed.whole and row + parsed.records > following):
                        parsed = parse(block, records.bad, self._layout, columns)
                if not parsed.whole:
                    raise self.input_file.error(f": the records after row {row} can't be separated")
                stop = row + parsed.records
                share = (buffer.taken + records.end) / (buffer.taken + len(buffer.data))
                self.note_read(stop - 1, share * position[0])
                line -= before == b"\r" and block.startswith(b"\n")  # a CRLF that was cut in two
                if stop > following:
                    yield self._batch(parsed, block, records.bad, row, line)
                row, line, before = stop, line + self._line_ends(block), block[-1:]
                buffer.take(records.end)

    def _chunks(self, size: int, position: list[int]) -> Generator[bytes, None, None]:
        with closing(text_chunks(self.input_file, self._encoding, size, position, returns=True)) as chunks:
            yield from map(self._substitution.replace, chunks)

    def _whole_records(self, buffer: ReadBuffer, row: int) -> WholeRecords:
        """The next whole records of the buffer, which begins with row number `row`."""
        size = 2 * self._block
        while True:
            # Not more than a block if the buffer grew for a record that has been taken since.
            view = min(len(buffer.data) if len(buffer.data) <= size else size // 2, decoding.MAX_RECORD)
            final, full = buffer.final and view == len(buffer.data), view >= decoding.MAX_RECORD
            records = self._dialect.whole_records(buffer.data, view, final=final, full=full)
            if records.end:
                return records
            if full:
                what = f": row {row} is longer than 32 MiB"
                raise self.input_file.error(what, "its line never ends: is it CSV at all?")
            size *= 2
            if len(buffer.data) < size:
                buffer.grow()

    def _batch(self, parsed: ParsedBlock, block: bytes, bad: Iterable[BadLine], row: int, line: int) -> Batch:
        """The block's rows and rejects; `row` and `line` are the numbers of its first row and line."""
        rejects, bad_lines, seen = list[Reject](), iter(bad), 0
        for number, text in parsed.misfits:
            if text.startswith(SENTINEL):
                fault = next(bad_lines)
                line, seen = line + self._line_ends(block[seen : fault.begin]), fault.begin
                written = block[fault.begin : fault.end]
                rejects.append(self._layout.bad_line(row + number - 1, fault, written, line))
            else:
                rejects.append(self._layout.ragged(row + number - 1, text))
        batch = self.batch(row, parsed.rows, rejects)
        repeated = [self._layout.repeated_header(int(batch.numbers[place])) for place in parsed.headers]
        batch = reject_rows(batch, repeated)
        return reject_rows(batch, self._layout.badly_encoded(batch)) if parsed.dirty else batch

    def _line_ends(self, block: bytes) -> int:
        return count_line_ends(block) + self._substitution.line_ends(block)


# --- records that are no rows ----------------------------------------------------------------------------

REPEATED_HEADER: Final = "this record repeats the header, as happens where files are joined"
_EXTRA: Final = "extra fields"


@dataclass(frozen=True, slots=True)
class _FileLayout(CsvLayout):
    """The layout of the file `source`; it makes rejects, with everything that could be read of a record."""

    source: str
    encoding: str

    def ragged(self, row: int, text: str) -> Reject:
        """Reject a record with more or fewer fields than the header."""
        names = self.names
        text = text.replace(MARK, "")
        fields = list(map(self.substitution.as_meant, self.dialect.split(text.encode())))
        count = f"{len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(names)}"
        values: dict[str, str | list[str]] = dict(zip(names, fields, strict=False))
        if len(fields) > len(names):
            extra = _EXTRA
            while extra in names:
                extra += "_"
            values[extra] = fields[len(names) :]
        return self._reject(row, "ragged", f"{count}: {excerpt(self.substitution.as_written(text))}", values)

    def bad_line(self, row: int, bad: BadLine, line: bytes, number: int) -> Reject:
        """Reject a line that begins a record whose quotes are wrong; `number` is its number in the file.

        Its fields can't be separated for sure, so the line is kept as it is.
        """
        text = self.substitution.as_written(mark_bad_bytes(line).decode().replace(MARK, ""))
        reason = "text follows a closing quote" if bad.fault == "stray" else "a quote is never closed"
        if bad.lines == 1:
            reason += f", line {number}"
        else:
            where = f"lines {number} to {number + bad.lines - 1} ({bad.lines:,} lines)"
            rest = "the line after it is read as a record"
            rest = rest if bad.lines == 2 else "the lines after it are read as records"
            reason += f", so the record would span {where}; its first line is rejected, and {rest}"
        escaped = f"\\{self.dialect.quote}"
        if not self.substitution.escape and escaped in text:  # as Spark and MySQL write them
            reason += f'; if {escaped} stands for a quote, add `csv: {{escape: "\\\\"}}` to the job file'
        code = "stray_quote" if bad.fault == "stray" else "unclosed_quote"
        return self._reject(row, code, reason, {"line": text}, bad.lines - 1)

    def repeated_header(self, row: int) -> Reject:
        """Reject a record that has the header's names for values."""
        values = dict(zip(self.names, self.header, strict=True))
        return self._reject(row, "repeated_header", REPEATED_HEADER, values)

    def badly_encoded(self, batch: Batch) -> list[Reject]:
        """Reject the good rows of the batch that have marked bytes in them."""
        bad = np.zeros(batch.rows.num_rows, dtype=np.bool_)
        for column in batch.rows.columns:
            bad |= pc.match_substring(column, MARK).to_numpy(zero_copy_only=False)
        found = []
        for row, marked in zip(batch.numbers[bad], batch.rows.filter(pa.array(bad)).to_pylist(), strict=True):
            name = next(name for name, value in marked.items() if MARK in value)
            values = {name: value.replace(MARK, "") for name, value in marked.items()}
            reason = f"column {name}: {excerpt(values[name])} is not {self.encoding}{_SAY_ENCODING}"
            found.append(self._reject(int(row), "bad_encoding", reason, values))
        return found

    def _reject(
        self, row: int, code: str, reason: str, values: Mapping[str, str | list[str]], swallowed: int = 0
    ) -> Reject:
        text = orjson.dumps(values).decode()
        return reject_of(self.source, row, code, reason, text, CSV_ORIGIN, swallowed)


# --- options and names -----------------------------------------------------------------------------------


def checked(options: CsvOptions) -> CsvOptions:
    """Return the options; SourceError if the delimiter, the quote or the escape character can't be one."""
    delimiter, quote, escape = options.delimiter, options.quote, options.escape
    escapes = "give one character such as \\, and neither the delimiter nor the quote"
    quotes = "give one character, or nothing for none"
    signs = (
        ("delimiter", delimiter, r"[^\r\n\0\x1aA-Za-z0-9]", (quote,), "give one character such as ; or |"),
        ("quote", quote, r"(?![\r\n\0A-Za-z0-9])[\0-\x7f]|", (), quotes),
        ("escape character", escape, r"[!-/:-@[-`{-~]|", (quote, delimiter), escapes),
    )
    for name, sign, pattern, others, hint in signs:
        if sign is not None and (not re.fullmatch(pattern, sign) or (sign and sign in others)):
            raise SourceError(f"{sign!r} can't be the CSV {name}", hint=hint)
    return options


def unique_names(header: list[str]) -> tuple[list[str], dict[str, list[int]]]:
    """Make the names unique, and return the places (from 1) of each that stands there several times.

    A name that is repeated or empty gets its place, so that no column can be taken for another.
    """
    counts, names, taken = Counter(header), list[str](), set(header)
    for place, name in enumerate(header, 1):
        unique = name
        if counts[name] > 1 or not name.strip():
            unique = f"{name.strip() or NO_NAME} (column {place})"
        while unique != name and unique in taken:
            unique += "'"
        taken.add(unique)
        names.append(unique)
    repeated = [name for name, count in counts.items() if count > 1 and name.strip()]
    return names, {name: [place for place, one in enumerate(header, 1) if one == name] for name in repeated}


def likeliest_delimiter(header: str, quote: str) -> str:
    """Return the delimiter that occurs most often in the header outside quotes; a comma if there is none."""
    mark = re.escape(quote)
    bare = re.sub(f"{mark}[^{mark}]*{mark}", "", header) if quote else header
    return max(DELIMITERS, key=bare.count)
