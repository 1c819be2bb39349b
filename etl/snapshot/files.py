"""Files of the state folder that are replaced whole: the old one stays until the new one is on the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import pyarrow as pa

from etl.errors import EtlError, StaleCheckpointError
from etl.state_files import create_private, fresh_name, state_error, sync_folder


@contextmanager
def replacing(path: Path, schema: pa.Schema) -> Iterator[pa.ipc.RecordBatchFileWriter]:
    """Write an Arrow file for `path`, readable by its owner only, put in place where all went well.

    Raises StateError where it can't be written; the old file is untouched then.
    """
    fresh = fresh_name(path)
    try:
        with translated(path):
            with os.fdopen(create_private(fresh), "wb") as file:
                with pa.ipc.new_file(file, schema) as writer:
                    yield writer
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
            sync_folder(path.parent)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what goes wrong while writing at `path` into a StateError."""
    try:
        yield
    except EtlError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise state_error(path, error) from error


def unnamed(path: Path) -> IO[bytes]:
    """A file beside `path` that nobody else can open and that goes with the process. Raises StateError."""
    with translated(path):
        return tempfile.TemporaryFile(dir=path.parent)


def stale(path: Path, what: str, loss: str, before: str = "") -> StaleCheckpointError:
    """An error for a file that can't be used: delete it, at this loss, or do what `before` says."""
    return StaleCheckpointError(f"{path} {what}", hint=f"{before}delete the file; the next run {loss}")
