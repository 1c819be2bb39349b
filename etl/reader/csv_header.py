"""A CSV file's header and options are sound before any row is read, or the user hears what is wrong."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from etl.errors import SourceError
from etl.reader import grammar
from etl.reader.csv_escapes import Escapes
from etl.reader.decoding import MARK, marked
from etl.reader.grammar import DELIMITERS, Grammar

if TYPE_CHECKING:
    from etl.job.spec import CsvOptions
    from etl.reader.window import Window


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


def take_header(name: str, window: Window, options: CsvOptions) -> tuple[str, int]:
    """The first record, taken from the window with its line end, and the number of the line after it.

    The record is "" if the file called `name` has none.
    """
    while True:
        window.grow()
        found = grammar.first_record(window.data, options.quote, options.delimiter, final=window.final)
        if found is not None:
            break
        if window.full:
            hint = "if a quote in it is never closed, correct it"
            raise SourceError(f"{name}: the header is longer than 32 MiB", hint=hint)
    begin, end = found
    header = marked(window.data[begin:end]).decode()
    if window.data.endswith(b"\r", end) and not window.final:
        window.grow()  # to see whether it is CRLF
    stop = grammar.line_end(window.data, end)
    lines = grammar.line_ends(window.data, 0, stop)
    window.take(stop)
    return _readable(name, header), 1 + lines


def grammar_of(name: str, header: str, options: CsvOptions) -> Grammar:
    """How the file is written, as the options say or else the header."""
    delimiter = options.delimiter or grammar.likeliest(header, options.quote)
    if options.delimiter is None and ".tsv" in name.lower() and "\t" in header:
        delimiter = "\t"
    return Grammar(delimiter, options.quote)


def header_escapes(options: CsvOptions) -> Escapes:
    """What can be escaped in a header, whose delimiter may not be known yet."""
    return Escapes(options.escape, options.quote, (options.delimiter,) if options.delimiter else DELIMITERS)


def column_names(name: str, header: str, written: Grammar, escapes: Escapes) -> list[str]:
    """The header's names; SourceError if one is empty or stands there twice, or if its quotes are wrong."""
    if header and not written.is_sound(header.encode()):
        hint = "correct it; a quote inside of quotes is written twice, or after the character of `csv.escape`"
        raise SourceError(
            f"{name}: in the header a quote is never closed, or text follows a closing one", hint=hint
        )
    names = written.split(header.encode()) if header else []
    names = [escapes.meant(column.encode()).decode() for column in names]
    for position, column in enumerate(names, start=1):
        if not column.strip():
            hint = "give every column a name; pandas leaves its index out with to_csv(index=False)"
            raise SourceError(f"{name}: column {position} of the header has no name", hint=hint)
    twice = [column for column, count in Counter(names).items() if count > 1]
    if twice:
        columns = ", ".join(twice)
        raise SourceError(f"{name}: the header has {columns} more than once", hint="rename all but one")
    return names


def _readable(name: str, header: str) -> str:
    if MARK in header:
        hint = "say the file's encoding, for example latin-1"
        raise SourceError(f"{name}: the header is not in the encoding that the file should have", hint=hint)
    if "\0" in header:
        hint = "if it is UTF-16 without a byte order mark, say encoding: utf-16-le"
        raise SourceError(f"{name}: the header holds NUL bytes, so this is no CSV file", hint=hint)
    return header


def _may_delimit(delimiter: str, quote: str) -> bool:
    single = len(delimiter) == 1 and delimiter.isascii() and not delimiter.isalnum()
    return single and delimiter not in ("\r", "\n", "\0", "~", quote)


def _may_escape(options: CsvOptions) -> bool:
    escape = options.escape
    single = len(escape) == 1 and escape.isascii() and escape.isprintable() and not escape.isalnum()
    return single and escape not in (" ", "~", options.quote, options.delimiter)
