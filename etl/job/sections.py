"""The sections of a job file beside `identification`: the keys under `csv`, `excel`, `destination`, ...

A new key of a section is a field here, with its type and its default, and a line of the class' docstring,
which is the text that editors show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import SkipJsonSchema

from ..amplitude.requests import TransportName
from . import run_options, words
from .run_options import PATTERNS, RUN_OPTIONS
from .words import SECTION, Flag, Text, key, keyed_section, matching, optional

ChangesBy: TypeAlias = Literal["property", "user", "off"]
Absent: TypeAlias = Literal["keep", "unset"]

# --- how the files of a source are written ---------------------------------------------------------------

_Header: TypeAlias = Annotated[
    tuple[Text, ...] | Literal[False] | None,
    PlainValidator(words.csv_header, list[Text] | Literal[False]),
    Field(examples=[["id", "plan"], False]),
]
_Lines: TypeAlias = Annotated[int, BeforeValidator(words.line_count, int)]


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How CSV files are written; Parquet and NDJSON need none of it.

    - delimiter: One character or `tab`; by default the likeliest of , ; tab |.
    - encoding: The text encoding.
    - quote: The sign around fields; "" if quotes have no meaning.
    - escape: The character that stands before quotes, itself, delimiters and line ends in values.
    - header: For files without a header: the names of the columns, or false for `1`, `2`, ...
    - skip_rows: How many lines stand above the header, or above the rows of a file without one.
    """

    __pydantic_config__ = SECTION

    # Once read, `encoding` is the codec's name as Python spells it, and `escape` is "" for none.
    delimiter: Annotated[str, AfterValidator(words.delimiter)] | None = key(examples=[";", "tab"])
    encoding: Annotated[Text, AfterValidator(words.encoding)] = key(
        "utf-8", examples=["utf-8", "latin-1", "cp1252"]
    )
    quote: words.QuoteSign = '"'
    # Two quotes stand for one anyway.
    escape: Annotated[
        str,
        optional(words.EscapeSign, ""),
        AfterValidator(lambda escape, info: "" if escape == info.data.get("quote") else escape),
    ] = key("", examples=["\\"])
    header: _Header = None
    skip_rows: _Lines = 0


@dataclass(frozen=True, slots=True)
class ExcelOptions:
    """Where the rows of a workbook stand.

    - header: For sheets without a header: the names of the columns, or false for `1`, `2`, ...
    - skip_rows: How many rows of the sheet stand above the header, or above the rows of one without a header.
    - sheet: Which sheet is read; the same as `sheet` of the job.
    """

    __pydantic_config__ = SECTION

    header: _Header = None
    skip_rows: _Lines = 0
    # Usually a key of the job.
    sheet: Text | None = key(examples=["Users"])


def with_sheet(excel: ExcelOptions, info: ValidationInfo) -> ExcelOptions:
    """Add the job's own `sheet`."""
    sheet = (info.context or {})["sheet"]
    if sheet is not None and excel.sheet is not None:
        raise ValueError("has a `sheet`, and the job has one, too: take one of them out")
    return excel if sheet is None else replace(excel, sheet=sheet)


class FileOptions(TypedDict, total=False):
    """The sections that say how files are written, as the arguments of `open_source` that they are."""

    csv: CsvOptions
    excel: ExcelOptions


# --- where identifications go, and when ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Destination:
    """Where identifications go.

    - region: The project's region, us or eu, or a base URL. ${VAR} is expanded.
    - transport: How: identify is the Identify API; batch is $identify events over the Batch API, each counted
      once.
    - trust_status: Takes any 2xx for an acceptance, whatever its body says; only with the base URL of your
      own relay.
    - secret_key_env: The environment variable that holds the secret key; `verify` reads users back with it.
    - secret_key_file: The file that holds the secret key, relative to this file.
    """

    __pydantic_config__ = SECTION

    # Once read, `endpoint` is a base URL without a slash at its end.
    endpoint: Annotated[Text, AfterValidator(words.expanded), AfterValidator(words.endpoint)] = key(
        "us", alias="region", validate_default=True, examples=["us", "eu", "http://127.0.0.1:8080"]
    )
    transport: TransportName = "identify"
    trust_status: Flag = False
    secret_key_env: words.VariableName = "AMPLITUDE_SECRET_KEY"  # noqa: S105 - the name of a variable
    secret_key_file: Text | None = None


@dataclass(frozen=True, slots=True)
class Changes:
    """What counts as a change since the last run.

    - by: What is compared, and sent where it changed.
    - ignore: Columns whose change alone is not a reason to send.
    """

    __pydantic_config__ = SECTION

    # property: only the properties that changed are sent; user: all of a user whose row changed; off:
    # everything, and no snapshot is kept.
    by: ChangesBy = "property"
    ignore: Annotated[tuple[Text, ...], AfterValidator(lambda names: tuple(sorted(names)))] = key(
        (), examples=[["last_login_at"]]
    )
    # unset: the job's properties are unset for users of the snapshot who aren't in the export. In the file it
    # is a key of the job, and none of this section.
    absent: Annotated[Absent, SkipJsonSchema(), Field(init=False)] = "keep"


# --- options of the command `run`, with underscores for hyphens ------------------------------------------


# A number of a program's data as a file would have it.
_AS_TEXT: Final = BeforeValidator(
    lambda value: str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
)


def _file_type(kind: str) -> Any:
    """The type of an option of this kind in a file."""
    if kind == "url":
        return Annotated[Text, AfterValidator(words.endpoint)]
    if kind in PATTERNS:
        form = {"type": "string"} if kind == "list" else {"type": ["string", "number"]}
        return Annotated[str, _AS_TEXT, matching(*PATTERNS[kind]), WithJsonSchema(form)]
    if "|" in kind:
        choices = kind.split("|")
        enum = [*choices, *map(int, filter(str.isdigit, choices))]
        return Annotated[Literal[*choices], _AS_TEXT, WithJsonSchema({"enum": enum})]
    return Flag if kind == "flag" else Text


_RUN: Final = "Options of the command; None where the file has none. Paths are relative to the file."
RunOptions: Final = keyed_section(
    "RunOptions",
    f"{_RUN}\n\n{run_options.__doc__}",
    {name: _file_type(one.kind) for name, one in RUN_OPTIONS.items()},
)
