"""Which files of a state folder belong to a destination: each has a snapshot and a list of ids of its own."""

from __future__ import annotations

from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from ..checkpoint import StateDir
from ..snapshot_metadata import FileMetadata, read_metadata
from ..state_files import is_there

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
    with suppress(Exception):  # damaged, or unusual: the message is that of whoever would use it
        return read_metadata(path)
    from ..snapshot import Snapshot

    with Snapshot(path) as snapshot:
        return snapshot.metadata, len(snapshot)


def remove_oldest(folder: StateDir) -> None:
    """Keep the files of a few destinations only; to one used again after long everything is sent anew."""
    with suppress(OSError):
        found = sorted(folder.path.glob("snapshot-*.arrow"), key=lambda path: path.stat().st_mtime)
        for path in found[:-_MOST_DESTINATIONS]:
            path.unlink()
            path.with_name(path.name.replace("snapshot", "ids", 1)).unlink(missing_ok=True)
