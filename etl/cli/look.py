"""The commands that look at a source and send nothing: `init`, `check`, `preview`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from etl.cli.arguments import JOB, SOURCES, load, pace_options, settings_of, snapshot_options, state_options
from etl.cli.console import printable_json, show, show_file
from etl.cli.invocation import current
from etl.cli.plan import show_plan
from etl.errors import ExitCode, UsageError


@click.command(
    short_help="Write a job file for a source.",
    epilog="\b\nExamples\n"
    "  propsync init users.csv -o job.yml\n"
    "  propsync init 'exports/*.parquet' > job.yml",
)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Where to write it.  [default: stdout]")
@click.option("--force", is_flag=True, help="Replace an existing file.")
def init(sources: tuple[str, ...], output: Path | None, force: bool) -> None:
    """Read the whole SOURCE and write a commented job file for it.

    It says which column is the identity and why, gives each column the type that all its values have, and
    points out personal data. Read it before you run it.
    """
    from etl.init import propose_job

    if output is not None and output.exists() and not force:
        raise UsageError(f"{output} exists already", hint="name another file, or say --force")
    proposal = propose_job(sources, output)
    if output is None:
        show_file(proposal.text)
    else:
        try:
            output.write_text(proposal.text, encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{output} can't be written: {error.strerror}") from error
    for note in proposal.notes:
        current().tell("noted", note)
    if output is not None:
        current().tell("wrote", f"wrote {output}; next: propsync check {output}")


@click.command(
    short_help="Do everything that `run` does except sending.",
    epilog="\b\nExamples\n"
    "  propsync check job.yml\n"
    "  propsync check job.yml exports/new.csv --rate 3000 --json",
)
@JOB
@SOURCES
@pace_options
@snapshot_options
@state_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def check(job: Path, sources: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Do everything that `run` does except sending, and say what it would come to.

    Users new, changed and unchanged since the last run, changes by property with examples, rejects by reason,
    requests, bytes and the time at the given rate. Needs no key, touches no state. Exit code 3 if rows would
    be rejected, 4 if `run` would refuse the source for its number of rows, or because it was sent already.
    """
    from etl.pipeline import forecast

    loaded, source = load(job, sources)
    found = forecast(loaded, source, settings=settings_of(**flags))
    show_plan(found, as_json=as_json)
    if found.refused is not None:
        raise found.refused
    return ExitCode.REJECTS if found.tally.rejected else ExitCode.DONE


@click.command(
    short_help="Show the first identifications as JSON.",
    epilog="\b\nExamples\n"
    "  propsync preview job.yml -n 1 | jq\n"
    "  propsync preview job.yml exports/new.csv -n 100 | grep '\"plan\"'",
)
@JOB
@SOURCES
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=5, show_default=True, help="How many of them."
)
def preview(job: Path, sources: tuple[str, ...], count: int) -> None:
    """Show the first identifications as they would be sent, one JSON object a line."""
    from etl.pipeline import preview as first_identifications

    loaded, source = load(job, sources)
    shown = 0
    for line in first_identifications(loaded, source, count=count):
        show(printable_json(line))
        shown += 1
    if shown == 0:
        current().tell("nothing", "no row of the source can be sent; see `propsync check` for the reasons")


__all__ = ["check", "init", "preview"]
