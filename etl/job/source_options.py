"""How the files of a source are written: the options that only one format has."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo

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
    # Usually a key of the job.
    sheet: Annotated[Text | None, Field(examples=["Users"])] = None
    """Which sheet is read; the same as `sheet` of the job."""


def with_sheet(excel: ExcelOptions, info: ValidationInfo) -> ExcelOptions:
    """Add the job's own `sheet`, which the context has."""
    sheet = info.context.get("sheet") if info.context else None
    if sheet is not None and excel.sheet is not None:
        raise ValueError("has a `sheet`, and the job has one, too: take one of them out")
    return excel if sheet is None else replace(excel, sheet=sheet)
