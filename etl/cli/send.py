"""`propsync run`: the job."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import ExitStack
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
from etl.cli.invocation import Invocation, pass_invocation, show
from etl.cli.plan import show_plan
from etl.errors import ExitCode

if TYPE_CHECKING:
    from etl.model import Event, Listener, Summary


@click.command(
    epilog="\b\nExamples\n"
    "  AMPLITUDE_API_KEY=... propsync run job.yml\n"
    "  propsync run job.yml exports/2024-05-01.parquet --max-rejects 1%\n"
    "  propsync run job.yml .propsync/job/rejects.ndjson    (rejects, once fixed)\n"
    "  propsync run job.yml --endpoint http://127.0.0.1:8900 --rate max    (to a sandbox)"
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
    "--report", type=click.Path(path_type=Path), metavar="FILE.html", help="Write a page about the run."
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
    from etl.job import read_api_key
    from etl.pipeline import forecast, run_job

    invocation.as_json_lines = log_format == "json"
    loaded, source = load(job, sources)
    invocation.job = loaded.name
    settings = settings_of(handle_signals=True, **flags)
    if dry_run:
        found = forecast(loaded, source, settings=settings)
        show_plan(found, as_json=as_json)
        if found.refused is not None:
            raise found.refused
        return ExitCode.REJECTS if found.tally.rejected else ExitCode.DONE
    key = read_api_key(loaded, os.environ)
    invocation.secrets.append(key)
    end = _End(invocation, as_json=as_json, repeatable=source.repeatable)
    with ExitStack() as stack:
        listener = _listener(stack, end, report, metrics_file, log_format)
        try:
            summary = run_job(loaded, source, key, settings=settings, listener=listener)
        finally:
            stack.close()
            end.tell(settings.state_dir or loaded.state_dir)
    return ExitCode.REJECTS if summary.tally.rejected else ExitCode.DONE


class _End:
    """Hears how the run ended, and tells it once the terminal is free."""

    def __init__(self, invocation: Invocation, *, as_json: bool, repeatable: bool) -> None:
        self._invocation = invocation
        self._as_json = as_json
        self._repeatable = repeatable
        self._summary: Summary | None = None

    def __call__(self, event: Event) -> None:
        from etl.model import Ended

        if isinstance(event, Ended):
            self._summary = event.summary

    def tell(self, state_dir: Path) -> None:
        """Print the summary, where the rejects are, and how to go on."""
        if self._summary is None:
            return
        self._show(self._summary)
        if self._summary.tally.rejected:
            path = str(state_dir / "rejects.ndjson")
            self._invocation.tell("rejects", f"rejects: {path}", path=path)
        if self._summary.status != "finished":
            self._tell_how_to_go_on()

    def _show(self, summary: Summary) -> None:
        from etl.listeners.summary import summary_dict, summary_text

        if self._as_json:
            import orjson

            show(orjson.dumps(summary_dict(summary)))
        else:
            show(summary_text(summary, width=min(shutil.get_terminal_size().columns, 100)))

    def _tell_how_to_go_on(self) -> None:
        if self._repeatable:
            command = self._invocation.again()
            self._invocation.tell("unfinished", f"to take it up again: {command}", command=command)
        else:
            message = "a stream can't be taken up: begin again with the whole of it, and --restart"
            self._invocation.tell("unfinished", message, message=message)


def _listener(
    stack: ExitStack, end: _End, report: Path | None, metrics_file: Path | None, log_format: str | None
) -> Listener:
    """Everyone who listens: a bar on a terminal or log lines elsewhere, never both."""
    from etl.listeners import check_writable, compose, draws

    hearers: list[Listener] = [end]
    if log_format is None and draws(sys.stderr):
        from etl.listeners.terminal import TerminalListener

        hearers.append(stack.enter_context(TerminalListener(sys.stderr)))
    else:
        from etl.listeners.log import LogListener

        hearers.append(LogListener(sys.stderr, "json" if log_format == "json" else "text"))
    for path in (report, metrics_file):
        if path is not None:
            check_writable(path)
    if metrics_file is not None:
        from etl.listeners.metrics import MetricsListener

        hearers.append(MetricsListener(metrics_file))
    if report is not None:
        from etl.listeners.report import ReportListener

        hearers.append(ReportListener(report))
    return compose(*hearers)
