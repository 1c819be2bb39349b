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

    from ...checkpoint.history import past_runs
    from ...job import load_job

    loaded = load_job(job, environ=os.environ)
    current().set_job(loaded)
    found = list(islice(past_runs(state_dir or loaded.state_dir), count))
    if as_json:
        show_json(found)
    elif found:
        show_lines(_lines(found))
    else:
        current().message("nothing", f"{loaded.name} has no past runs in {state_dir or loaded.state_dir}")


def _lines(found: list[dict[str, Any]]) -> Iterator[str]:
    from ...text import counted, span

    yield f"{'run':24} {'exit':>4} {'rows':>12} {'accepted':>12} {'rejected':>9}  time"
    for record in found:
        summary = record["summary"]
        numbers = f"{summary['rows']:>12,} {summary['accepted']:>12,} {summary['rejected']:>9,}"
        yield f"{record['run']:24} {summary['exit_code']:>4} {numbers}  {span(summary['seconds'])}"
        pauses = sum(seconds for _, seconds in record["pauses"])
        if summary["reason"] and summary["exit_code"] != 3:
            yield f"{'':24} {summary['reason'].splitlines()[0]}"
        if pauses >= 1:
            yield f"{'':24} {counted(len(record['pauses']), 'pause')} of the destination, {span(pauses)}"
