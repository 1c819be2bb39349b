"""rejects.ndjson: the rejects of a run, written whole or not at all. It is a source for the next run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import orjson

from etl.model import Reject
from etl.state_files import create_private, fresh_name, state_error, sync_folder


def publish_rejects(path: Path, rejects: Iterable[Reject], *, run: int) -> None:
    """Replace the file by these rejects, one JSON object a line, in their order. Raises StateError.

    `run` is the number of the run that rejected them.
    """
    # One name, under the lock of the run: whatever a killed process left is overwritten.
    draft = fresh_name(path)
    try:
        with os.fdopen(create_private(draft), "wb") as file:
            file.writelines(reject_lines(rejects, run=run))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise state_error(path, error) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def reject_lines(rejects: Iterable[Reject], *, run: int) -> Iterator[bytes]:
    """The lines of the file."""
    return (_line(reject, run) for reject in rejects)


def _line(reject: Reject, run: int) -> bytes:
    entry: dict[str, object] = {
        "source": reject.source,
        "row": reject.row,
        "code": reject.code,
        "reason": reject.reason,
        "values": orjson.Fragment(reject.values),
        "run": run,
    }
    if reject.origin:
        entry["origin"] = reject.origin
    return orjson.dumps(entry) + b"\n"
