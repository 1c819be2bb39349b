"""`propsync preview`: show the first identifications."""

from __future__ import annotations

from pathlib import Path

import click

from ..console import current, printable_json, show
from ..options import JOB, SOURCES, load_job_and_source


@click.command(
    "preview",
    short_help="Show the first identifications as JSON.",
    epilog="\b\nExamples\n"
    "  propsync preview job.yml -n 1 | jq\n"
    "  propsync preview job.yml exports/new.csv -n 100 | grep '\"plan\"'",
)
@JOB
@SOURCES
@click.option(
    "-n", "count", metavar="N", type=click.IntRange(min=1), default=5, show_default=True, help="How many."
)
def preview_command(job: Path, sources: tuple[str, ...], count: int) -> None:
    """Show the first identifications as they would be sent, one JSON object per line."""
    from ...pipeline import preview_rows

    loaded, source = load_job_and_source(job, sources)
    shown = 0
    for line in preview_rows(loaded, source, count=count):
        show(printable_json(line))
        shown += 1
    if shown == 0:
        current().message("nothing", "no row of the source can be sent; see `propsync check` for the reasons")
