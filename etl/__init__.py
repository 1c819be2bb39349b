"""propsync: user properties from CSV and Parquet exports into Amplitude.

The same calls that the command makes, for scripts and notebooks:

    from etl import load_job, run

    job = load_job("job.yml")
    summary = run(job, dataframe, endpoint="http://127.0.0.1:8080", rate=None)

A source may be a path, a glob, a list of these, a pandas DataFrame, or a pyarrow Table or RecordBatchReader.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from etl.job import Job
    from etl.model import Listener, Summary
    from etl.pipeline import Forecast
    from etl.reader import Source

__all__ = ["check", "load_job", "make_job", "preview", "run"]


def load_job(path: str | Path, *, environ: Mapping[str, str] | None = None) -> Job:
    """Read a job file. Raises JobError with all its faults, UsageError where it can't be read."""
    from etl.job import load_job as load

    return load(Path(path), environ=os.environ if environ is None else environ)


def make_job(data: Mapping[str, object], *, folder: str | Path = ".") -> Job:
    """Make a job of the plain data that a job file would hold. Raises JobError with all its faults."""
    from etl.job import job_from_dict

    return job_from_dict(data, folder=Path(folder))


def run(
    job: Job, source: object = None, *, key: str | None = None, listener: Listener | None = None, **settings: Any
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


def check(job: Job, source: object = None, **settings: Any) -> Forecast:
    """Say what `run` would do: counts, rejects by reason, requests, bytes, seconds. Sends nothing."""
    from etl.pipeline import Settings, forecast

    return forecast(job, _open(job, source), settings=Settings(**settings))


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
