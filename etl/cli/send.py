"""`propsync run`: the job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from etl.cli.arguments import (
    JOB,
    SOURCES,
    care_options,
    load,
    pace_options,
    settings_of,
    snapshot_options,
    state_options,
)
from etl.cli.invocation import Invocation, pass_invocation
from etl.cli.plan import plan_page_of, show_plan
from etl.cli.run_end import Channels, RunCommand, RunEnd
from etl.errors import ExitCode
from etl.interrupts import release

if TYPE_CHECKING:
    from etl.job import Job
    from etl.pipeline import Settings
    from etl.reader import Source


@click.command(
    cls=RunCommand,
    epilog="\b\nExamples\n"
    "  AMPLITUDE_API_KEY=... propsync run job.yml\n"
    "  propsync run job.yml exports/2024-05-01.parquet --max-rejects 1%\n"
    "  propsync run job.yml .propsync/job/rejects.ndjson    (rejects, once fixed)\n"
    "  propsync run job.yml --endpoint http://127.0.0.1:8900 --rate max    (to a sandbox)",
)
@JOB
@SOURCES
@pace_options
@care_options
@snapshot_options
@state_options
@click.option("--dry-run", is_flag=True, help="Send nothing: say what the run would do, as `check` does.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on stdout.")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write a page about the run, or with --dry-run about what it would do.",
)
@click.option(
    "--metrics-file", type=click.Path(path_type=Path), metavar="FILE", help="Keep Prometheus metrics there."
)
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), help="Log lines in place of the progress bar."
)
@pass_invocation
def run(
    invocation: Invocation,
    /,
    job: Path,
    sources: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
    report: Path | None,
    metrics_file: Path | None,
    log_format: str | None,
    **flags: Any,
) -> int:
    """Send the source as the JOB file says. The same command again takes up an unfinished run.

    The API key comes from AMPLITUDE_API_KEY, or from where the job file says. Rejected rows are kept in
    rejects.ndjson in the state folder; once fixed, that file is a source.
    """
    channels = Channels(as_json, report, metrics_file, log_format)
    with RunEnd(invocation, channels, job) as end:
        end.open(dry_run=dry_run)
        # A signal while these are imported waits for `release`: half a library is no use for the rest.
        import etl.job
        import etl.pipeline
        import etl.reader

        release()
        loaded, source = load(job, sources)
        settings = settings_of(handle_signals=True, **flags)
        if dry_run:
            end.exit_code = _try(invocation, channels, loaded, source, settings)
        else:
            end.state_dir, end.repeatable = settings.state_dir or loaded.state_dir, source.repeatable
            key = etl.job.read_api_key(loaded, os.environ)
            etl.pipeline.run_job(loaded, source, key, settings=settings, listener=end)
    return end.exit_code


def _try(
    invocation: Invocation, channels: Channels, job: Job, source: Source, settings: Settings
) -> ExitCode:
    """Do all but send, and show what the run would do."""
    from etl.listeners.whole_file import write_whole
    from etl.pipeline import forecast

    found = forecast(job, source, settings=settings)
    show_plan(found, as_json=channels.as_json)
    if channels.report is not None:
        write_whole(channels.report, plan_page_of(found))
    if channels.metrics_file is not None:
        message = f"{channels.metrics_file} stays as it is: a dry run is no run of the job"
        invocation.tell("warned", f"warning: {message}", code="dry_run", message=message)
    if found.refused is not None:
        raise found.refused
    return ExitCode.REJECTS if found.tally.rejected else ExitCode.DONE
