"""`propsync runs`: the past runs of a job, one line each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..console import current, show_json, show_lines
from ..options import JOB, JSON_FLAG, STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...listeners.run_record import RunRecord


@click.command(
    "runs",
    epilog="\b\nExamples\n  propsync runs job.yml\n  propsync runs job.yml -n 1 --json | jq '.[0].summary'",
)
@JOB
@click.option("-n", "count", metavar="N", type=click.IntRange(min=1), default=20, show_default=True,
              help="How many, the latest first.")  # fmt: skip
@STATE_DIR
@JSON_FLAG
def runs_command(job: Path, count: int, state_dir: Path | None, as_json: bool) -> None:
    """List past runs, also those that could not begin. The last 100 of at most a year are kept."""
    from itertools import islice

    from ...job import Job
    from ...listeners.run_record import readable_runs

    loaded = Job.load(job, environ=os.environ)
    current().set_job(loaded)
    found = list(islice(readable_runs(state_dir or loaded.state_dir), count))
    if as_json:
        show_json([data for data, _ in found])
    elif found:
        show_lines(_lines(found))
    else:
        current().message("nothing", f"{loaded.name} has no past runs in {state_dir or loaded.state_dir}")


def _lines(found: list[tuple[dict[str, Any], RunRecord]]) -> Iterator[str]:
    import textwrap

    from ...text import counted, one_line, span

    yield f"{'run':24} {'exit':>4} {'rows':>12} {'accepted':>12} {'rejected':>9}  time"
    for data, record in found:
        summary, tally = record.summary, record.summary.tally
        numbers = f"{tally.rows:>12,} {tally.accepted:>12,} {tally.rejected:>9,}"
        yield f"{data['run']:24} {summary.exit_code:>4} {numbers}  {span(summary.seconds)}"
        if summary.reason and summary.exit_code != 3:
            reason = one_line(summary.reason.splitlines()[0])
            yield from textwrap.wrap(reason, 79, initial_indent="    ", subsequent_indent="    ")
        if (paused := sum(seconds for _, seconds in record.pauses)) >= 1:
            yield f"    {counted(len(record.pauses), 'pause')} of the destination, {span(paused)}"
