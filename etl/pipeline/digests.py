"""Digests of whole files: made at the start if that is quick or they are needed, else while rows are sent."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from ..errors import EtlError
from ..reader import Source

# Reading so much takes less than a tenth of a second.
QUICK_BYTES: Final = 64_000_000
_JOIN_SECONDS: Final = 2.0

Keep = Callable[[Mapping[int, str]], None]


def first_digests(source: Source, *, needed: bool) -> dict[int, str]:
    """The digests made before anything is sent; those of all files if they are `needed`."""
    if not source.repeatable:
        return {}
    weights = [source.weight(file) for file in range(len(source.files))]
    if not needed and sum(weight or 0 for weight in weights) > QUICK_BYTES:
        return {}
    found = {file: _digest(source, file, anywhere=needed) for file in range(len(weights))}
    return {file: digest for file, digest in found.items() if digest is not None}


def same_content(source: Source, digests: Mapping[int, str], file: int) -> bool | None:
    """Whether a file still has its digest; None if that is unknown."""
    if file not in digests:
        return None
    digest = _digest(source, file, anywhere=False)
    return None if digest is None else digest == digests[file]


@contextmanager
def digests_meanwhile(source: Source, known: Mapping[int, str], keep: Keep) -> Iterator[None]:
    """Make the other digests in a thread, and `keep` each, while the context is open.

    Without its digest, a file whose time changes counts as another one. Tables in memory are left out: their
    digests take longer than reading a file.
    """
    local = [file for file, known_as in enumerate(source.files) if known_as.modified is not None]
    left = [file for file in local if file not in known and source.weight(file) is not None]
    if not left or not source.repeatable:
        yield
        return
    stop = threading.Event()

    def make() -> None:
        for file in left:
            with suppress(EtlError, OSError):
                digest = source.digest(file, stop.is_set)
                if digest is not None:
                    keep({file: digest})

    thread = threading.Thread(target=make, name="digest", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_JOIN_SECONDS)  # it may be stuck in a network file system


def _digest(source: Source, file: int, *, anywhere: bool) -> str | None:
    """A digest if one can be made; a file without a time is only fetched for it if that is allowed."""
    return source.digest(file, anywhere=anywhere and source.files[file].modified is None)
