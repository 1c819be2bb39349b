"""`propsync status`: show the state of a job and of its active run."""

from __future__ import annotations

import sys
import textwrap
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...tally import ROW_ENDS
from ...text import counted, rows_text, size, span, visible
from ..console import show_result
from ..options import JOB, JSON_FLAG, STATE_DIR, command, know_job, switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_FILES: Final = 10


@command("status", variables=True)
@JOB
@STATE_DIR
@switch("--watch", "Show it anew every second, until no run is active.")
@JSON_FLAG
def status_command(job: Path, state_dir: Path | None, watch: bool, as_json: bool) -> None:
    """Show what is committed, what is left, and what was rejected. Nothing is changed.

    Of a run under way, also of another process, it shows how fast it is, when it will end, and whether it
    waits for the destination.

    Examples
      propsync status job.yml
      propsync status job.yml --watch    (a run in another terminal)
      propsync status job.yml --json | jq .rows
    """
    from ...pipeline.status import status_of

    known = know_job(job, state_dir)
    found: dict[str, Any] = status_of(known)
    if watch and sys.stdout.isatty() and not as_json:
        from rich.live import Live
        from rich.text import Text

        with Live(auto_refresh=False) as live:
            while True:
                live.update(Text("\n".join(map(visible, _lines(found)))), refresh=True)
                if not found["active"]:
                    return
                time.sleep(1.0)
                found = status_of(known)
    show_result(found, _lines(found), as_json=as_json)


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from ...listeners.summary import aligned, reason_lines

    yield f"{found['job']}: {found['status']}"
    if found.get("active"):
        yield from textwrap.wrap(str(found["active"]), 79, break_on_hyphens=False)
        yield ""
        yield from state_lines(found["progress"], time.time())
    yield ""
    yield f"  state folder  {found['state_dir']}"
    if (snapshot := found.get("snapshot")) is not None:
        users, age = counted(snapshot["entries"], "user"), f"{span(snapshot['age_seconds'])} old"
        yield f"  snapshot      {users}, {size(snapshot['bytes'])}, {age}"
    if "began" not in found:
        return
    yield f"  began         {found['began']}, {span(found['seconds'])} of sending since"
    yield ""
    table = [("committed rows", found["rows"], "")]
    table += [(f"  {end}", found[end], "") for end in ROW_ENDS]
    table += [(f"    {code}", count, "") for code, count in found["rejects_by_code"].items()]
    if found.get("rows_left") is not None:
        table.append(("rows left", found["rows_left"], ""))
    yield from aligned(table)
    for column, by_reason in found["skipped_values"].items():
        yield f"  values left out of {column}: {sum(by_reason.values()):,}"
    if found["status"] == "unfinished":
        yield ""
        # Files that have begun, by name; of the others only the number.
        points: dict[str, int] = found["safe_points"]
        begun = {name: row for name, row in points.items() if row > 1}
        for name, row in list(begun.items())[-_MOST_FILES:]:
            yield f"  {name}: committed up to row {row - 1:,}"
        if len(begun) < len(points):
            yield f"  not begun: {len(points) - len(begun):,} of {len(points):,} files"
        elif len(begun) > _MOST_FILES:
            yield f"  and {len(begun) - _MOST_FILES:,} files before these"
    yield from reason_lines(found["rejects_by_reason"], found["rejected"])
    if found["rejected"]:
        yield ""
        yield f"  rejects: {Path(found['state_dir']) / 'rejects.ndjson'}"


def state_lines(found: Mapping[str, Any], now: float) -> Iterator[str]:
    """Write what an active run does, how fast it is, and when it will end; `found` as in `status_of`."""
    if found["state"] == "preparing":
        yield "  preparing     nothing is sent yet: the source is read and compared first"
        return
    total, about = (None, found["total_rows"]) if found["estimated"] else (found["total_rows"], None)
    share = "" if found["percent"] is None else f", {found['percent']:.1f} %"
    yield f"  {found['state']:<14}{rows_text(found['rows'], total, about)}{share}"
    if found["state"] != "sending":
        since, waited = datetime.fromtimestamp(found["since"]).astimezone(), now - found["since"]
        yield f"                since {since:%H:%M:%S} ({span(max(waited, 0.0))}): {found['reason']}"
        yield f"                next try in {span(max(found['next_try'] - now, 0.0))}"
    average = f"{found['average_rows_per_second']:,.0f} on average"
    yield f"  rows/s        {found['rows_per_second']:,.0f} now, {average}"
    if found["seconds_left"] is not None:
        end = datetime.fromtimestamp(found["updated"] + found["seconds_left"]).astimezone()
        yield f"  left          {span(max(end.timestamp() - now, 0.0))}, until {end:%Y-%m-%d %H:%M}"
