"""rejects.ndjson: the rejects of a run, written whole or not at all. It is a source for the next run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import orjson

from etl.model import Reject
from etl.state_files import state_error, sync_folder


def publish_rejects(path: Path, rejects: Iterable[Reject], *, run: int) -> None:
    """Replace the file by these rejects, one JSON object a line, in their order. Raises StateError.

    `run` is the number of the run that rejected them.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.name, delete=False) as file:
            try:
                file.writelines(_line(reject, run) for reject in rejects)
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
        sync_folder(path.parent)
    except OSError as error:
        raise state_error(path, error) from error


def _line(reject: Reject, run: int) -> bytes:
    entry = {
        "source": reject.source,
        "row": reject.row,
        "code": reject.code,
        "reason": reject.reason,
        "values": orjson.Fragment(reject.values),
        "run": run,
    }
    return orjson.dumps(entry) + b"\n"
