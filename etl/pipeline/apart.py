"""Chunks made in a process of their own: one interpreter's lock is too little for making and sending.

The child is a fork: it begins at once, and shares what is loaded by then. It ends with its parent, since
nobody reads its pipe any more. Bodies and rows, which are nearly all of a chunk, stand in shared memory.
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
from dataclasses import dataclass, replace
from fcntl import fcntl
from io import BufferedReader, FileIO
from typing import Any, Final, NoReturn

import pyarrow as pa

from etl.errors import SourceError
from etl.model import Chunk
from etl.pipeline.arena import Arena, Stored

Made = Iterator[list[Chunk]]

_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ, which the module fcntl only has on Linux
_PIPE_BYTES: Final = 1 << 20
_SIZE: Final = struct.Struct("<Q")
_TOGETHER: Final = 8  # chunks in a frame; the slots of those in the making are beside those under way
_SLOTS_AHEAD: Final = 3 * _TOGETHER
_SLOT_BYTES: Final = 2 << 20  # a full body of the Identify API, and its rows


def may_fork() -> bool:
    """Whether a fork is safe here: on Linux, with no thread of Python's beside this one."""
    return sys.platform == "linux" and threading.active_count() == 1


@contextmanager
def made_apart(make: Callable[[], Made], *, concurrency: int, closing: int) -> Iterator[Made]:
    """What `make()` yields, made in a child process until the context ends; what it raises is raised here.

    `concurrency` is how many chunks are under way at once; there is memory to share for these and a few
    more. The child closes the descriptor `closing` at once: a lock that it shared would outlive its owner.
    """
    reading, writing = os.pipe()
    with suppress(OSError):  # above what this user may have
        fcntl(writing, _SET_PIPE_SIZE, _PIPE_BYTES)
    arena = Arena(concurrency + _SLOTS_AHEAD, _SLOT_BYTES)
    gc.freeze()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.close(closing)
        _be_child(make, writing, arena)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            yield _received(pipe, arena)
    finally:
        os.kill(child, signal.SIGKILL)  # a process that nobody has waited for is there, even when it ended
        os.waitpid(child, 0)
        arena.close()


def _received(pipe: BufferedReader, arena: Arena) -> Made:
    while (found := _receive(pipe)) is not None:
        if isinstance(found, BaseException):
            raise found
        yield [_unpack(packed, arena) for packed in found]


def _be_child(make: Callable[[], Made], writing: int, arena: Arena) -> NoReturn:
    # Terminals and service managers tell every process; the parent ends the run, in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(BrokenPipeError), FileIO(writing, "wb") as pipe:
        try:
            for chunks in make():
                for start in range(0, len(chunks), _TOGETHER):
                    few = chunks[start : start + _TOGETHER]
                    _send(pipe, [_pack(chunk, arena) for chunk in few])
            _send(pipe, None)
        except BrokenPipeError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the parent
            _send(pipe, error)
    os._exit(0)


@dataclass(frozen=True, slots=True)
class _Packed:
    """A chunk without its body and rows; these are in the arena, or, where there was no room, at hand."""

    chunk: Chunk
    pieces: Stored | tuple[bytes, bytes]


def _pack(chunk: Chunk, arena: Arena) -> _Packed:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, chunk.rows.schema) as stream:
        stream.write_batch(chunk.rows)
    rows: Any = sink.getvalue()
    stored = arena.put(memoryview(chunk.body), memoryview(rows))
    nothing: Any = None
    return _Packed(replace(chunk, body=b"", rows=nothing), stored or (bytes(chunk.body), rows.to_pybytes()))


def _unpack(packed: _Packed, arena: Arena) -> Chunk:
    pieces = packed.pieces
    body, rows = arena.get(pieces) if isinstance(pieces, Stored) else pieces
    return replace(packed.chunk, body=body, rows=pa.ipc.open_stream(pa.py_buffer(rows)).read_next_batch())


def _send(pipe: FileIO, found: object) -> None:
    """A frame: the size of a pickle, and the pickle."""
    data = pickle.dumps(found, protocol=5)
    for piece in (memoryview(_SIZE.pack(len(data))), memoryview(data)):
        while piece:
            piece = piece[pipe.write(piece) :]


def _receive(pipe: BufferedReader) -> list[_Packed] | BaseException | None:
    (size,) = _SIZE.unpack(_exactly(pipe, _SIZE.size))
    found: list[_Packed] | BaseException | None = pickle.loads(_exactly(pipe, size))  # noqa: S301 - our own child
    return found


def _exactly(pipe: BufferedReader, size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise SourceError(
            "the process that reads the source ended before its time",
            hint="it may have run out of memory; run the same command again, what is settled is kept",
        )
    return data
