"""The arguments and options that several commands share, and how they become a job and a source."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from etl.cli import pandas_import
from etl.cli.invocation import current
from etl.cli.values import duration, endpoint, per_second, percent, reject_limit, row_minimum
from etl.errors import UsageError

if TYPE_CHECKING:
    from etl.job import Job
    from etl.pipeline import Settings
    from etl.reader import Source

F = TypeVar("F", bound=Callable[..., Any])

JOB = click.argument("job", type=click.Path(path_type=Path))
SOURCES = click.argument("sources", nargs=-1, metavar="[SOURCE]...")

_STATE = (
    click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        help="Where checkpoint and rejects are kept.  [default: .propsync/NAME beside the job file]",
    ),
)
_SNAPSHOT = (
    click.option("--full", is_flag=True, help="Send every row, whatever earlier runs sent."),
    click.option(
        "--min-rows",
        type=row_minimum,
        metavar="N|P%",
        help="Stop (exit 4), before anything is sent, when the source has fewer rows, or a smaller share of "
        "the last run's; 0 for none.  [default: 1, where the last run had some]",
    ),
    click.option(
        "--again", is_flag=True, help="Send $add, $append and $prepend of the very source of the last run."
    ),
)
_PACE = (
    click.option("--endpoint", type=endpoint, metavar="URL", help="A base URL in place of the job's region."),
    click.option(
        "--rate",
        type=per_second,
        metavar="N|max",
        default="1000",
        show_default=True,
        help="Identifications a second; max for as many as are admitted.",
    ),
    click.option(
        "--requests-per-second",
        type=per_second,
        metavar="N|max",
        help="Requests a second; max for no limit.  [default: 100, with --rate max none]",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 2000),
        metavar="N",
        help="The most identifications of a request.  [default: 500, with `transport: batch` 2000]",
    ),
)
_CARE = (
    click.option(
        "--concurrency",
        type=click.IntRange(1, 1000),
        metavar="N",
        default=8,
        show_default=True,
        help="How many requests may be in flight.",
    ),
    click.option(
        "--max-rejects",
        type=reject_limit,
        metavar="N|P%",
        help="Stop (exit 4) when more rows, or a greater share, are rejected.",
    ),
    click.option(
        "--max-outage",
        type=duration,
        metavar="DURATION",
        default="30m",
        show_default=True,
        help="Stop (exit 5) when the destination is away for longer.",
    ),
    click.option(
        "--max-changes",
        type=percent,
        metavar="P%",
        help="Stop (exit 4), before anything is sent, when more of the known users changed.  [default: 90%, "
        "where a thousand are known and the job is the same]",
    ),
    click.option(
        "--max-absent",
        type=percent,
        metavar="P%",
        help="With `absent: unset`: stop (exit 4), before anything is sent, when more of the known users are "
        "missing.  [default: 10%, where ten are known]",
    ),
    click.option(
        "--on-source-change",
        type=click.Choice(["stop", "restart"]),
        help="What becomes of an unfinished run of another source, job or destination: stop (exit 7), or "
        "keep what it had accepted and begin.  [default: restart; with $add, $append or $prepend stop]",
    ),
    click.option(
        "--restart", is_flag=True, help="Give up the unfinished run, keep what it had accepted, and begin."
    ),
    click.option(
        "--retry-wait",
        type=duration,
        default="1",
        show_default=True,
        metavar="SECONDS",
        help="First pause after a failed try; it grows with each failure.",
    ),
    click.option(
        "--throttle-wait",
        type=duration,
        metavar="SECONDS",
        help="Pause after a 429 without Retry-After.  [default: 15, with `transport: batch` 30]",
    ),
    click.option(
        "--processes",
        type=click.Choice(["1", "2"]),
        help="Send from the process that reads, or from a second one.  [default: what is faster]",
    ),
    click.option("--allow-http", is_flag=True, help="Let the key go over plain http to another machine."),
)


def with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[F], F]:
    """A decorator that adds click options, shown in this order."""

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


_PROCESSES: dict[str | None, Literal[1, 2] | None] = {None: None, "1": 1, "2": 2}

state_options = with_options(_STATE)
snapshot_options = with_options(_SNAPSHOT)  # what decides which rows are sent
pace_options = with_options(_PACE)  # what decides requests and time
care_options = with_options(_CARE)  # what only a sending command needs


def load(job_file: Path, sources: tuple[str, ...]) -> tuple[Job, Source]:
    """The job, and its source opened; sources of the command line are relative to where it is given."""
    from etl.job import load_job
    from etl.reader import open_source

    job = load_job(job_file, environ=os.environ)
    current().know(job)
    if job.transform:
        pandas_import.let_in()
    if sources:
        source = open_source(sources, csv=job.csv, folder=Path())
    elif job.source:
        source = open_source(job.source, csv=job.csv, folder=job.folder)
    else:
        raise UsageError(f"{job_file} names no source", hint="add `source:` to it, or name one behind it")
    return job, source


def settings_of(
    *,
    rate: float,
    requests_per_second: float | None = None,
    retry_wait: float = 1.0,
    throttle_wait: float | None = None,
    max_rejects: Any = None,
    processes: str | None = None,
    **others: Any,
) -> Settings:
    """Flags to settings; without a limit on identifications there is none on requests unless named."""
    from etl.pipeline import RejectLimit, Settings
    from etl.sender import Waits

    requests = requests_per_second or (float("inf") if rate == float("inf") else None)
    settings = Settings(
        rate=_limited(rate),
        waits=Waits(retry=retry_wait, throttle=throttle_wait),
        max_rejects=max_rejects or RejectLimit(),
        processes=_PROCESSES[processes],
        **others,
    )
    return settings if requests is None else replace(settings, requests_per_second=_limited(requests))


def _limited(rate: float) -> float | None:
    return None if rate == float("inf") else rate
