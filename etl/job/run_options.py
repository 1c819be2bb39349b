"""The options of a run, each once: for the command line, for variables of the environment, for a job file."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

_SHARE: Final = r"(?:100|\d{1,2}(?:\.\d+)?)\s*%"
_ROWS: Final = rf"(?a)\d+|{_SHARE}", "must be rows such as 100, or a share such as 1%"
_DURATION: Final = r"(?a)(\d+(?:\.\d+)?)(ms|s|m|h|)", "must be a duration such as 90s, 30m or 2h"
# How the text of an option must be written, by its kind; and what a message says of another one.
PATTERNS: Final = {
    "rate": (r"(?a)max|(?=.*[1-9])\d+(\.\d+)?", "must be a number above 0, or `max`"),
    "count": (r"(?a)[1-9]\d*", "must be a whole number above 0"),
    "share": (rf"(?a){_SHARE}", "must be a share such as 50%"),
    "reject limit": _ROWS,
    "row minimum": _ROWS,
    "duration": _DURATION,
    "seconds": _DURATION,
    "list": (r"(?i).*[^/]\.(csv|ndjson)", "must be the name of a file that ends in .csv or .ndjson"),
}


class RunOption(NamedTuple):
    """An option: what it takes, its help, its default, and the highest number.

    A kind is one of `PATTERNS`, "flag", "target", "url", "file", "page", "folder", or words to choose from,
    with `|`.
    """

    kind: str
    text: str
    default: str | int | None = None
    most: int | None = None


# By key of a job file, which is the name of the option with underscores.
# fmt: off
_TABLE: Final[dict[str, tuple[Any, ...]]] = {
    "endpoint": ("url", "Base URL to use instead of the job's region."),
    "rate": ("rate", "Identifications per second; max: as many as are accepted.", "1000"),
    "requests_per_second": (
        "rate", "Requests per second; max: no limit.  [default: 100; max with --rate max]"),
    "batch_size": (
        "count", "Most identifications in one request; 500 by default, 2000 with `transport: batch`.",
        None, 2000),
    "concurrency": ("count", "Most requests in flight at once.", 8, 1000),
    "max_rejects": ("reject limit", "Stop (exit 4) if more than N rows, or P% of the rows, are rejected."),
    "accept_rejects": ("flag", "Exit with 0 if the run finishes, also if rows were rejected."),
    "limit": ("count", "Send only the first N rows of the source; the next run without it sends the rest."),
    "plan": ("file", "Send exactly what a plan of `check --save` says, or nothing (exit 4)."),
    "max_outage": ("duration", "Stop (exit 5) if the destination is unavailable for longer.", "30m"),
    "on_source_change": (
        "stop|restart",
        "If an unfinished run has another source, job or destination: stop (exit 7), or restart, which keeps "
        "what it had accepted.  [default: restart; stop if the job has $add, $append or $prepend]"),
    "restart": ("flag", "Give up the unfinished run, keep what it had accepted, and start over."),
    "retry_wait": ("seconds", "Pause after a first failed try; it grows with each further one.", "1"),
    "throttle_wait": (
        "seconds", "Pause after a 429 without Retry-After.  [default: 15; 30 with `transport: batch`]"),
    "processes": ("1|2", "Read and send in one process, or in two.  [default: the faster]"),
    "allow_http": ("flag", "Allow the API key to be sent over plain HTTP to another machine."),
    "full": ("flag", "Send every row, also those that are unchanged since the last run."),
    "min_rows": (
        "row minimum",
        "Stop (exit 4) before sending if the source has fewer rows than N, or than P% of the last run's; 0: "
        "no minimum.  [default: 1 if the last run had rows]"),
    "again": (
        "flag", "Send the source of the last run again, although the job has $add, $append or $prepend."),
    "max_changes": (
        "share",
        "Stop (exit 4) before sending if more than P% of the known users changed.  [default: 90% if at least "
        "1000 are known and the job is the same]"),
    "max_absent": (
        "share",
        "With `absent: unset`: stop (exit 4) before sending if more than P% of the known users are missing.  "
        "[default: 10% if at least 10 are known]"),
    "state_dir": (
        "folder", "Folder of the checkpoint and the rejects.  [default: .propsync/NAME beside the job file]"),
    "dry_run": ("flag", "Send nothing; show what the run would do, as `check` does."),
    "json": ("flag", "Print the summary as one JSON object on stdout."),
    "report": ("page", "Write an HTML page about the run, or about the plan of a dry run."),
    "mask": (
        "flag", "Keep no examples of rejects, nor words that may quote rows, on the page or in the record."),
    "rejects": ("list", "Write the rejects to this file: CSV for a spreadsheet, or NDJSON."),
    "metrics_file": ("file", "Write Prometheus metrics to this file."),
    "notify": (
        "target",
        "Tell a monitor: the summary as JSON to URL/start, then to URL, or to URL/fail. With webhook+https://"
        "...: a message as JSON, for Slack and others. Other kinds of URL: by Apprise."),
    "notify_when": (
        "change|always|failure",
        "Tell of the first failure and of the first success after it, of each run, or of each failure.  "
        "[default: always; change for messages]"),
    "log_format": ("text|json", "Log lines instead of the progress bar."),
}
# fmt: on
RUN_OPTIONS: Final = {name: RunOption(*row) for name, row in _TABLE.items()}
