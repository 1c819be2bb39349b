"""Opens a source the way its CSV files are written: the encoding and the delimiter that fit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from etl.errors import SourceError
from etl.job import CsvOptions
from etl.reader import Source, open_source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from etl.init.survey import Survey

# In this order: UTF-8 text is seldom anything else, and latin-1 takes any bytes.
OLD_ENCODINGS: Final = ("cp1252", "latin-1")
_DELIMITERS: Final = (",", ";", "\t", "|")
_ESCAPE: Final = "\\"
_BY_ESCAPES: Final = ("stray_quote", "unclosed_quote", "ragged")


def open_likeliest(locations: Sequence[str], folder: Path) -> tuple[Source, CsvOptions]:
    """The source, and the options it was opened with. Raises SourceError if no encoding helps."""
    options = CsvOptions()
    try:
        return open_source(locations, csv=options, folder=folder), options
    except SourceError:
        if "-" in locations:  # what stdin has told is gone
            raise
        for encoding in OLD_ENCODINGS:
            options = CsvOptions(encoding=encoding)
            try:
                return open_source(locations, csv=options, folder=folder), options
            except SourceError:
                continue
        raise


def is_old(found: Survey, source: Source, options: CsvOptions) -> bool:
    """Whether rows are unreadable because the files are in an older encoding, not because they are damaged.

    A file in UTF-8 with a few broken bytes has other letters that are right; an old file has none.
    """
    bad = found.unreadable["bad_encoding"]
    all_csv = all(file.format == "csv" for file in source.files)
    return options.encoding == "utf-8" and all_csv and source.repeatable and bad > found.beyond_ascii


def with_delimiter(options: CsvOptions, source: Source, locations: Sequence[str], folder: Path) -> CsvOptions:
    """The options with the delimiter that the reader found by itself; None where there is nothing to say."""
    if options.delimiter is not None or not source.repeatable or source.files[0].format != "csv":
        return options
    names = source.schema(0).names
    for delimiter in _DELIMITERS if len(names) > 1 else ():
        guess = replace(options, delimiter=delimiter)
        if open_source(locations, csv=guess, folder=folder).schema(0).names == names:
            return guess
    return options


def with_escape(options: CsvOptions, source: Source, found: Survey) -> CsvOptions | None:
    """The options with a backslash as escape character, where that may make rows readable; else None."""
    all_csv = all(file.format == "csv" for file in source.files)
    return replace(options, escape=_ESCAPE) if found.backslashes and all_csv and source.repeatable else None


def is_escaped(found: Survey, before: Survey) -> bool:
    """Whether a source is read better with an escape character than without, as it was `before`.

    It is where fewer records have wrong quotes, or another number of fields, and no other rows are lost.
    """
    misread = sum(found.unreadable[code] for code in _BY_ESCAPES)
    return misread < sum(before.unreadable[code] for code in _BY_ESCAPES) and (
        found.rows - found.unreadable.total() > before.rows - before.unreadable.total()
    )
