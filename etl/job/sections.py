"""The sections of a job file beside `identification`: what stands under `csv`, `excel`, `destination`, ...

A new key of a section is a field here, with its type, its default, and the text that editors show.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic.json_schema import SkipJsonSchema

from ..amplitude.limits import TransportName
from . import words
from .words import SECTION, Flag, Text, key, matching, optional

ChangesBy: TypeAlias = Literal["property", "user", "off"]
Absent: TypeAlias = Literal["keep", "unset"]
Expanded: TypeAlias = Annotated[Text, AfterValidator(words.expanded), StringConstraints(min_length=1)]

# --- how the files of a source are written ---------------------------------------------------------------

_Header: TypeAlias = Annotated[
    tuple[Text, ...] | Literal[False] | None,
    PlainValidator(words.csv_header, list[Text] | Literal[False]),
    Field(examples=[["id", "plan"], False]),
]
_Lines: TypeAlias = Annotated[int, BeforeValidator(words.line_count, int)]


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """How CSV files are written; Parquet and NDJSON need none of it."""

    __pydantic_config__ = SECTION

    # Once read, `encoding` is the codec's name as Python spells it, and `escape` is "" for none.
    delimiter: Annotated[str, AfterValidator(words.delimiter)] | None = key(
        "One character or `tab`; by default the likeliest of , ; tab |.", examples=[";", "tab"]
    )
    encoding: Annotated[Text, AfterValidator(words.encoding)] = key(
        "The text encoding.", "utf-8", examples=["utf-8", "latin-1", "cp1252"]
    )
    quote: words.QuoteSign = key("The sign around fields.", '"')
    # Two quotes stand for one anyway.
    escape: Annotated[
        str,
        optional(words.EscapeSign, ""),
        AfterValidator(lambda escape, info: "" if escape == info.data.get("quote") else escape),
    ] = key(
        "The character that stands before quotes, itself, delimiters and line ends in values.",
        "",
        examples=["\\"],
    )
    header: _Header = key("For files without a header: the names of the columns, or false for `1`, `2`, ...")
    skip_rows: _Lines = key(
        "How many lines stand above the header, or above the rows of a file without one.", 0
    )


@dataclass(frozen=True, slots=True)
class ExcelOptions:
    """Where the rows of a workbook stand."""

    __pydantic_config__ = SECTION

    header: _Header = key("For sheets without a header: the names of the columns, or false for `1`, `2`, ...")
    skip_rows: _Lines = key(
        "How many rows of the sheet stand above the header, or above the rows of one without a header.", 0
    )
    # Usually a key of the job.
    sheet: Text | None = key("Which sheet is read; the same as `sheet` of the job.", examples=["Users"])


def with_sheet(excel: ExcelOptions, info: ValidationInfo) -> ExcelOptions:
    """Add the job's own `sheet`."""
    sheet = (info.context or {})["sheet"]
    if sheet is not None and excel.sheet is not None:
        raise ValueError("has a `sheet`, and the job has one, too: take one of them out")
    return excel if sheet is None else replace(excel, sheet=sheet)


# --- where identifications go, and when ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Destination:
    """Where identifications go."""

    __pydantic_config__ = SECTION

    # Once read, `endpoint` is a base URL without a slash at its end.
    endpoint: Annotated[Text, AfterValidator(words.expanded), AfterValidator(words.endpoint)] = key(
        "The project's region, us or eu, or a base URL. ${VAR} is expanded.",
        "us",
        alias="region",
        validate_default=True,
        examples=["us", "eu", "http://127.0.0.1:8080"],
    )
    transport: TransportName = key(
        "How: identify is the Identify API; batch is $identify events over the Batch API, each counted once.",
        "identify",
    )
    trust_status: Flag = key(
        "Takes any 2xx for an acceptance, whatever its body says; only with the base URL of your own relay.",
        False,
    )
    secret_key_env: words.VariableName = key(
        "The environment variable that holds the secret key; `verify` reads users back with it.",
        "AMPLITUDE_SECRET_KEY",
    )
    secret_key_file: Text | None = key("The file that holds the secret key, relative to this file.")


@dataclass(frozen=True, slots=True)
class Changes:
    """What counts as a change since the last run."""

    __pydantic_config__ = SECTION

    # property: only the properties that changed are sent; user: all of a user whose row changed; off:
    # everything, and no snapshot is kept.
    by: ChangesBy = key("What is compared, and sent where it changed.", "property")
    ignore: Annotated[tuple[Text, ...], AfterValidator(lambda names: tuple(sorted(names)))] = key(
        "Columns whose change alone is no reason to send.", (), examples=[["last_login_at"]]
    )
    # unset: the job's properties are unset for users of the snapshot who aren't in the export. In the file it
    # is a key of the job, and none of this section.
    absent: Annotated[Absent, SkipJsonSchema(), Field(init=False)] = "keep"


# --- options of the command `run`, with underscores for hyphens ------------------------------------------

_SHARE = r"(100|\d{1,2}(\.\d+)?)\s*%"


# A number of a program's data is as a file would have it.
_Scalar: Final = BeforeValidator(lambda given: str(given) if type(given) in {int, float} else given)
_Word: TypeAlias = Annotated[str, _Scalar, WithJsonSchema({"type": ["string", "number"]})]
_Rate: TypeAlias = Annotated[
    _Word, matching(r"max|(?=.*[1-9])\d+(\.\d+)?", "must be a number above 0, or `max`")
]
_Count: TypeAlias = Annotated[_Word, matching(r"[1-9]\d*", "must be a whole number above 0")]
_Percent: TypeAlias = Annotated[_Word, matching(_SHARE, "must be a share such as 50%")]
_Rows: TypeAlias = Annotated[
    _Word, matching(rf"\d+|{_SHARE}", "must be rows such as 100, or a share such as 1%")
]
_Duration: TypeAlias = Annotated[
    _Word, matching(r"\d+(\.\d+)?(ms|s|m|h|)", "must be a duration such as 90s, 30m or 2h")
]
_RejectsFile: TypeAlias = Annotated[
    Text, matching(r"(?i).*\.(csv|ndjson)", "must be the name of a file that ends in .csv or .ndjson")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of the command; None where the file has none. Paths are relative to the file."""

    __pydantic_config__ = SECTION

    endpoint: Annotated[Text, AfterValidator(words.endpoint)] | None = key(
        "Base URL to use instead of the job's region."
    )
    rate: _Rate | None = key("Identifications per second; max: as many as are accepted.")
    requests_per_second: _Rate | None = key("Requests per second; max: no limit.")
    batch_size: _Count | None = key("Most identifications in one request.")
    concurrency: _Count | None = key("Most requests in flight at once.")
    max_rejects: _Rows | None = key("Stop if more rows, or a larger share of the rows, are rejected.")
    accept_rejects: Flag | None = key("A run that finishes exits with 0, also if rows were rejected.")
    max_outage: _Duration | None = key("Stop if the destination is unavailable for longer.")
    max_changes: _Percent | None = key("Stop before sending if a larger share of the known users changed.")
    max_absent: _Percent | None = key(
        "With absent: unset, stop before sending if a larger share of the known users is missing."
    )
    min_rows: _Rows | None = key(
        "Stop before sending if the source has fewer rows, or a smaller share of the last run's."
    )
    on_source_change: Literal["stop", "restart"] | None = key(
        "If an unfinished run has another source, job or destination: stop, or restart."
    )
    restart: Flag | None = key("Give up an unfinished run, keep what it had accepted, and start over.")
    full: Flag | None = key("Send every row, also those that are unchanged since the last run.")
    again: Flag | None = key("Send the source of the last run again, although the job counts.")
    limit: _Count | None = key("Send only the first rows, so many; the next run sends the rest.")
    plan: Text | None = key("Send exactly what a plan of check --save says, or nothing.")
    retry_wait: _Duration | None = key("Pause after a first failed try.")
    throttle_wait: _Duration | None = key("Pause after a 429 without Retry-After.")
    processes: Annotated[Literal["1", "2"], _Scalar, WithJsonSchema({"enum": ["1", "2", 1, 2]})] | None = key(
        "Read and send in one process, or in two."
    )
    allow_http: Flag | None = key("Allow the API key to be sent over plain HTTP to another machine.")
    state_dir: Text | None = key("Folder of the checkpoint and the rejects.")
    dry_run: Flag | None = key("Send nothing; show what the run would do.")
    json: Flag | None = key("Print the summary as one JSON object.")
    report: Text | None = key("Write an HTML page about the run to this file.")
    mask: Flag | None = key("Leave ids and values of users out of the page.")
    rejects: _RejectsFile | None = key("Write the rejects to this file, CSV or NDJSON by its name.")
    metrics_file: Text | None = key("Write Prometheus metrics to this file.")
    notify: Text | None = key("Tell a monitor, a webhook or a person of each run, by URL.")
    notify_when: Literal["change", "always", "failure"] | None = key(
        "Tell of changes between success and failure, of each run, or of each failure."
    )
    log_format: Literal["text", "json"] | None = key("Log lines instead of the progress bar.")
