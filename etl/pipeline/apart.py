"""Chunks made in a process of their own: one interpreter's lock is too little for making and sending.

The child is a fork: it begins at once, and shares what is loaded by then. It ends with its parent, since
nobody reads its pipe any more.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from fcntl import fcntl
from io import BufferedReader, FileIO
from typing import Any, Final, NoReturn

import pyarrow as pa

from etl.errors import SourceError
from etl.model import Chunk

Made = Iterator[list[Chunk]]

_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ, which the module fcntl only has on Linux
_PIPE_BYTES: Final = 1 << 20
_LEAST_APART: Final = 1 << 15  # smaller buffers go with the rest of the pickle
_NUMBER: Final = struct.Struct("<Q")


def may_fork() -> bool:
    """Whether a fork is safe here: on Linux, with no thread of Python's beside this one."""
    return sys.platform == "linux" and threading.active_count() == 1


@contextmanager
def made_apart(make: Callable[[], Made], *, closing: int) -> Iterator[Made]:
    """What `make()` yields, made in a child process until the context ends; what it raises is raised here.

    The child closes the descriptor `closing` at once: a lock that it shared would outlive its owner.
    """
    reading, writing = os.pipe()
    with suppress(OSError):  # above what this user may have
        fcntl(writing, _SET_PIPE_SIZE, _PIPE_BYTES)
    gc.freeze()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.close(closing)
        _be_child(make, writing)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            yield _received(pipe)
    finally:
        os.kill(child, signal.SIGKILL)  # a process that nobody has waited for is there, even when it ended
        os.waitpid(child, 0)


def _received(pipe: BufferedReader) -> Made:
    while (found := _receive(pipe)) is not None:
        if isinstance(found, BaseException):
            raise found
        yield [_unpacked(chunk) for chunk in found]


def _be_child(make: Callable[[], Made], writing: int) -> NoReturn:
    # Terminals and service managers tell every process; the parent ends the run, in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(BrokenPipeError), FileIO(writing, "wb") as pipe:
        try:
            for chunks in make():
                _send(pipe, [_packed(chunk) for chunk in chunks])
            _send(pipe, None)
        except BrokenPipeError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the parent
            _send(pipe, error)
    os._exit(0)


def _packed(chunk: Chunk) -> Chunk:
    """The chunk with its bytes, and its rows as bytes, ready to be pickled without a copy."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, chunk.rows.schema) as stream:
        stream.write_batch(chunk.rows)
    rows: Any = pickle.PickleBuffer(sink.getvalue())
    body: Any = pickle.PickleBuffer(chunk.body)
    return replace(chunk, body=body, rows=rows)


def _unpacked(chunk: Chunk) -> Chunk:
    rows: Any = chunk.rows
    return replace(chunk, body=bytes(chunk.body), rows=pa.ipc.open_stream(rows).read_next_batch())


def _send(pipe: FileIO, found: object) -> None:
    """A frame: how many pieces, their sizes, and the pieces: a pickle, and the buffers that it leaves out."""
    buffers: list[pickle.PickleBuffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        small = buffer.raw().nbytes < _LEAST_APART
        if not small:
            buffers.append(buffer)
        return small

    head = pickle.dumps(found, protocol=5, buffer_callback=keep)
    pieces = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    sizes = [len(pieces), *(piece.nbytes for piece in pieces)]
    for piece in (memoryview(b"".join(map(_NUMBER.pack, sizes))), *pieces):
        while piece:
            piece = piece[pipe.write(piece) :]


def _receive(pipe: BufferedReader) -> list[Chunk] | BaseException | None:
    (count,) = _numbers(pipe, 1)
    head, *buffers = [_exactly(pipe, size) for size in _numbers(pipe, count)]
    found: list[Chunk] | BaseException | None = pickle.loads(head, buffers=buffers)  # noqa: S301 - our own child
    return found


def _numbers(pipe: BufferedReader, count: int) -> tuple[int, ...]:
    return struct.unpack(f"<{count}Q", _exactly(pipe, count * _NUMBER.size))


def _exactly(pipe: BufferedReader, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise SourceError(
            "the process that reads the source ended before its time",
            hint="it may have run out of memory; run the same command again, what is settled is kept",
        )
    return data
