"""`status`: the state of a job, read from its folder without changing it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final, cast

from ..checkpoint import Checkpoint, StateDir
from ..checkpoint.run_state import RunState
from ..job import Job
from ..model import ROW_ENDS
from ..ranges import RangeSet
from ..snapshot import Snapshot
from .diff_base import destination_folder

_MOST_REASONS: Final = 1_000


def status_of(job: Job, *, state_dir: Path | None = None) -> dict[str, object]:
    """The state of a job as plain data: its run, its tally, its files with their safe points.

    `progress` is what an active run does (`RunState`), None where none is active.

    Raises StaleCheckpointError if the checkpoint can't be read.
    """
    folder = StateDir(state_dir or job.state_dir)
    active = folder.holder()
    live = RunState.load(folder.progress) if active else None
    found: dict[str, object] = {
        "job": job.name,
        "active": active,
        "progress": live.as_dict() if live else {"state": "preparing"} if active else None,
        "state_dir": str(folder.path),
        "snapshot": _snapshot(destination_folder(folder, job.destination.endpoint).snapshot)
        or _snapshot(folder.snapshot),
    }
    with Checkpoint.look(folder.checkpoint) as checkpoint:
        if checkpoint is None:
            return found | {"status": "never run"}
        progress, ranges = checkpoint.progress(), RangeSet(checkpoint.committed(), checkpoint.held())
        names = [str(file[0]) for file in cast("list[list[object]]", progress.identity["source"])]
        return found | {
            "status": "finished" if progress.finished else "unfinished",
            "began": datetime.fromtimestamp(progress.began, UTC).isoformat(timespec="seconds"),
            "seconds": round(progress.seconds, 3),
            **{name: getattr(progress.tally, name) for name in ("rows", *ROW_ENDS)},
            "rejects_by_code": checkpoint.rejects_by_code(),
            "rejects_by_reason": [
                {"code": code, "reason": reason, "count": count}
                for code, reason, count in checkpoint.rejects_by_reason(_MOST_REASONS)
            ],
            "skipped_values": checkpoint.skipped_values(),
            "safe_points": {name: ranges.safe_point(file) for file, name in enumerate(names)},
        }


def _snapshot(path: Path) -> dict[str, object] | None:
    """The size, kind and age (in seconds) of a snapshot; None if there is none."""
    snapshot = Snapshot.open(path)
    if snapshot is None:
        return None
    with snapshot:
        created = datetime.fromisoformat(snapshot.header.created)
        return {
            "entries": len(snapshot),
            "bytes": path.stat().st_size,
            "changes": snapshot.mode,
            "endpoint": snapshot.header.endpoint,
            "written": snapshot.header.created,
            "age_seconds": round((datetime.now(UTC) - created).total_seconds()),
        }
