"""Chunks made in a process of their own: one interpreter's lock is too little for making and sending.

The child is a fork: it begins at once, and shares what is loaded by then. It ends with its parent, since
nobody reads its pipe any more. Bodies and rows, which are nearly all of a chunk, stand in shared memory.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import struct
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import fields
from fcntl import fcntl
from functools import lru_cache, partial
from io import FileIO
from operator import attrgetter
from typing import Final, NamedTuple, NoReturn

import pyarrow as pa

from etl.errors import SourceError
from etl.interrupts import STOPPING, held
from etl.model import Body, Chunk, Piece
from etl.pipeline.ahead import Arriving, got_ahead
from etl.pipeline.arena import Arena, Stored
from etl.pipeline.cores import one_core_left

Made = Iterator[list[Chunk]]

_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ, which the module fcntl only has on Linux
_PIPE_BYTES: Final = 1 << 20
_SIZE: Final = struct.Struct("<Q")
_TOGETHER: Final = 4  # chunks in a frame, which has a slot to itself
_FRAMES_AHEAD: Final = 6  # in the making, on their way, or with a last chunk that is late
_SLOT_BYTES: Final = _TOGETHER * (2 << 20)  # full bodies of the Identify API, and their rows
_SHORT: Final = tuple(field.name for field in fields(Chunk) if field.name not in {"body", "rows"})
_values_of: Final = attrgetter(*_SHORT)


def may_fork() -> bool:
    """Whether a fork is safe here: on Linux, with no thread of Python's beside this one."""
    return sys.platform == "linux" and threading.active_count() == 1


@contextmanager
def made_apart(make: Callable[[], Made], *, concurrency: int, closing: int) -> Iterator[Arriving]:
    """What `make()` yields, made in a child process until the context ends; what it raises is raised here.

    It arrives in an event loop, without a thread of its own: each thread more would take turns with sending.
    This thread leaves a core to the child meanwhile.

    `concurrency` is how many chunks are under way at once; there is memory to share for these and a few
    more. The child closes the descriptor `closing` at once: a lock that it shared would outlive its owner.
    """
    reading, writing = os.pipe()
    with suppress(OSError):  # above what this user may have
        fcntl(writing, _SET_PIPE_SIZE, _PIPE_BYTES)
    arena = Arena(-(-concurrency // _TOGETHER) + _FRAMES_AHEAD, _SLOT_BYTES)
    gc.freeze()
    child = 0
    try:
        with held():  # a signal must neither end the child as if it were the parent, nor leave it alone
            child = os.fork()
            if child == 0:
                os.close(reading)
                os.close(closing)
                _be_child(make, _Sender(FileIO(writing, "wb"), arena))
            os.close(writing)
        with FileIO(reading) as pipe, one_core_left():
            yield _Receiver(pipe, arena).arriving
    finally:
        if child:  # a process that nobody has waited for is there, even when it ended
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        arena.close()


def _be_child(make: Callable[[], Made], sender: _Sender) -> NoReturn:
    # Terminals and service managers tell every process; the parent ends the run, in its own time.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
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


class _Frame(NamedTuple):
    """Chunks on their way: what is short in them, and buffers, in the arena or, for want of room, here."""

    short: bytes
    buffers: Stored | list[bytes]


class _Sender:
    """The child's end."""

    def __init__(self, pipe: FileIO, arena: Arena) -> None:
        self._pipe = pipe
        self._arena = arena
        self._schema, self._serialized = pa.schema([]), b""

    def send_chunks(self, chunks: list[Chunk]) -> None:
        for start in range(0, len(chunks), _TOGETHER):
            self.send(self._packed(chunks[start : start + _TOGETHER]))

    def send(self, found: _Frame | BaseException | None) -> None:
        """Send the size of a pickle, and the pickle."""
        pickled = pickle.dumps(found, protocol=5)
        left = memoryview(_SIZE.pack(len(pickled)) + pickled)
        while left:
            left = left[self._pipe.write(left) :]

    def _packed(self, chunks: list[Chunk]) -> _Frame:
        arrays: list[pickle.PickleBuffer] = []
        values = [(self._schema_of(chunk.rows), *_values_of(chunk)) for chunk in chunks]
        short = pickle.dumps(values, protocol=5, buffer_callback=arrays.append)
        buffers: list[Body] = [(array.raw(),) for array in arrays]
        for chunk in chunks:
            buffers += (chunk.body, (memoryview(chunk.rows.serialize()),))
        return _Frame(short, self._arena.put(buffers) or [b"".join(pieces) for pieces in buffers])

    def _schema_of(self, rows: pa.RecordBatch) -> bytes:
        if not rows.schema.equals(self._schema):
            self._schema, self._serialized = rows.schema, rows.schema.serialize().to_pybytes()
        return self._serialized


class _Receiver:
    """The parent's end."""

    def __init__(self, pipe: FileIO, arena: Arena) -> None:
        self._pipe = pipe
        self._arena = arena

    async def arriving(self, stopped: asyncio.Event) -> AsyncGenerator[list[Chunk], None]:
        """Chunks in order, to the last or until `stopped`. Raises what was raised in the child."""
        stream = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), self._pipe
        )
        try:
            async with aclosing(got_ahead(partial(self._receive, stream), stopped)) as received:
                async for chunks in received:
                    yield chunks
        finally:
            transport.close()

    async def _receive(self, stream: asyncio.StreamReader) -> list[Chunk] | None:
        try:
            (size,) = _SIZE.unpack(await stream.readexactly(_SIZE.size))
            data = await stream.readexactly(size)
        except asyncio.IncompleteReadError:
            raise SourceError(
                "the process that reads the source ended before its time",
                hint="it may have run out of memory; run the same command again, what is settled is kept",
            ) from None
        found: _Frame | BaseException | None = pickle.loads(data)  # noqa: S301 - our own child
        if isinstance(found, BaseException):
            raise found
        return None if found is None else self._unpacked(found)

    def _unpacked(self, frame: _Frame) -> list[Chunk]:
        found = frame.buffers
        buffers: Iterator[Piece] = iter(self._arena.get(found) if isinstance(found, Stored) else found)
        # This takes the arrays; a body and rows of each chunk are what is left.
        short = pickle.loads(frame.short, buffers=buffers)  # noqa: S301 - our own child
        return [
            Chunk(body=(body,), rows=_read(rows, schema), **dict(zip(_SHORT, values, strict=True)))
            for (schema, *values), body, rows in zip(short, buffers, buffers, strict=False)
        ]


def _read(rows: Piece, schema: bytes) -> pa.RecordBatch:
    return pa.ipc.read_record_batch(pa.py_buffer(rows), _schema(schema))


@lru_cache(maxsize=4)
def _schema(serialized: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(serialized))
