"""Whole CSV records become columns, and records that are not rows become rejects.

A sentinel record is parsed after the records. If it comes back as a record of its own, the block ended
between records; if a quoted value swallowed it, the block didn't. Bad lines are replaced by records with a
field too many, which pyarrow hands back with their numbers.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import csv

from ..arrow.originals import CSV_ORIGIN, origin_by_name
from ..job.sections import CsvOptions
from ..model import Batch, Reject
from .csv_dialect import DELIMITERS, BadLine, CsvDialect
from .decoding import MARK, MARK_BYTES, mark_bad_bytes
from .file_reader import excerpt

# Letters and digits, which no delimiter and no quote is.
SENTINEL: Final = uuid.uuid4().hex
EXTRA: Final = "extra fields"
REPEATED_HEADER: Final = "this record repeats the header, as happens where files are joined"
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


@dataclass(frozen=True, slots=True)
class CsvLayout:
    """How the records of one file are written, the `names` of its columns, and its rejects.

    `header` has the names as the file has them; it is empty if a record that repeats it can't be recognized.
    A reject has everything that could be read of its record.
    """

    source: str
    encoding: str
    dialect: CsvDialect
    substitution: Substitution
    names: list[str]
    header: list[str]

    def ragged(self, row: int, text: str) -> Reject:
        """Reject a record with more or fewer fields than the header."""
        names = self.names
        text = text.replace(MARK, "")
        fields = list(map(self.substitution.as_meant, self.dialect.split(text.encode())))
        count = f"{len(fields)} field{'s' * (len(fields) != 1)} where the header has {len(names)}"
        values: dict[str, str | list[str]] = dict(zip(names, fields, strict=False))
        if len(fields) > len(names):
            extra = EXTRA
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
            rest = "the line after it is" if bad.lines == 2 else "the lines after it are"
            reason += (
                f", so the record would span {where}; its first line is rejected, and {rest} read as records"
            )
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
            reason = f"column {name}: {excerpt(values[name])} is not {self.encoding}; say the file's encoding"
            found.append(self._reject(int(row), "bad_encoding", reason, values))
        return found

    def _reject(
        self, row: int, code: str, reason: str, values: Mapping[str, str | list[str]], swallowed: int = 0
    ) -> Reject:
        text = orjson.dumps(values).decode()
        origin = "" if origin_by_name(self.source) == CSV_ORIGIN else CSV_ORIGIN
        return Reject(self.source, row, code, reason, text, swallowed, origin=origin)


class ParsedBlock(NamedTuple):
    """What pyarrow made of a block of records.

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
