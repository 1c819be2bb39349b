"""A pipe that nobody writes to: Ctrl-C ends the wait, whenever it comes."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from etl.reader.places import Piped


class Late(io.FileIO):
    """Asked for its descriptor, just before the wait, it is struck by a signal that Python hasn't seen yet.

    Another thread catches the signal, so that the wait of the main thread isn't cut short by it.
    """

    def fileno(self) -> int:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        threading.Thread(target=_strike, args=(blocked,)).start()
        return super().fileno()


def _strike(mask: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@contextmanager
def silence() -> Iterator[IO[bytes]]:
    reading, writing = os.pipe()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, set())
    try:
        with Late(reading, "rb") as stream:
            yield stream
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(writing)


@pytest.mark.timeout(10)
def test_an_interruption_just_before_a_wait_is_seen() -> None:
    with silence() as stream, pytest.raises(KeyboardInterrupt):
        Piped("pipe", lambda: stream).read_at(0, 1)
