"""The section `run` of a job file: options of the command `run`, with underscores for hyphens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from . import words
from .words import SECTION, Flag, Text, matching

_SHARE = r"(100|\d{1,2}(\.\d+)?)\s*%"


def _as_text(value: object) -> object:
    """A number of a program's data as a file would have it."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


_Scalar = BeforeValidator(_as_text)
_Schema = WithJsonSchema({"type": ["string", "number"]})
_Rate: TypeAlias = Annotated[
    str, _Scalar, matching(r"max|(?=.*[1-9])\d+(\.\d+)?", "must be a number above 0, or `max`"), _Schema
]
_Count: TypeAlias = Annotated[str, _Scalar, matching(r"[1-9]\d*", "must be a whole number above 0"), _Schema]
_Percent: TypeAlias = Annotated[str, _Scalar, matching(_SHARE, "must be a share such as 50%"), _Schema]
_Rows: TypeAlias = Annotated[
    str, _Scalar, matching(rf"\d+|{_SHARE}", "must be rows such as 100, or a share such as 1%"), _Schema
]
_Duration: TypeAlias = Annotated[
    str, _Scalar, matching(r"\d+(\.\d+)?(ms|s|m|h|)", "must be a duration such as 90s, 30m or 2h"), _Schema
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of the command; None where the file has none. Paths are relative to the file."""

    __pydantic_config__ = SECTION

    endpoint: Annotated[Text, AfterValidator(words.endpoint)] | None = None
    """Base URL to use instead of the job's region."""
    rate: _Rate | None = None
    """Identifications per second; max: as many as are accepted."""
    requests_per_second: _Rate | None = None
    """Requests per second; max: no limit."""
    batch_size: _Count | None = None
    """Most identifications in one request."""
    concurrency: _Count | None = None
    """Most requests in flight at once."""
    max_rejects: _Rows | None = None
    """Stop if more rows, or a larger share of the rows, are rejected."""
    accept_rejects: Flag | None = None
    """A run that finishes exits with 0, also if rows were rejected."""
    max_outage: _Duration | None = None
    """Stop if the destination is unavailable for longer."""
    max_changes: _Percent | None = None
    """Stop before sending if a larger share of the known users changed."""
    max_absent: _Percent | None = None
    """With absent: unset, stop before sending if a larger share of the known users is missing."""
    min_rows: _Rows | None = None
    """Stop before sending if the source has fewer rows, or a smaller share of the last run's."""
    on_source_change: Literal["stop", "restart"] | None = None
    """If an unfinished run has another source, job or destination: stop, or restart."""
    restart: Flag | None = None
    """Give up an unfinished run, keep what it had accepted, and start over."""
    full: Flag | None = None
    """Send every row, also those that are unchanged since the last run."""
    again: Flag | None = None
    """Send the source of the last run again, although the job counts."""
    limit: _Count | None = None
    """Send only the first rows, so many; the next run sends the rest."""
    plan: Text | None = None
    """Send exactly what a plan of check --save says, or nothing."""
    retry_wait: _Duration | None = None
    """Pause after a first failed try."""
    throttle_wait: _Duration | None = None
    """Pause after a 429 without Retry-After."""
    processes: Annotated[Literal["1", "2"], _Scalar, WithJsonSchema({"enum": ["1", "2", 1, 2]})] | None = None
    """Read and send in one process, or in two."""
    allow_http: Flag | None = None
    """Allow the API key to be sent over plain HTTP to another machine."""
    state_dir: Text | None = None
    """Folder of the checkpoint and the rejects."""
    dry_run: Flag | None = None
    """Send nothing; show what the run would do."""
    json: Flag | None = None
    """Print the summary as one JSON object."""
    report: Text | None = None
    """Write an HTML page about the run to this file."""
    mask: Flag | None = None
    """Leave ids and values of users out of the page."""
    rejects: (
        Annotated[
            Text, matching(r"(?i).*\.(csv|ndjson)", "must be the name of a file that ends in .csv or .ndjson")
        ]
        | None
    ) = None
    """Write the rejects to this file, CSV or NDJSON by its name."""
    metrics_file: Text | None = None
    """Write Prometheus metrics to this file."""
    notify: Text | None = None
    """Tell a monitor, a webhook or a person of each run, by URL."""
    notify_when: Literal["change", "always", "failure"] | None = None
    """Tell of changes between success and failure, of each run, or of each failure."""
    log_format: Literal["text", "json"] | None = None
    """Log lines instead of the progress bar."""
