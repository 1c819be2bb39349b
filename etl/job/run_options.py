"""The options of a run, each once: for the command line, for variables of the environment, for a job file.

The help of each stands here by its key in a job file, which is the option's name with underscores.

- endpoint: Base URL to use instead of the job's region.
- rate: Identifications per second; max: as many as are accepted.
- requests_per_second: Requests per second; max: no limit.
- batch_size: Most identifications in one request; 500 by default, 2000 with `transport: batch`.
- concurrency: Most requests in flight at once.
- max_rejects: Stop (exit 4) if more than N rows, or P% of the rows, are rejected.
- accept_rejects: Exit with 0 if the run finishes, also if rows were rejected.
- limit: Send only the first N rows of the source; the next run without it sends the rest.
- plan: Send exactly what a plan of `check --save` says, or nothing (exit 4).
- max_outage: Stop (exit 5) if the destination is unavailable for longer.
- on_source_change: If an unfinished run has another source, job or destination: stop (exit 7), or restart,
  which keeps what it had accepted.
- restart: Give up the unfinished run, keep what it had accepted, and start over.
- retry_wait: Pause after a first failed try; it grows with each further one.
- throttle_wait: Pause after a 429 without Retry-After.
- processes: Read and send in one process, or in two.
- allow_http: Allow the API key to be sent over plain HTTP to another machine.
- full: Send every row, also those that are unchanged since the last run.
- min_rows: Stop (exit 4) before sending if the source has fewer rows than N, or than P% of the last run's; 0:
  no minimum.
- again: Send the source of the last run again, although the job has $add, $append or $prepend.
- max_changes: Stop (exit 4) before sending if more than P% of the known users changed.
- max_absent: With `absent: unset`: stop (exit 4) before sending if more than P% of the known users are
  missing.
- state_dir: Folder of the checkpoint and the rejects.
- dry_run: Send nothing; show what the run would do, as `check` does.
- json: Print the summary as one JSON object on stdout.
- report: Write an HTML page about the run, or about the plan of a dry run.
- mask: Keep no examples of rejects, nor words that may quote rows, on the page or in the record.
- rejects: Write the rejects to this file: CSV for a spreadsheet, or NDJSON.
- metrics_file: Write Prometheus metrics to this file.
- notify: Tell a monitor: the summary as JSON to URL/start, then to URL, or to URL/fail. With
  webhook+https://...: a message as JSON, for Slack and others. Other kinds of URL: by Apprise.
- notify_when: Tell of the first failure and of the first success after it, of each run, or of each failure.
- log_format: Log lines instead of the progress bar.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_SHARE: Final = r"(?:100(?:\.0+)?|\d{1,2}(?:\.\d+)?)\s*%"
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
    """An option: what it takes, its default, the highest number, what stands for a default, and its help.

    A kind is one of `PATTERNS`, "flag", "target", "url", "file", "output", "page", "folder", or words to
    choose from, with `|`. `usual` says in words what happens without the option.
    """

    kind: str
    default: str | int | None = None
    most: int | None = None
    usual: str = ""
    text: str = ""


_TEXTS: Final = dict(re.findall(r"^- (\w+): (.+(?:\n  .+)*)", __doc__ or "", re.MULTILINE))
_TABLE: Final = {
    "endpoint": RunOption("url"),
    "rate": RunOption("rate", "1000"),
    "requests_per_second": RunOption("rate", usual="100; max with --rate max"),
    "batch_size": RunOption("count", None, most=2000),
    "concurrency": RunOption("count", 8, most=1000),
    "max_rejects": RunOption("reject limit"),
    "accept_rejects": RunOption("flag"),
    "limit": RunOption("count"),
    "plan": RunOption("file"),
    "max_outage": RunOption("duration", "30m"),
    "on_source_change": RunOption(
        "stop|restart", usual="restart; stop if the job has $add, $append or $prepend"
    ),
    "restart": RunOption("flag"),
    "retry_wait": RunOption("seconds", "1"),
    "throttle_wait": RunOption("seconds", usual="15; 30 with `transport: batch`"),
    "processes": RunOption("1|2", usual="the faster"),
    "allow_http": RunOption("flag"),
    "full": RunOption("flag"),
    "min_rows": RunOption("row minimum", usual="1 if the last run had rows"),
    "again": RunOption("flag"),
    "max_changes": RunOption("share", usual="90% if at least 1000 are known and the job is the same"),
    "max_absent": RunOption("share", usual="10% if at least 10 are known"),
    "state_dir": RunOption("folder", usual=".propsync/NAME beside the job file"),
    "dry_run": RunOption("flag"),
    "json": RunOption("flag"),
    "report": RunOption("page"),
    "mask": RunOption("flag"),
    "rejects": RunOption("list"),
    "metrics_file": RunOption("output"),
    "notify": RunOption("target"),
    "notify_when": RunOption("change|always|failure", usual="always; change for messages"),
    "log_format": RunOption("text|json"),
}
RUN_OPTIONS: Final = {
    name: one._replace(text=" ".join(_TEXTS.get(name, "").split())) for name, one in _TABLE.items()
}
