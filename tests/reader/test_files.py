"""A file that changed since it was opened is noticed, and a wait for a silent pipe can be interrupted."""

from __future__ import annotations

import io
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.reader import open_source
from etl.reader.files import PipedFile
from tests.reader.reading import opened, written

BIG = b"id\n" + b"0123456\n" * 50_000


def rewritten(path: Path, data: bytes, *, same_time: bool) -> None:
    before = path.stat().st_mtime_ns
    path.write_bytes(data)
    later = before if same_time else before + 10**9
    os.utime(path, ns=(later, later))


@pytest.mark.parametrize(
    ("data", "same_time", "message"),
    [
        (BIG + b"1\n", True, "had 400003 bytes when it was opened and has 400005 now"),
        (b"id\n9" + BIG[4:], True, "has other content"),
        (BIG[:-3] + b"9\n\n", True, "has other content"),
        (BIG, False, "was written to"),
    ],
)
def test_names_the_file_and_what_is_new(
    tmp_path: Path, data: bytes, message: str, *, same_time: bool
) -> None:
    other, path = written(tmp_path, "a.csv", b"id\n"), written(tmp_path, "b.csv", BIG)
    source = open_source([other, path])
    assert source.changed() is None
    rewritten(path, data, same_time=same_time)
    changed = source.changed()
    assert changed is not None
    assert changed.startswith(str(path))
    assert message in changed


def test_sees_another_parquet_file_by_its_footer(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    tables = [pa.table({"n": [1, 2, 3]}), pa.table({"n": [1, 2, 4]})]
    pq.write_table(tables[0], path, compression="none")
    source = opened(path)
    before = path.stat()
    pq.write_table(tables[1], path, compression="none")
    os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert source.changed() == f"{path} has other content than when it was opened"


def test_says_so_when_the_file_is_gone(tmp_path: Path) -> None:
    path = written(tmp_path, "x.csv", b"id\n")
    source = opened(path)
    path.unlink()
    assert source.changed() == f"{path} is not there"


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
        PipedFile("pipe", lambda: stream)._read_at(0, 1)
