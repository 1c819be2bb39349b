"""`propsync run`: send the source as the job file says."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from ...errors import EtlError
from ...process import release_signals
from .. import options
from ..console import Invocation, current
from ..options import command
from .check import run_dry


class _RunCommand(click.Command):
    """`run`, which also reports a command line that can't be read on the channels that it names."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line. Raises click.UsageError, or click.exceptions.Exit once that is reported."""
        words = list(args)
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            invocation = parent.find_object(Invocation) if parent else None
            if invocation is None:
                raise
            from ..reporter import Channels, RunReporter

            lenient = dict.fromkeys(("resilient_parsing", "ignore_unknown_options", "allow_extra_args"), True)
            given = super().make_context(info_name, words, parent, **lenient).params
            with RunReporter(invocation, Channels.take(given), given.get("job")) as reporter:
                with suppress(EtlError):  # the command line is reported, not a second fault
                    reporter.open(dry_run=bool(given.get("dry_run")))
                raise
            raise click.exceptions.Exit(reporter.exit_code) from error


@command("run", cls=_RunCommand, variables=True)
@options.JOB_AND_SOURCES
@options.run_options()
def run_command(job: Path, sources: tuple[str, ...], **flags: Any) -> int:
    """Send the source as the JOB file says. The same command again resumes an unfinished run.

    The API key is taken from AMPLITUDE_API_KEY, or from where the job file says. Rejected rows are kept in
    rejects.ndjson in the state folder; once they are fixed, that file is a source.

    Options may also stand in the job file, under `run`, or in variables such as PROPSYNC_RATE. The command
    line wins, then the variable.

    Examples
      AMPLITUDE_API_KEY=... propsync run job.yml
      propsync run job.yml exports/2024-05-01.parquet --max-rejects 1%
      propsync run job.yml --limit 100    (a canary; without it, the rest)
      propsync run job.yml --plan plan.json    (exactly that, or nothing)
      propsync run job.yml .propsync/job/rejects.ndjson    (rejects, once fixed)
      propsync run job.yml --endpoint http://127.0.0.1:8900    (to a sandbox)
    """
    from ..reporter import Channels, RunReporter

    with RunReporter(current(), Channels.take(flags.copy()), job) as reporter:
        # A signal during these imports waits for `release_signals`: half a library is of no use to the rest.
        try:
            loaded, flags = options.load_for_command(job, flags)
            options.check_outputs(flags, sources, loaded, job)
        finally:
            channels, dry_run = Channels.take(flags), flags.pop("dry_run")
            reporter.open(channels, dry_run=dry_run)
        if not dry_run:
            reporter.keep_history(flags["state_dir"] or loaded.state_dir)
        from ...job.known_job import read_api_key
        from ...pipeline.run import run_job

        release_signals()
        source = options.open_job_source(loaded, sources)
        settings = options.settings_of(handle_signals=True, **flags)
        if dry_run:
            reporter.exit_code = run_dry(loaded, source, settings, channels)
        else:
            reporter.repeatable = source.repeatable
            key = read_api_key(loaded, os.environ)
            gc.freeze()  # what is loaded by now stays: no need to look for garbage in it again and again
            run_job(loaded, source, key, settings=settings, listener=reporter)
    return reporter.exit_code
