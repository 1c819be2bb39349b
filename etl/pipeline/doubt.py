"""When nobody knows any more what users have, the snapshot says so: nothing is left out for what it was."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Final
from uuid import uuid4

import numpy as np

from etl.changes import Layout, Renewal, Snapshot
from etl.checkpoint import Checkpoint, StateFolder
from etl.errors import StaleCheckpointError
from etl.state_files import state_error

# In place of a job's fingerprint, in the stamp of a snapshot that knows its users only by name.
DOUBTFUL: Final = ""


def drop_unfinished(folder: StateFolder, layout: Layout | None) -> None:
    """Give up a run that was begun and not finished, if there is one; so everybody is to be sent anew.

    What it had sent, and what was on its way, may be other values than the snapshot's. Done halfway, it can
    be done again. Raises StaleCheckpointError where the snapshot can't be read, StateError.
    """
    if _is_unfinished(folder):
        _doubt(folder, layout)
        Checkpoint.discard(folder.checkpoint)


def forget_everyone(folder: StateFolder) -> None:
    """Keep no snapshot: what is sent from now on isn't recorded. Raises StateError."""
    try:
        folder.snapshot.unlink(missing_ok=True)
    except OSError as error:
        raise state_error(folder.snapshot, error) from error


def _is_unfinished(folder: StateFolder) -> bool:
    try:
        with Checkpoint.load(folder.checkpoint) or nullcontext() as found:
            return found is not None and not found.progress().finished
    except StaleCheckpointError:
        return True  # damaged, or another version's


def _doubt(folder: StateFolder, layout: Layout | None) -> None:
    """Let the snapshot keep its users, so that it is known who left, but not what they have."""
    with Snapshot.open(folder.snapshot) or nullcontext() as old:
        if old is None:
            return
        if layout is None or old.mode != layout.mode:
            forget_everyone(folder)
            return
        stamp = replace(old.stamp, run_id=uuid4().hex, job=DOUBTFUL)
        with Renewal(folder.snapshot, layout, stamp) as renewal:
            for _, keys in old.sorted_keys():
                nothing = np.zeros((len(keys), len(layout.names)), dtype=layout.dtype)
                renewal.add(keys.reshape(-1, 1), nothing)
            renewal.finish()
