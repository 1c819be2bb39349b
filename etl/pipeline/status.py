"""`status`: the state of a job, read from its folder without changing it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from ..checkpoint import Checkpoint, StateDir
from ..job.known_job import KnownJob, remembered_rows
from ..ranges import RangeSet
from ..tally import ROW_ENDS
from .destination_folder import destination_folder, look_at_snapshot

_MOST_REASONS: Final = 1_000


def status_of(job: KnownJob) -> dict[str, object]:
    """The state of a job as plain data: its run, its tally, its files with their safe points.

    `progress` is what an active run does (`RunState`), None where none is active. An unfinished run has
    `rows_left`, None where the number of rows isn't known.

    Raises StaleCheckpointError if the checkpoint can't be read.
    """
    folder = StateDir(job.state_dir)
    active, progress = folder.holder(), None
    if active:
        from ..checkpoint.run_state import RunState  # here, as few runs are active

        live = RunState.load(folder.progress)
        progress = live.as_dict() if live else {"state": "preparing"}
    found: dict[str, object] = {
        "job": job.name,
        "active": active,
        "progress": progress,
        "state_dir": str(folder.path),
        "snapshot": _snapshot(destination_folder(folder, job.endpoint).snapshot)
        or _snapshot(folder.snapshot),
    }
    with Checkpoint.look(folder.checkpoint) as checkpoint:
        if checkpoint is None:
            return found | {"status": "never run"}
        run, ranges = checkpoint.progress(), RangeSet(checkpoint.committed(), checkpoint.held())
        total = None if run.finished else remembered_rows(folder.path)
        left = None if total is None else max(total - run.tally.rows, 0)
        names = [str(file[0]) for file in cast("list[list[object]]", run.identity["source"])]
        return found | {
            "status": "finished" if run.finished else "unfinished",
            "began": datetime.fromtimestamp(run.began, UTC).isoformat(timespec="seconds"),
            "seconds": round(run.seconds, 3),
            **{name: getattr(run.tally, name) for name in ("rows", *ROW_ENDS)},
            "rejects_by_code": checkpoint.rejects_by_code(),
            "rejects_by_reason": [
                {"code": code, "reason": reason, "count": count}
                for code, reason, count in checkpoint.rejects_by_reason(_MOST_REASONS)
            ],
            "skipped_values": checkpoint.skipped_values(),
            "safe_points": {name: ranges.safe_point(file) for file, name in enumerate(names)},
            **({} if run.finished else {"rows_left": left}),
        }


def _snapshot(path: Path) -> dict[str, object] | None:
    """The size, kind and age (in seconds) of a snapshot; None if there is none."""
    found = look_at_snapshot(path)
    if found is None:
        return None
    metadata, entries = found
    created = datetime.fromisoformat(metadata.header.created)
    return {
        "entries": entries,
        "bytes": path.stat().st_size,
        "changes": metadata.mode,
        "endpoint": metadata.header.endpoint,
        "written": metadata.header.created,
        "age_seconds": round((datetime.now(UTC) - created).total_seconds()),
    }
