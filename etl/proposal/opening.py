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

    from etl.proposal.survey import Survey

# In this order: UTF-8 text is seldom anything else, and latin-1 takes any bytes.
OLD_ENCODINGS: Final = ("cp1252", "latin-1")
_DELIMITERS: Final = (",", ";", "\t", "|")


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
