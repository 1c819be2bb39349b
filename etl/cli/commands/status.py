"""`propsync status`: show where a job stands."""

from __future__ import annotations

import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...errors import EtlError
from ...text import visible
from ..console import show_json, show_lines
from ..options import JOB, JSON_FLAG, STATE_DIR, command, from_environment, load_for_command, switch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...job import Job

_MOST_FILES: Final = 10


@from_environment
@command(
    "status",
    None,
    "propsync status job.yml",
    "propsync status job.yml --watch    (a run in another terminal)",
    "propsync status job.yml --json | jq .rows",
)
@JOB
@STATE_DIR
@switch("--watch", "Show it anew every second, until no run is active.")
@JSON_FLAG
def status_command(job: Path, state_dir: Path | None, watch: bool, as_json: bool) -> None:
    """Show what is committed, what is left, and what was rejected. Nothing is changed.

    Of a run under way, also of another process, it shows how fast it is, when it will end, and whether it
    waits for the destination.
    """
    loaded, flags = load_for_command(job, {"state_dir": state_dir})
    found = _status(loaded, flags["state_dir"])
    if as_json:
        show_json(found)
        return
    if watch and sys.stdout.isatty():
        from rich.live import Live
        from rich.text import Text

        with Live(auto_refresh=False) as live:
            while True:
                live.update(Text("\n".join(map(visible, _lines(found)))), refresh=True)
                if not found["active"]:
                    return
                time.sleep(1.0)
                found = _status(loaded, flags["state_dir"])
    show_lines(_lines(found))


def _status(job: Job, state_dir: Path | None) -> dict[str, Any]:
    from ...pipeline import status_of

    found: dict[str, Any] = status_of(job, state_dir=state_dir)
    if found["status"] == "unfinished":
        from ...reader import open_source

        found["rows_left"] = None
        with suppress(EtlError):  # the job's own source may be gone, or have no number of rows
            source = job.source and open_source(job.source, csv=job.csv, excel=job.excel, folder=job.folder)
            if source and (total := source.total_rows()) is not None:
                found["rows_left"] = max(total - found["rows"], 0)
    return found


def _lines(found: dict[str, Any]) -> Iterator[str]:
    from ...listeners.progress import state_lines
    from ...listeners.summary import aligned, reason_lines
    from ...model import ROW_ENDS
    from ...text import counted, size, span

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
        # The files that are begun and not known to be done; those not begun only by their number.
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
