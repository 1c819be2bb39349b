"""CSV records: their beginnings and ends in a text, and whole ones as columns, which pyarrow parses.

A quote opens a quoted field only where the field begins; elsewhere in a plain field it is a character like
any other. The quote that closes a field is followed by the delimiter or a line end: other text there shows
that the quotes are wrong. A record ends at LF, CRLF or a lone CR outside quotes.

A sentinel record is parsed after the records. If it comes back as a record of its own, the block ended
between records; if a quoted value swallowed it, the block didn't. Bad lines are replaced by records with a
field too many, which pyarrow hands back with their numbers.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from ..job.sections import CsvOptions
from .decoding import MARK_BYTES, mark_bad_bytes

DELIMITERS: Final = (",", ";", "\t", "|")
LINE_END: Final = re.compile(rb"\r\n|\r|\n")
# Letters and digits, which no delimiter and no quote is.
SENTINEL: Final = uuid.uuid4().hex
_BLANK_LINES: Final = re.compile(rb"[\r\n]*")
_LINE: Final = re.compile(rb"[^\r\n]*+")
_CR, _LF = ord("\r"), ord("\n")


class BadLine(NamedTuple):
    """The first line of a record whose quotes are wrong, `data[begin:end]`, without its line end.

    `stray`: text follows a closing quote; `unclosed`: no quote closes the field. Read with its quotes, the
    record would span `lines` lines: to the stray text, or to the end of what may be looked at.
    """

    begin: int
    end: int
    fault: Literal["stray", "unclosed"]
    lines: int


class WholeRecords(NamedTuple):
    """Whole records and bad lines end at `end`, which is 0 if there is none yet."""

    end: int
    bad: tuple[BadLine, ...] = ()


class CsvDialect:
    """The delimiter and the quote of a file, one ASCII character each; `quote` "" means none.

    `delimiter` may be several characters while it isn't known which of them it is.
    """

    def __init__(self, delimiter_text: str, quote_text: str) -> None:
        self.delimiter, self.quote = delimiter_text, quote_text
        delimiters, quote = (re.escape(characters.encode()) for characters in (delimiter_text, quote_text))
        delimiter = rb"[" + delimiters + rb"]"
        plain = rb"[^\r\n" + delimiters + rb"]*+"
        body = rb"(?:[^" + quote + rb"]++|" + quote + quote + rb")*+"
        closed = quote + body + quote + rb"(?=[\r\n" + delimiters + rb"]|\Z)"
        value = rb"(?:" + closed + rb"|(?!" + quote + rb")" + plain + rb")" if quote else plain
        quoted = quote + rb"(" + body + rb")(?:" + quote + rb"|\Z)" if quote else rb"((?!))"
        lenient = rb"(?:" + quoted + rb")?+(" + plain + rb")"
        record = rb"(?!\Z)(?:" + value + delimiter + rb")*+" + value + rb"(?:\r\n|\r|\n|\Z)"
        # Passes over quotes that open no field, and so ends at the first field that isn't closed well.
        literal = rb"(?!\A)(?<![\r\n" + delimiters + rb"])" + quote
        sound = rb"(?:[^" + quote + rb"]++|" + literal + rb"|" + closed + rb")*+" if quote else rb"(?s:.*)"
        self._fields = re.compile(lenient + rb"(?:" + delimiter + rb"|(\Z))")
        self._first = re.compile(rb"(?:" + lenient + delimiter + rb")*+" + lenient)
        self._sound = re.compile(sound)
        self._records = re.compile(rb"(?:" + record + rb")*+")
        self._values = re.compile(rb"(?:" + value + delimiter + rb")*+")
        self._quoted = re.compile(quote + body if quote else rb"(?!)")
        # Which bytes end a field, if they aren't in quotes.
        self._ends_field = np.isin(np.arange(256), [*map(ord, delimiter_text), _LF, _CR])

    def first_record(self, data: bytes, at: int, *, final: bool) -> tuple[int, int] | None:
        """Find the first record from `at` on that isn't blank; None if `data` is too short.

        Return where it begins and ends, without its line end. Its quotes may be wrong. `final`: the file ends
        with `data`.
        """
        begin = _match_end(_BLANK_LINES, data, at, len(data))
        end = _match_end(self._first, data, begin, len(data))
        return None if end == len(data) and not final else (begin, end)

    def whole_records(self, data: bytes, view: int, *, final: bool, full: bool) -> WholeRecords:
        """Find the end of the whole records of `data[:view]`, which begins with a record; and its bad lines.

        `final`: the file ends with the view. `full`: no record may be longer than the view.
        """
        end = view if final else _last_line_end(data, view)
        if not self.quote or data.find(self.quote.encode(), 0, end) < 0:
            return WholeRecords(end)
        end_found = self._end_by_quotes(data, end, final=final)
        if end_found:
            return WholeRecords(end_found)
        if _match_end(self._sound, data, 0, end) == end:
            return WholeRecords(end)
        at, bad = 0, list[BadLine]()
        while (at := _match_end(self._records, data, at, end)) < end:
            begin, stop = at, self._fault_end(data, at, view, whole=final or (full and at == 0))
            if stop is None:
                break
            line = _match_end(_LINE, data, begin, view)
            lines = 1 + count_line_ends(data, begin, stop)
            if stop == view:  # a line end that ends there begins no line
                lines -= data.endswith((b"\n", b"\r"), begin, view)
            bad.append(BadLine(begin, line, "stray" if stop < view else "unclosed", lines))
            at = line_end(data, line)
            if (stop - begin) * 2 > view:
                break  # the view has grown for this record alone
        return WholeRecords(at, tuple(bad))

    def is_sound(self, record: bytes) -> bool:
        """Whether the quotes of one record, without its line end, are right."""
        return _match_end(self._records, record, 0, len(record)) == len(record)

    def split(self, record: bytes) -> list[str]:
        """Split one record without its line end into its fields, also if its quotes are wrong."""
        values: list[str] = []
        for found in self._fields.finditer(record):
            quoted, rest = ((text or b"").decode("utf-8", "backslashreplace") for text in found.group(1, 2))
            values.append(quoted.replace(self.quote * 2, self.quote) + rest)
            if found[3] is not None:
                break
        return values

    def _end_by_quotes(self, data: bytes, end: int, *, final: bool) -> int:
        """The end of the last whole record, if all quotes before `end` are clear; else 0.

        They are if each opens, closes or is doubled, or if none of them opens a field. Quotes open and close
        in turns, so their order shows what each must be, and its neighbour whether it is.
        """
        codes = np.frombuffer(data, np.uint8, end)
        quotes = np.flatnonzero(codes == ord(self.quote))
        before = codes.take(quotes[0::2] - 1, mode="clip")
        if quotes[0] == 0:
            before[0] = _LF
        # A quote that is the file's last byte is its own neighbour, and fits.
        after = codes.take(quotes[1::2] + 1, mode="clip")
        if not all((self._ends_field[some] | (some == ord(self.quote))).all() for some in (before, after)):
            opening = self._ends_field[codes.take(quotes - 1, mode="clip")]
            return 0 if quotes[0] == 0 or opening.any() else end
        if len(quotes) % 2 == 0:
            return end
        if final:
            return 0
        stop = int(quotes[-1])
        while (found := _last_line_end(data, stop)) and (inside := int(np.searchsorted(quotes, found))) % 2:
            stop = int(quotes[inside - 1])
        return found

    def _fault_end(self, data: bytes, at: int, view: int, *, whole: bool) -> int | None:
        """Where the quote stands that is followed by other text, in the record at `at`; `view` for nowhere.

        None if the view ends before that can be seen. `whole`: nothing behind the view counts.
        """
        opening = _match_end(self._values, data, at, view)
        closing = _match_end(self._quoted, data, opening, view)
        # If it is closed well, or isn't quoted, the view ends before the record does.
        if opening < closing < view - 1 and data[closing + 1] not in f"\r\n{self.delimiter}".encode():
            return closing
        return view if whole else None


def line_end(data: bytes, at: int) -> int:
    """Return the position after the line end that stands at `at`."""
    return _match_end(LINE_END, data, at, len(data))


def count_line_ends(data: bytes, begin: int = 0, end: int | None = None) -> int:
    """Count the line ends in `data[begin:end]`; CRLF is one."""
    codes = np.frombuffer(data, np.uint8)[begin:end]
    feeds = codes == _LF
    count = int(np.count_nonzero(feeds))
    if data.find(b"\r", begin, len(data) if end is None else end) >= 0:
        returns = codes == _CR
        count += int(np.count_nonzero(returns[:-1] > feeds[1:])) + int(returns[-1])
    return count


def _match_end(pattern: re.Pattern[bytes], data: bytes, begin: int, end: int) -> int:
    """Where the match ends that begins at `begin`; `begin` for no match."""
    found = pattern.match(data, begin, end)
    return found.end() if found else begin


def _last_line_end(data: bytes, before: int) -> int:
    """The position after the last line end that stands before `before`."""
    end = data.rfind(b"\n", 0, before) + 1
    return end or data.rfind(b"\r", 0, before) + 1


# --- what pyarrow can't read -----------------------------------------------------------------------------

# Noncharacters, which Unicode keeps for use inside of programs: for escapes, and for the delimiter.
_ESCAPED: Final = "\ufdd0"
_OWN: Final = "\ufdd1"
_SEPARATOR: Final = "\x1f"
_LETTERS: Final = "eqwabdfghijk"


class Substitution:
    r"""Replaces what pyarrow can't read before it parses, and brings it back in the values.

    An escape character, such as the backslash that Spark and MySQL write, takes away the meaning of a quote,
    itself, the delimiter or a line end; before anything else it is a character like any other, so `\N` and
    `C:\temp` stay. pyarrow would remove every escape character, so each escaped character becomes two
    characters that no text has. Delimiters beyond ASCII, such as `§`, become ASCII's own separator. If a text
    has one of the substitutes itself, that is replaced as well.

    `escape` is the escape character, or "". `delimiter` is the one that is read; None if it isn't known, and
    then each that it may be can be escaped.
    """

    def __init__(self, options: CsvOptions, delimiter: str | None) -> None:
        """`delimiter` is the one that the file has."""
        escape = self.escape = options.escape
        own, escapes = list[tuple[str, str]](), list[tuple[str, str]]()
        if delimiter is not None and not delimiter.isascii():
            own = [(_OWN, f"{_OWN}b"), (_SEPARATOR, f"{_OWN}a"), (delimiter, _SEPARATOR)]
            delimiter = _SEPARATOR
        self.delimiter = delimiter
        if escape:
            own.append((_ESCAPED, f"{_ESCAPED}x"))
            # The escape character comes first, as pairs of it are read from the left, and CRLF before CR.
            texts = (escape, options.quote, "\r\n", "\r", "\n", *([delimiter] if delimiter else DELIMITERS))
            signs = zip(texts, _LETTERS, strict=False)
            escapes = [(escape + text, _ESCAPED + letter) for text, letter in signs if text]
        self._signs = [(text.encode(), sign.encode()) for text, sign in (*own, *escapes)]
        # What the substitutes stand for, in the order in which they are brought back.
        self._written = [(sign, text) for text, sign in (*escapes, *reversed(own))]
        self._meant = [(sign, text.removeprefix(escape) if escape else text) for sign, text in self._written]
        self._line_signs = [sign.encode() for sign, text in self._meant if not text.strip("\r\n")]

    def replace(self, lines: bytes) -> bytes:
        """Replace in whole lines of UTF-8 text."""
        for text, sign in self._signs:
            lines = lines.replace(text, sign)
        return lines

    def as_written(self, text: str) -> str:
        """Bring the text back as the file has it."""
        return reduce(lambda found, pair: found.replace(*pair), self._written, text)

    def as_meant(self, text: str) -> str:
        """Bring the text back without escape characters."""
        return reduce(lambda found, pair: found.replace(*pair), self._meant, text)

    def line_ends(self, data: bytes) -> int:
        """Count the line ends that were replaced in the text."""
        found = self._line_signs and _ESCAPED.encode() in data
        return sum(map(data.count, self._line_signs)) if found else 0

    def restore(self, rows: pa.RecordBatch, data: bytes) -> pa.RecordBatch:
        """Bring back the values, as they are meant, of columns that were parsed from the text `data`."""
        pairs = [pair for pair in self._meant if pair[0].encode() in data]
        for place, name in enumerate(rows.schema.names):
            for sign, text in pairs:
                if pc.any(pc.match_substring(rows.column(place), sign)).as_py():
                    rows = rows.set_column(place, name, pc.replace_substring(rows.column(place), sign, text))
        return rows


# --- records as columns ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How the records of a file are written, and the `names` of its columns.

    `header` has the names as the file has them; it is empty if a record that repeats it can't be recognized.
    """

    dialect: CsvDialect
    substitution: Substitution
    names: list[str]
    header: list[str]


class ParsedBlock(NamedTuple):
    """A block of records as pyarrow parsed it.

    `rows` are those with as many fields as there are names; `misfits` has number (from 1, in the block) and
    text of the others, where a bad line is text that begins with SENTINEL. `whole`: the block ended between
    records. `dirty`: it has marked bytes. `headers` are the positions in `rows` of records that repeat the
    header.
    """

    rows: pa.RecordBatch
    misfits: list[tuple[int, str]]
    whole: bool
    dirty: bool
    headers: list[int]

    @property
    def records(self) -> int:
        """How many records and bad lines the block has."""
        return int(self.rows.num_rows) + len(self.misfits)


def parse(block: bytes, bad: Sequence[BadLine], layout: CsvLayout, columns: Sequence[str]) -> ParsedBlock:
    """Parse a block that begins with a record; `columns` are some of the header's names."""
    misfits: list[tuple[int, str]] = []

    def note(row: csv.InvalidRow) -> str:
        misfits.append((row.number or 0, row.text))
        return "skip"

    delimiter, names = layout.dialect.delimiter, layout.names
    parts, begin = list[bytes](), 0
    for line in bad:
        parts += (block[begin : line.begin], f"{SENTINEL}{delimiter * len(names)}".encode())
        begin = line.end
    records = b"".join((*parts, block[begin:])) if bad else block
    sentinel = SENTINEL + delimiter * (len(names) - 1)
    data = b"".join((mark_bad_bytes(records), b"\n", sentinel.encode(), b"\n"))
    types = dict.fromkeys([names[0], *columns], pa.string())
    table = csv.read_csv(
        pa.BufferReader(data),
        # Without threads, because only then pyarrow numbers the misfits.
        read_options=csv.ReadOptions(use_threads=False, block_size=len(data) + 1, column_names=names),
        parse_options=csv.ParseOptions(
            delimiter=delimiter, quote_char=layout.dialect.quote or False, invalid_row_handler=note
        ),
        convert_options=csv.ConvertOptions(
            include_columns=list(types), column_types=types, check_utf8=False, null_values=[]
        ),
    )
    batches = table.combine_chunks().to_batches()
    rows = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
    whole = rows.num_rows > 0 and rows.column(0)[-1].as_py() == SENTINEL
    rows = layout.substitution.restore(rows.slice(0, rows.num_rows - whole), block)
    headers = _header_positions(rows, dict(zip(names, layout.header, strict=False)))
    if headers and len(types) < len(names):
        headers = parse(block, bad, layout, names).headers
    return ParsedBlock(rows.select(list(columns)), misfits, whole, MARK_BYTES in data, headers)


def _header_positions(rows: pa.RecordBatch, header: dict[str, str]) -> list[int]:
    """Positions of the rows whose values are the header's names, in all columns that are there.

    Blanks around a name don't matter.
    """
    if not header:
        return []

    def repeats(name: str, values: pa.StringArray) -> NDArray[np.int64]:
        same = pc.equal(pc.utf8_trim_whitespace(values), header[name].strip())
        return np.flatnonzero(same.to_numpy(zero_copy_only=False))

    first, *others = rows.schema.names
    found = repeats(first, rows.column(first))
    for name in others if len(found) else ():
        found = found[repeats(name, rows.column(name).take(pa.array(found)))]
    return [int(place) for place in found]
