"""The state of a job (`status`), read from its folder; and the files of each destination.

Each destination has its own snapshot and list of ids.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ..checkpoint import Checkpoint, StateDir
from ..job.known_job import KnownJob, remembered_rows
from ..snapshot_metadata import FileMetadata, read_metadata
from ..state_files import is_there
from ..tally import ROW_ENDS, RangeSet

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
        from ..checkpoint.run_records import RunState  # here, as few runs are active

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
        # An entry of one value is a stream, not a file.
        names = [entry[0] for entry in run.identity["source"] if len(entry) > 1]
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


# --- the files of each destination ------------------------------------------------------------------------

# Sandboxes come and go: the snapshots of the destinations used last are kept, besides the first one's.
_MOST_DESTINATIONS: Final = 8


def destination_folder(folder: StateDir, endpoint: str) -> StateDir:
    """The folder with the files of users at an endpoint: the plain names belong to the first endpoint.

    Raises StaleCheckpointError if the snapshot can't be read.
    """
    first = first_endpoint(folder)
    other = folder.beside(blake2b(endpoint.encode(), digest_size=6).hexdigest())
    return folder if first == endpoint or (first is None and not is_there(other.snapshot)) else other


def first_endpoint(folder: StateDir) -> str | None:
    """The endpoint to which the plain names belong; None if there is no snapshot."""
    found = look_at_snapshot(folder.snapshot)
    return None if found is None else found[0].header.endpoint


def look_at_snapshot(path: Path) -> tuple[FileMetadata, int] | None:
    """The metadata of a snapshot and the number of its entries; None if there is none.

    Raises StaleCheckpointError if it can't be read.
    """
    if not is_there(path):
        return None
    with suppress(Exception):  # damaged, or unusual: `Snapshot` reads it, or says what is wrong
        return read_metadata(path)
    from ..snapshot import Snapshot

    with Snapshot(path) as snapshot:
        return snapshot.metadata, len(snapshot)


def remove_oldest_snapshots(folder: StateDir) -> None:
    """Remove the files of all but a few destinations; everything is sent anew to one that is used again."""
    with suppress(OSError):
        found = sorted(folder.path.glob("snapshot-*.arrow"), key=lambda path: path.stat().st_mtime)
        for path in found[:-_MOST_DESTINATIONS]:
            path.unlink()
            path.with_name(path.name.replace("snapshot", "ids", 1)).unlink(missing_ok=True)
