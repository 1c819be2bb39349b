"""The calls that the command makes, for scripts and notebooks; `etl` and `propsync` export them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Unpack

    from .job.spec import Job
    from .pipeline.diff_base import Recorded
    from .pipeline.plan import Plan
    from .pipeline.preview import Explanation
    from .pipeline.settings import Options, Settings
    from .readback import Verified
    from .reader import Source
    from .run_events import Listener, Summary

__version__: str

# Imported when they are first asked for: the command shows its help without them.
_OF_RUNS: Final = {"Explanation": "preview", "Plan": "plan", "Recorded": "diff_base"}
_HOMES = {"EtlError": ".errors", "Job": ".job.spec", "Summary": ".run_events", "Verified": ".readback"}
_HOMES |= {name: f".pipeline.{module}" for name, module in _OF_RUNS.items()}
_HOMES |= dict.fromkeys(("RejectLimit", "RowMinimum", "Settings"), ".pipeline.settings")

__all__ = ["__version__", "baseline", "explain", "plan", "preview", "run", "verify", *_HOMES]


def run(
    job: Job,
    source: object = None,
    *,
    key: str | None = None,
    listener: Listener | None = None,
    settings: Settings | None = None,
    **options: Unpack[Options],
) -> Summary:
    """Send a source as the job says, resuming an unfinished run; the summary counts the whole job.

    `source` None is the job's own. `key` None: from where the job says it is. A notebook shows the progress
    unless there is a `listener`. `options` are the fields of `Settings` (endpoint, rate, concurrency,
    batch_size, state_dir, restart ...); they change `settings`. Raises EtlError where the run can't begin or
    can't go on.
    """
    from .job.known_job import read_api_key
    from .pipeline.run import no_listener, run_job

    if listener is None and "ipykernel" in sys.modules:
        from .listeners.display import NotebookListener

        listener = NotebookListener()
    opened, settings = _open(job, source), _settings(settings, options)
    key = read_api_key(job, os.environ) if key is None else key
    return run_job(job, opened, key, settings=settings, listener=listener or no_listener)


def plan(
    job: Job, source: object = None, *, settings: Settings | None = None, **options: Unpack[Options]
) -> Plan:
    """Plan a run: what changed, rejects by reason, requests, bytes, seconds. Sends nothing."""
    from .pipeline.plan import plan_job

    return plan_job(job, _open(job, source), settings=_settings(settings, options))


def baseline(
    job: Job, source: object = None, *, settings: Settings | None = None, **options: Unpack[Options]
) -> Recorded:
    """Record a source as sent, without sending it, so that the next run sends only what changed since."""
    from .pipeline.diff_base import record_baseline

    return record_baseline(job, _open(job, source), settings=_settings(settings, options))


def explain(
    job: Job,
    user: str,
    source: object = None,
    *,
    settings: Settings | None = None,
    **options: Unpack[Options],
) -> Explanation:
    """Explain how one user's rows are mapped and compared, and what a run would send. Reads all rows."""
    from .pipeline.preview import explain_user

    return explain_user(job, _open(job, source), user, settings=_settings(settings, options))


def preview(job: Job, source: object = None, *, count: int = 5) -> Iterator[str]:
    """The first identifications as JSON text, one each."""
    from .pipeline.preview import preview_rows

    return preview_rows(job, _open(job, source), count=count)


def verify(
    job: Job,
    source: object = None,
    *,
    secret_key: str | None = None,
    sample: int = 400,
    seed: int | None = None,
    rate: float = 600.0,
    settle: float = 60.0,
    endpoint: str | None = None,
    state_dir: Path | None = None,
) -> Verified:
    """Read random users of a source back from Amplitude and compare them with what its rows leave.

    `rate` is in reads a minute; what was sent less than `settle` seconds ago is waited for. `secret_key`
    None: from where the job says it is. Raises EtlError where nothing can be read back.
    """
    from .job.known_job import read_secret_key
    from .readback import verify_job

    key = read_secret_key(job, os.environ) if secret_key is None else secret_key
    return verify_job(
        job,
        _open(job, source),
        key,
        sample=sample,
        seed=seed,
        rate=rate,
        settle=settle,
        endpoint=endpoint,
        state_dir=state_dir,
    )


def _settings(settings: Settings | None, options: Options) -> Settings:
    from dataclasses import replace

    from .pipeline.settings import Settings

    return Settings(**options) if settings is None else replace(settings, **options)


def _open(job: Job, source: object) -> Source:
    from .reader import open_source

    if source is None:
        return open_source(job.source, folder=job.folder, **job.file_options)
    locations = source if isinstance(source, list | tuple) else [source]
    return open_source(locations, **job.file_options)


if not TYPE_CHECKING:  # which knows the names, and no others

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("propsync")
        if name in _HOMES:
            return getattr(import_module(_HOMES[name], __package__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
