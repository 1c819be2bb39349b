"""A CSV file's header and options are sound before any row is read, or the user hears what is wrong."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from etl.errors import SourceError
from etl.reader import grammar
from etl.reader.csv_escapes import Escapes
from etl.reader.decoding import MARK, marked
from etl.reader.grammar import DELIMITERS, Grammar

if TYPE_CHECKING:
    from etl.job.spec import CsvOptions
    from etl.reader.window import Window


_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
# As spreadsheets write it above the header.
_SEP_LINE: Final = re.compile(r'(?i)"?sep=([^a-z0-9"\0\x1a])"?')
_SEP_BYTES: Final = 5
_LOOKED_AT: Final = 6
# What no column is called: addresses, numbers and dates, UUIDs.
_VALUE: Final = re.compile(
    r"[^@\s]+@[^@\s]+\.\w+|[+-]?\d+[.,]\d+|\d{5,}|\d{4}-\d\d?-\d\d?.*|\d\d?[./]\d\d?[./]\d{2,4}"
    r"|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|https?://.*"
)


def checked(options: CsvOptions) -> CsvOptions:
    """The same options; SourceError if the delimiter, the quote or the escape character can't be one."""
    delimiter, quote = options.delimiter, options.quote
    if delimiter is not None and not _may_delimit(delimiter, quote):
        raise SourceError(
            f"{delimiter!r} can't be the CSV delimiter", hint="give one character such as ; or |"
        )
    if len(quote) > 1 or not quote.isascii() or quote.isalnum() or quote in ("\r", "\n", "\0"):
        raise SourceError(f"{quote!r} can't be the CSV quote", hint="give one character, or nothing for none")
    if options.escape and not _may_escape(options):
        hint = "give one character such as \\, and neither the delimiter nor the quote"
        raise SourceError(f"{options.escape!r} can't be the CSV escape character", hint=hint)
    return options


class Top(NamedTuple):
    """What stands above the rows of a file.

    `header` is the record of the header without its line end, "" where there is none; `first` is the record
    that tells the delimiter, `delimiter` the one that a line `sep=` names, and `line` the number of the line
    after all that.
    """

    header: str
    first: str
    delimiter: str | None
    line: int


def take_header(name: str, window: Window, options: CsvOptions) -> Top:
    """Take from the window what stands above the rows of the file called `name`."""
    window.grow()
    delimiter, line = _take_lines(name, window, options.skip_rows)
    begin, end = _first_record(name, window, options)
    first = _readable(name, marked(window.data[begin:end]).decode())
    if options.header is not None:
        return Top("", first, delimiter, line)
    if window.data.endswith(b"\r", end) and not window.final:
        window.grow()  # to see whether it is CRLF
    stop = grammar.line_end(window.data, end)
    lines = grammar.line_ends(window.data, 0, stop)
    window.take(stop)
    return Top(first, first, delimiter, line + lines)


def _take_lines(name: str, window: Window, count: int) -> tuple[str | None, int]:
    """Take so many lines, of which the first may name the delimiter; it is taken in any case then.

    The delimiter, and the number of the line after them.
    """
    if count == 0 and len(window.data) > _SEP_BYTES and b"sep=" not in window.data[:_SEP_BYTES].lower():
        return None, 1
    taken, delimiter = 0, None
    while taken < count or taken == 0:
        stop = _line_stop(name, window)
        if taken == 0:
            found = _SEP_LINE.fullmatch(window.data[:stop].rstrip(b"\r\n").decode("utf-8", "replace"))
            delimiter = found[1] if found else None
            if count == 0 and found is None:
                break
        window.take(stop)
        taken += 1
    return delimiter, 1 + taken


def _line_stop(name: str, window: Window) -> int:
    """Where the line that the window begins with ends, with its line end."""
    while True:
        found = _LINE_END.search(window.data)
        if window.final or (found is not None and found.end() < len(window.data)):
            return found.end() if found is not None else len(window.data)
        if window.full:
            raise SourceError(f"{name}: the first line is longer than 32 MiB", hint="is it CSV at all?")
        window.grow()


def _first_record(name: str, window: Window, options: CsvOptions) -> tuple[int, int]:
    while True:
        found = grammar.first_record(window.data, options.quote, options.delimiter, final=window.final)
        if found is not None:
            return found
        if window.full:
            hint = "if a quote in it is never closed, correct it"
            raise SourceError(f"{name}: the header is longer than 32 MiB", hint=hint)
        window.grow()


def grammar_of(name: str, top: Top, options: CsvOptions) -> Grammar:
    """How the file is written, as the options say or else its first line or the header."""
    named = options.delimiter or top.delimiter
    delimiter = named or grammar.likeliest(top.first, options.quote)
    if named is None and ".tsv" in name.lower() and "\t" in top.first:
        delimiter = "\t"
    return Grammar(delimiter, options.quote)


def header_escapes(options: CsvOptions) -> Escapes:
    """What can be escaped in a header, whose delimiter may not be known yet."""
    return Escapes(options.escape, options.quote, (options.delimiter,) if options.delimiter else DELIMITERS)


def header_names(name: str, top: Top, written: Grammar, escapes: Escapes, options: CsvOptions) -> list[str]:
    """The columns' names as the header or the options spell them; SourceError for wrong quotes in it."""
    if isinstance(options.header, tuple):
        return list(options.header)
    if options.header is False:
        return [str(number) for number, _ in enumerate(written.split(top.first.encode()), 1) if top.first]
    if top.header and not written.is_sound(top.header.encode()):
        hint = "correct it; a quote inside of quotes is written twice, or after the character of `csv.escape`"
        raise SourceError(
            f"{name}: in the header a quote is never closed, or text follows a closing one", hint=hint
        )
    names = written.split(top.header.encode()) if top.header else []
    return [escapes.meant(column.encode()).decode() for column in names]


def unique_names(header: list[str]) -> tuple[list[str], dict[str, list[int]]]:
    """Names that can be told apart, and the places (from 1) of each that stands there several times.

    A name that is repeated or empty gets its place, so that no column can be taken for another.
    """
    counts = Counter(header)
    names, taken = list[str](), set(header)
    places: dict[str, list[int]] = {}
    for place, name in enumerate(header, 1):
        unique = name
        if counts[name] > 1:
            places.setdefault(name, []).append(place)
        if counts[name] > 1 or not name.strip():
            unique = f"{name.strip() or 'no name'} (column {place})"
        while unique != name and unique in taken:
            unique += "'"
        taken.add(unique)
        names.append(unique)
    return names, {name: where for name, where in places.items() if name.strip()}


def header_remark(header: list[str], after: bytes, options: CsvOptions, written: Grammar) -> str | None:
    """What tells that the header is none: other numbers of fields below it, or names that are values."""
    lines = [line for line in re.split(rb"\r\n|\r|\n", after)[:_LOOKED_AT] if line]
    if lines:
        if options.delimiter is None and len(header) == 1:
            delimiter = grammar.likeliest(lines[0].decode("utf-8", "replace"), options.quote)
            written = Grammar(delimiter, options.quote)
        (fields, _), *_ = Counter(len(written.split(line)) for line in lines).most_common(1)
        if fields > len(header):
            names = f"{len(header)} name{'s' * (len(header) != 1)}"
            return (
                f"the header has {names}, and the lines after it have {fields} fields: if lines stand above "
                "the header, say how many with `csv: {skip_rows: N}`"
            )
    value = next((name for name in header if _VALUE.fullmatch(name.strip())), None)
    if value is None:
        return None
    return (
        f"the header looks like data (`{value}`): if the file has none, name its columns with "
        "`csv: {header: [NAME, ...]}`"
    )


def _readable(name: str, header: str) -> str:
    if MARK in header:
        hint = "say the file's encoding, for example latin-1"
        raise SourceError(f"{name}: the header is not in the encoding that the file should have", hint=hint)
    if "\0" in header:
        hint = "if it is UTF-16 without a byte order mark, say encoding: utf-16-le"
        raise SourceError(f"{name}: the header holds NUL bytes, so this is no CSV file", hint=hint)
    return header


def _may_delimit(delimiter: str, quote: str) -> bool:
    single = len(delimiter) == 1 and not (delimiter.isascii() and delimiter.isalnum())
    return single and delimiter not in ("\r", "\n", "\0", "\x1a", quote)


def _may_escape(options: CsvOptions) -> bool:
    escape = options.escape
    single = len(escape) == 1 and escape.isascii() and escape.isprintable() and not escape.isalnum()
    return single and escape not in (" ", options.quote, options.delimiter)
