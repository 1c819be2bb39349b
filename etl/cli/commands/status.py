"""`propsync status`: show where a job stands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ...errors import EtlError
from ..console import current, show_json, show_lines
from ..options import JOB, JSON_FLAG, STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...job import Job

_MOST_FILES: Final = 10


@click.command(
    "status", epilog="\b\nExamples\n  propsync status job.yml\n  propsync status job.yml --json | jq .rows"
)
@JOB
@STATE_DIR
@JSON_FLAG
def status_command(job: Path, state_dir: Path | None, as_json: bool) -> None:
    """Show what is committed, what is left, and what was rejected. It changes nothing."""
    from ...job import load_job
    from ...pipeline import status_of

    loaded = load_job(job, environ=os.environ)
    current().set_job(loaded)
    found = status_of(loaded, state_dir=state_dir)
    if found["status"] == "unfinished":
        found["rows_left"] = _rows_left(loaded, found)
    if as_json:
        show_json(found)
    else:
        show_lines(_lines(found))


def _rows_left(job: Job, found: dict[str, Any]) -> int | None:
    """The rows not committed yet, where the job's own source is there and has a number of rows."""
    from ...reader import open_source

    try:
        total = open_source(job.source, csv=job.csv, folder=job.folder).total_rows() if job.source else None
    except EtlError:
        return None
    return None if total is None else max(total - int(found["rows"]), 0)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from ...text import size, span

    yield f"{found['job']}: {found['status']}"
    if found.get("active"):
        yield str(found["active"])
    yield ""
    yield f"  state folder  {found['state_dir']}"
    if (snapshot := found.get("snapshot")) is not None:
        users, age = f"{snapshot['entries']:,} users", f"{span(snapshot['age_seconds'])} old"
        yield f"  snapshot      {users}, {size(snapshot['bytes'])}, {age}"
    if "began" not in found:
        return
    yield f"  began         {found['began']}, {span(found['seconds'])} of sending since"
    yield ""
    yield f"  committed rows {found['rows']:>12,}"
    for end in ("accepted", "unchanged", "merged", "rejected"):
        yield f"    {end:<12}{found[end]:>13,}"
    for code, count in found["rejects_by_code"].items():
        yield f"      {code:<10}{count:>13,}"
    for column, by_reason in found["skipped_values"].items():
        yield f"  values left out of {column}: {sum(by_reason.values()):,}"
    if found.get("rows_left") is not None:
        yield f"  rows left     {found['rows_left']:>13,}"
    if found["status"] == "unfinished":
        yield ""
        yield from _safe_points(found["safe_points"])
    if found["rejected"]:
        yield ""
        yield f"  rejects: {Path(found['state_dir']) / 'rejects.ndjson'}"


def _safe_points(points: dict[str, int]) -> Iterator[str]:
    """The files that are begun and not known to be done; those not begun only by their number."""
    begun = {name: row for name, row in points.items() if row > 1}
    for name, row in list(begun.items())[-_MOST_FILES:]:
        yield f"  {name}: committed up to row {row - 1:,}"
    if len(begun) < len(points):
        yield f"  not begun: {len(points) - len(begun):,} of {len(points):,} files"
    elif len(begun) > _MOST_FILES:
        yield f"  and {len(begun) - _MOST_FILES:,} files before these"
