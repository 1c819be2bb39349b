"""propsync: user properties from CSV and Parquet exports into Amplitude.

The same calls that the command makes, for scripts and notebooks:

    from etl import Job, run

    summary = run(Job.load("job.yml"), dataframe, endpoint="http://127.0.0.1:8080", rate=None)

A source may be a path, a glob, a DataFrame, an Arrow table, a stream or generator of these, or a list of all
that.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl.job import Job
    from etl.model import Listener, Summary
    from etl.pipeline import Forecast, Recorded
    from etl.reader import Source

__all__ = ["Job", "baseline", "plan", "preview", "run"]


def run(
    job: Job,
    source: object = None,
    *,
    key: str | None = None,
    listener: Listener | None = None,
    **settings: Any,
) -> Summary:
    """Send a source as the job says, taking up an unfinished run; the summary counts the whole job.

    `source` None is the job's own. `key` None: from where the job says it is. `settings` are the fields of
    `etl.pipeline.Settings`: endpoint, rate, concurrency, batch_size, state_dir, restart ...
    Raises EtlError (see `etl.errors`) where the run can't begin or can't go on.
    """
    from etl.job import read_api_key
    from etl.pipeline import Settings, run_job
    from etl.pipeline.run import ignore

    return run_job(
        job,
        _open(job, source),
        read_api_key(job, os.environ) if key is None else key,
        settings=Settings(**settings),
        listener=listener or ignore,
    )


def plan(job: Job, source: object = None, **settings: Any) -> Forecast:
    """Say what `run` would do: what changed, rejects by reason, requests, bytes, seconds. Sends nothing."""
    from etl.pipeline import Settings, forecast

    return forecast(job, _open(job, source), settings=Settings(**settings))


def baseline(job: Job, source: object = None, **settings: Any) -> Recorded:
    """Record a source as sent, without sending it, so that the next run sends only what changed since."""
    from etl.pipeline import Settings
    from etl.pipeline import baseline as record

    return record(job, _open(job, source), settings=Settings(**settings))


def preview(job: Job, source: object = None, *, count: int = 5) -> Iterator[str]:
    """The first identifications as JSON text, one each."""
    from etl.pipeline import preview as first

    return first(job, _open(job, source), count=count)


def _open(job: Job, source: object) -> Source:
    from etl.reader import open_source

    if source is None:
        return open_source(job.source, csv=job.csv, folder=job.folder)
    locations = source if isinstance(source, list | tuple) else [source]
    return open_source(locations, csv=job.csv)


def __getattr__(name: str) -> object:
    """Import `Job` when it is first asked for: the command line has no use for it to show its help."""
    if name == "Job":
        from etl.job import Job

        return Job
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
