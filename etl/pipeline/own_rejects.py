"""A run whose source is the job's own reject file, which is replaced when that run ends.

The file it began with is kept beside it, under another name, until the run has finished. So the run can be
resumed even if the process is killed after the new rejects were published.
"""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext, suppress
from itertools import zip_longest

from ..checkpoint import Checkpoint, StateDir, reject_lines
from ..errors import EtlError
from ..reader import Source
from ..state_files import fresh_name, state_error, sync_folder
from .unfinished import entries_of


def reads_rejects(source: Source, folder: StateDir) -> bool:
    """Whether the reject file of the state folder is among the files of a source."""
    return bool(_places(source, folder))


def keep_rejects(source: Source, folder: StateDir) -> None:
    """Keep the job's own rejects if the run that begins reads them. Raises StateError."""
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


def drop_kept(folder: StateDir) -> None:
    """Remove the kept file, which is not needed any more."""
    with suppress(OSError):
        folder.kept_rejects.unlink(missing_ok=True)


def with_kept(source: Source, folder: StateDir) -> Source:
    """The source with the kept file in place of its own rejects, if its run has committed all rows.

    The same source if there is no such run, or if somebody wrote to the rejects since.
    """
    places = _places(source, folder)
    if not places or not folder.kept_rejects.exists():
        return source
    try:
        with Checkpoint.load(folder.checkpoint) or nullcontext() as found:
            if found is None or not found.progress().complete:
                return source
            progress = found.progress()
            with folder.rejects.open("rb") as lines:  # are they what the run leaves behind?
                pairs = zip_longest(lines, reject_lines(found.rejects(), run=progress.number))
                if any(one != other for one, other in pairs):
                    return source
    except (EtlError, OSError):
        return source  # the start of the run reports what is wrong
    entries = entries_of(progress.identity)
    for place in places:
        kept = source.kept(place, folder.kept_rejects)
        file = kept.files[place]
        entry = [file.name, file.size, file.modified, file.sample]
        if place < len(entries) and list(entries[place]) == entry:
            source = kept
    return source


def _places(source: Source, folder: StateDir) -> list[int]:
    own = folder.rejects.resolve()
    return [place for place in range(len(source.files)) if source.path(place) == own]
