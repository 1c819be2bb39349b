"""How the files of a source are written: the options that only one format has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator
from pydantic.json_schema import SkipJsonSchema

from . import words
from .words import SECTION, Text, optional

_Header: TypeAlias = Annotated[
    tuple[Text, ...] | Literal[False] | None,
    PlainValidator(words.csv_header, list[Text] | Literal[False]),
    Field(examples=[["id", "plan"], False]),
]


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How CSV files are written; Parquet and NDJSON need none of it."""

    __pydantic_config__ = SECTION

    # Once read, `encoding` is the codec's name as Python spells it, and `escape` is "" for none.
    delimiter: Annotated[
        Annotated[str, AfterValidator(words.delimiter)] | None, Field(examples=[";", "tab"])
    ] = None
    """One character or `tab`; by default the likeliest of , ; tab |."""
    encoding: Annotated[
        Text, AfterValidator(words.encoding), Field(examples=["utf-8", "latin-1", "cp1252"])
    ] = "utf-8"
    """The text encoding."""
    quote: words.QuoteSign = '"'
    """The sign around fields."""
    escape: Annotated[
        str,
        optional(words.EscapeSign, ""),
        # Two quotes stand for one anyway.
        AfterValidator(lambda escape, info: "" if escape == info.data.get("quote") else escape),
        Field(examples=["\\"]),
    ] = ""
    """The character that stands before quotes, itself, delimiters and line ends in values."""
    header: _Header = None
    """For files without a header: the names of the columns, or false for `1`, `2`, ..."""
    skip_rows: Annotated[int, BeforeValidator(words.line_count, int)] = 0
    """How many lines stand above the header, or above the rows of a file without one."""


@dataclass(frozen=True, slots=True)
class ExcelOptions:
    """Where the rows of a workbook stand."""

    __pydantic_config__ = SECTION

    header: _Header = None
    """For sheets without a header: the names of the columns, or false for `1`, `2`, ..."""
    skip_rows: Annotated[int, BeforeValidator(words.line_count, int)] = 0
    """How many rows of the sheet stand above the header, or above the rows of one without a header."""
    # In the file it is a key of the job, and none of this section.
    sheet: Annotated[str | None, SkipJsonSchema(), Field(init=False)] = None
