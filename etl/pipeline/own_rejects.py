"""A run whose source is the job's own reject file, which is replaced when that run ends.

What it began with is kept beside it, under another name, until the run has finished. So it can be resumed
also where the process is killed after the new rejects were published.
"""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext, suppress
from itertools import zip_longest

from etl.checkpoint import Checkpoint, Progress, StateFolder, reject_lines
from etl.errors import EtlError
from etl.pipeline.unfinished import entries_of
from etl.reader import Source
from etl.state_files import fresh_name, state_error, sync_folder


def reads_rejects(source: Source, folder: StateFolder) -> bool:
    """Whether the reject file of the state folder is among the files of a source."""
    return bool(_places(source, folder))


def keep_rejects(source: Source, folder: StateFolder) -> None:
    """Keep the job's own rejects, where a run that is about to begin reads them. Raises StateError."""
    if not reads_rejects(source, folder):
        drop_kept(folder)
        return
    draft = fresh_name(folder.kept_rejects)
    try:
        draft.unlink(missing_ok=True)
        try:
            os.link(folder.rejects, draft)
        except OSError:  # a file system without links
            shutil.copy2(folder.rejects, draft)
        draft.replace(folder.kept_rejects)
        # A rename of one name of a file over another one of it does nothing.
        draft.unlink(missing_ok=True)
        sync_folder(folder.path)
    except OSError as error:
        raise state_error(folder.kept_rejects, error) from error


def drop_kept(folder: StateFolder) -> None:
    """What was kept is needed no more."""
    with suppress(OSError):
        folder.kept_rejects.unlink(missing_ok=True)


def with_kept(source: Source, folder: StateFolder) -> Source:
    """The source of a run that every row of has its end, but for its own rejects having been replaced since.

    The same source where there is no such run, or where somebody wrote to the rejects.
    """
    places = _places(source, folder)
    if not places or not folder.kept_rejects.exists():
        return source
    try:
        with Checkpoint.load(folder.checkpoint) or nullcontext() as found:
            if found is None:
                return source
            progress = found.progress()
            if not progress.complete or not _is_published(folder, found, progress):
                return source
    except EtlError:
        return source  # whoever begins the run says what is wrong with it
    entries = entries_of(progress.identity)
    for place in places:
        kept = source.kept(place, folder.kept_rejects)
        file = kept.files[place]
        if place < len(entries) and list(entries[place]) == [
            file.name,
            file.size,
            file.modified,
            file.sample,
        ]:
            source = kept
    return source


def _places(source: Source, folder: StateFolder) -> list[int]:
    own = folder.rejects.resolve()
    return [place for place in range(len(source.files)) if source.path(place) == own]


def _is_published(folder: StateFolder, found: Checkpoint, progress: Progress) -> bool:
    """Whether the reject file is what the run leaves behind."""
    try:
        with folder.rejects.open("rb") as lines:
            pairs = zip_longest(lines, reject_lines(found.rejects(), run=progress.number))
            return all(one == other for one, other in pairs)
    except OSError:
        return False
