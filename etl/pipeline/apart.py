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
from dataclasses import replace
from fcntl import fcntl
from io import BufferedReader, FileIO
from typing import Any, Final, NamedTuple, NoReturn

import pyarrow as pa

from etl.errors import SourceError
from etl.model import Chunk
from etl.pipeline.arena import Arena, Stored

Made = Iterator[list[Chunk]]

_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ, which the module fcntl only has on Linux
_PIPE_BYTES: Final = 1 << 20
_SIZE: Final = struct.Struct("<Q")
_TOGETHER: Final = 4  # chunks in a frame; the slots of those in the making are beside those under way
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
        _be_child(make, _Sender(FileIO(writing, "wb"), arena))
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            yield iter(_Receiver(pipe, arena).receive, None)
    finally:
        os.kill(child, signal.SIGKILL)  # a process that nobody has waited for is there, even when it ended
        os.waitpid(child, 0)
        arena.close()


def _be_child(make: Callable[[], Made], sender: _Sender) -> NoReturn:
    # Terminals and service managers tell every process; the parent ends the run, in its own time.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with suppress(BrokenPipeError):
        try:
            for chunks in make():
                sender.send_chunks(chunks)
            sender.send(None)
        except BrokenPipeError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again in the parent
            sender.send(error)
    os._exit(0)


class _Packed(NamedTuple):
    """A pickled chunk whose buffers are in the arena, or, where there was no room, in the pickle (None).

    Its rows are without their schema, which is given where it isn't that of the chunk before.
    """

    pickled: bytes
    buffers: Stored | None
    schema: pa.Schema | None


class _Sender:
    """The child's end."""

    def __init__(self, pipe: FileIO, arena: Arena) -> None:
        self._pipe = pipe
        self._arena = arena
        self._schema: pa.Schema | None = None

    def send_chunks(self, chunks: list[Chunk]) -> None:
        for start in range(0, len(chunks), _TOGETHER):
            self.send([self._packed(chunk) for chunk in chunks[start : start + _TOGETHER]])

    def send(self, found: list[_Packed] | BaseException | None) -> None:
        """Send a frame: the size of a pickle, and the pickle."""
        data = pickle.dumps(found, protocol=5)
        for piece in (memoryview(_SIZE.pack(len(data))), memoryview(data)):
            while piece:
                piece = piece[self._pipe.write(piece) :]

    def _packed(self, chunk: Chunk) -> _Packed:
        schema = chunk.rows.schema
        changed = None if self._schema is not None and schema.equals(self._schema) else schema
        self._schema = schema
        rows: Any = pickle.PickleBuffer(chunk.rows.serialize())
        lean = replace(chunk, body=(), rows=rows)
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(lean, protocol=5, buffer_callback=buffers.append)
        stored = self._arena.put([chunk.body, *((buffer.raw(),) for buffer in buffers)])
        if stored is None:
            pickled = pickle.dumps(replace(lean, body=(b"".join(chunk.body),)), protocol=5)
        return _Packed(pickled, stored, changed)


class _Receiver:
    """The parent's end."""

    def __init__(self, pipe: BufferedReader, arena: Arena) -> None:
        self._pipe = pipe
        self._arena = arena
        self._schema: pa.Schema | None = None

    def receive(self) -> list[Chunk] | None:
        """The next chunks; None at the end. Raises what was raised in the child."""
        (size,) = _SIZE.unpack(self._exactly(_SIZE.size))
        found: list[_Packed] | BaseException | None = pickle.loads(self._exactly(size))  # noqa: S301 - our own child
        if isinstance(found, BaseException):
            raise found
        return None if found is None else [self._unpacked(packed) for packed in found]

    def _unpacked(self, packed: _Packed) -> Chunk:
        self._schema = self._schema if packed.schema is None else packed.schema
        body, *buffers = self._arena.get(packed.buffers) if packed.buffers else (b"",)
        chunk: Chunk = pickle.loads(packed.pickled, buffers=buffers)  # noqa: S301 - our own child
        rows = pa.ipc.read_record_batch(pa.py_buffer(chunk.rows), self._schema)
        return replace(chunk, body=(body,) if packed.buffers else chunk.body, rows=rows)

    def _exactly(self, size: int) -> bytes:
        data = self._pipe.read(size)
        if len(data) < size:
            raise SourceError(
                "the process that reads the source ended before its time",
                hint="it may have run out of memory; run the same command again, what is settled is kept",
            )
        return data
