"""`propsync status` and `baseline`: where a job stands, and where it is to begin."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from etl.cli.arguments import JOB, SOURCES, load, state_options
from etl.cli.console import show_json, show_lines
from etl.cli.invocation import current
from etl.cli.values import endpoint
from etl.errors import EtlError, ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from etl.job import Job
    from etl.pipeline import Recorded

_MOST_FILES: Final = 10
_ENDS: Final = ("accepted", "unchanged", "merged", "rejected")


@click.command(epilog="\b\nExamples\n  propsync status job.yml\n  propsync status job.yml --json | jq .rows")
@JOB
@state_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def status(job: Path, state_dir: Path | None, as_json: bool) -> None:
    """Say what is committed, what is left, and what was rejected. It changes nothing."""
    from etl.job import load_job
    from etl.pipeline import status_of

    loaded = load_job(job, environ=os.environ)
    current().know(loaded)
    found = status_of(loaded, state_dir=state_dir)
    if found["status"] == "unfinished":
        found["rows_left"] = _rows_left(loaded, found)
    if as_json:
        show_json(found)
    else:
        show_lines(_lines(found))


@click.command(
    short_help="Record a source as sent, without sending it.",
    epilog="\b\nExamples\n"
    "  propsync baseline job.yml\n"
    "  propsync baseline job.yml exports/2024-05-01.parquet --json",
)
@JOB
@SOURCES
@click.option("--endpoint", type=endpoint, metavar="URL", help="A base URL in place of the job's region.")
@state_options
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def baseline(job: Path, sources: tuple[str, ...], as_json: bool, **flags: Any) -> int:
    """Record the source as sent, so that the next run sends only what has changed since.

    For those who brought their users to Amplitude by other means. Needs no key. Rows that could not be sent
    are not recorded either; exit code 3 if there are any.
    """
    from etl.pipeline import Settings
    from etl.pipeline import baseline as record

    loaded, source = load(job, sources)
    found = record(loaded, source, settings=Settings(**flags))
    if as_json:
        show_json(found)
    else:
        show_lines(_recorded(found))
    return ExitCode.REJECTS if found.rejected else ExitCode.DONE


def _recorded(found: Recorded) -> list[str]:
    lines = [f"{found.job}: {found.rows:,} rows read, {found.entries:,} users in the snapshot"]
    lines += [f"  not recorded, {code}: {count:,}" for code, count in found.rejects_by_code.most_common()]
    return lines


def _rows_left(job: Job, found: dict[str, Any]) -> int | None:
    """The unsettled rows, where the job's own source can tell without being read, and is still there."""
    from etl.reader import open_source

    try:
        total = open_source(job.source, csv=job.csv, folder=job.folder).total_rows() if job.source else None
    except EtlError:
        return None
    return None if total is None else max(total - int(found["rows"]), 0)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['job']}: {found['status']}"
    if found.get("active"):
        yield str(found["active"])
    yield ""
    yield f"  state folder  {found['state_dir']}"
    yield from _snapshot(found.get("snapshot"))
    if "began" not in found:
        return
    from etl.wording import span

    yield f"  began         {found['began']}, {span(found['seconds'])} of sending since"
    yield ""
    yield from _counts(found)
    if found["status"] == "unfinished":
        yield ""
        yield from _safe_points(found["safe_points"])
    if found["rejected"]:
        yield ""
        yield f"  rejects: {Path(found['state_dir']) / 'rejects.ndjson'}"


def _snapshot(found: dict[str, Any] | None) -> Iterator[str]:
    if found is None:
        return
    from etl.wording import size, span

    what = f"{found['entries']:,} users, {size(found['bytes'])}, {span(found['age_seconds'])} old"
    yield f"  snapshot      {what}"


def _counts(found: dict[str, Any]) -> Iterator[str]:
    yield f"  committed rows {found['rows']:>12,}"
    for end in _ENDS:
        yield f"    {end:<12}{found[end]:>13,}"
    for code, count in found["rejects_by_code"].items():
        yield f"      {code:<10}{count:>13,}"
    for column, by_reason in found["skipped_values"].items():
        yield f"  values left out of {column}: {sum(by_reason.values()):,}"
    if found.get("rows_left") is not None:
        yield f"  rows left     {found['rows_left']:>13,}"


def _safe_points(points: dict[str, int]) -> Iterator[str]:
    """The files that are begun but not known to be done; those not begun only by their number."""
    begun = {name: row for name, row in points.items() if row > 1}
    for name, row in list(begun.items())[-_MOST_FILES:]:
        yield f"  {name}: committed up to row {row - 1:,}"
    if len(begun) < len(points):
        yield f"  not begun: {len(points) - len(begun):,} of {len(points):,} files"
    elif len(begun) > _MOST_FILES:
        yield f"  and {len(begun) - _MOST_FILES:,} files before these"
