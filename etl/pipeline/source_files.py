"""The files that a run reads: their digests, and the job's own rejects, which are replaced when it ends.

Digests of whole files are made at the start if that is quick or they are needed, else while rows are sent. Of
the job's own rejects a copy is kept beside them until the run that reads them has finished. So the run can be
resumed even if the process is killed after the new rejects were published.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import Final

import numpy as np

from ..checkpoint import Checkpoint, RejectKey, StateDir, reject_key, reject_lines
from ..errors import EtlError
from ..reader import Source
from ..state_files import is_there, replacing_file
from .unfinished import entry_of

# Reading so much takes less than a tenth of a second.
QUICK_BYTES: Final = 64_000_000
_JOIN_SECONDS: Final = 2.0


def first_digests(source: Source, *, needed: bool) -> dict[int, str]:
    """The digests made before anything is sent; those of all files if they are `needed`."""
    if not source.repeatable:
        return {}
    files = range(len(source.files))
    if not needed and sum(source.weight(file) or 0 for file in files) > QUICK_BYTES:
        return {}
    # A file without a time is only fetched for its digest if that is needed.
    untimed = [needed and file.modified is None for file in source.files]
    found = ((file, source.digest(file, anywhere=untimed[file])) for file in files)
    return {file: digest for file, digest in found if digest is not None}


def same_content(source: Source, digests: Mapping[int, str], file: int) -> bool | None:
    """Whether a file still has its digest; None if that is unknown."""
    digest = source.digest(file) if file in digests else None
    return None if digest is None else digest == digests[file]


@contextmanager
def digests_meanwhile(
    source: Source, known: Mapping[int, str], keep: Callable[[Mapping[int, str]], None]
) -> Iterator[None]:
    """Make the other digests in a thread, and `keep` each, while the context is open.

    Without its digest, a file whose time changes counts as another one. Tables in memory are left out: their
    digests take longer than reading a file.
    """
    local = [number for number, file in enumerate(source.files) if file.modified is not None]
    left = [number for number in local if number not in known and source.weight(number) is not None]
    if not left or not source.repeatable:
        yield
        return
    stop = threading.Event()

    def make() -> None:
        for number in left:
            with suppress(EtlError, OSError):
                digest = source.digest(number, stop.is_set)
                if digest is not None:
                    keep({number: digest})

    thread = threading.Thread(target=make, name="digest", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_JOIN_SECONDS)  # it may be stuck in a network file system


# --- the job's own rejects ------------------------------------------------------------------------------


def own_rejects(source: Source, folder: StateDir) -> list[int]:
    """Which files of a source are the reject file of the state folder."""
    own = folder.rejects.resolve()
    return [place for place in range(len(source.files)) if source.path(place) == own]


def keep_rejects(source: Source, folder: StateDir) -> None:
    """Keep the job's own rejects if the run that begins reads them. Raises StateError."""
    if not own_rejects(source, folder):
        drop_kept(folder)
        return
    with replacing_file(folder.kept_rejects) as kept, folder.rejects.open("rb") as rejects:
        shutil.copyfileobj(rejects, kept)
        kept.flush()
        state = os.fstat(rejects.fileno())  # a file with another time would be another one
        os.utime(kept.fileno(), ns=(state.st_atime_ns, state.st_mtime_ns))


def drop_kept(folder: StateDir) -> None:
    """Remove the kept file, which is not needed any more."""
    with suppress(OSError):
        folder.kept_rejects.unlink(missing_ok=True)


def stays_beside(source: Source, folder: StateDir) -> Callable[[RejectKey], bool]:
    """Which rejects of other runs stay in the reject file when a run of this source publishes its own.

    If rejects were sent again, those that were not among them; after an export, none. The job's own rejects
    were all sent.
    """
    if not source.holds_rejects or own_rejects(source, folder):
        return lambda _: False
    sent = np.zeros(0, np.int64)
    if source.repeatable:
        with suppress(EtlError, OSError):  # else nobody knows which were sent
            keys = filter(None, map(reject_key, source.reject_lines()))
            sent = np.sort(np.fromiter(map(hash, keys), np.int64))

    def stays(key: RejectKey) -> bool:
        place = sent.searchsorted(hash(key))
        return place == len(sent) or bool(sent[place] != hash(key))

    return stays


def with_kept(source: Source, folder: StateDir) -> Source:
    """The source with the kept file in place of its own rejects, if its run has committed all rows.

    The same source if there is no such run, or if somebody wrote to the rejects since.
    """
    places = own_rejects(source, folder)
    if not places or not is_there(folder.kept_rejects):
        return source
    try:
        with Checkpoint.look(folder.checkpoint) as found:
            if found is None or not found.progress().complete:
                return source
            progress = found.progress()
            with folder.rejects.open("rb") as lines:  # are they what the run leaves behind?
                pairs = zip_longest(lines, reject_lines(found.rejects(), run=progress.number))
                if any(one != other for one, other in pairs):
                    return source
    except (EtlError, OSError):
        return source  # the start of the run reports what is wrong
    entries = progress.identity["source"]
    for place in places:
        kept = source.kept(place, folder.kept_rejects)
        if place < len(entries) and entries[place] == entry_of(kept.files[place]):
            source = kept
    return source
