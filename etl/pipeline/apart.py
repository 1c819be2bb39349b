"""Chunks made in a process of their own: one interpreter's lock is too little for making and sending.

The child is a fork: it begins at once, and shares what is loaded by then. It ends with its parent, and never
runs on in the code that forked. Bodies and rows, which are nearly all of a chunk, stand in shared memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import pickle
import signal
import struct
import sys
import threading
import traceback
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from contextlib import ExitStack, aclosing, contextmanager, suppress
from dataclasses import fields
from fcntl import fcntl
from functools import lru_cache, partial
from io import FileIO
from operator import attrgetter
from typing import Final, NamedTuple, NoReturn

import pyarrow as pa

from etl.errors import EtlError, SourceError
from etl.interrupts import STOPPING
from etl.model import Body, Chunk, Piece
from etl.pipeline.ahead import Arriving, got_ahead, made_ahead
from etl.pipeline.arena import Arena, Stored
from etl.pipeline.cores import one_core_left

Made = Iterator[list[Chunk]]

_SET_PIPE_SIZE: Final = 1031  # F_SETPIPE_SZ, which the module fcntl only has on Linux
_PIPE_BYTES: Final = 1 << 20
_SET_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG, from Linux's prctl.h
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
    This thread leaves a core to the child meanwhile. Where the system has no memory or process to spare,
    chunks are made in this process.

    `concurrency` is how many chunks are under way at once; there is memory to share for these and a few
    more. The child closes the descriptor `closing` at once: a lock that it shared would outlive its owner.
    """
    child = _started(make, slots=-(-concurrency // _TOGETHER) + _FRAMES_AHEAD, closing=closing)
    if child is None:
        yield partial(made_ahead, make())
        return
    try:
        with FileIO(child.reading) as pipe, one_core_left():
            yield _Receiver(pipe, child.arena).arriving
    finally:
        # A process that nobody has waited for is there, even when it ended.
        os.kill(child.pid, signal.SIGKILL)
        os.waitpid(child.pid, 0)
        child.arena.close()


class _Child(NamedTuple):
    """A process that makes chunks, the end of the pipe to read, and the memory to share."""

    pid: int
    reading: int
    arena: Arena


def _started(make: Callable[[], Made], *, slots: int, closing: int) -> _Child | None:
    """Fork; None where there aren't the descriptors, the memory or the process for it."""
    with ExitStack() as undo:
        try:
            reading, writing = os.pipe()
            undo.callback(os.close, reading)
            writing_end = undo.enter_context(FileIO(writing, "wb"))
            with suppress(OSError):  # above what this user may have
                fcntl(writing, _SET_PIPE_SIZE, _PIPE_BYTES)
            arena = Arena(slots, _SLOT_BYTES)
            undo.callback(arena.close)
            pid = _fork(
                partial(_be_child, make, writing_end, arena, parent=os.getpid(), unwanted=(reading, closing))
            )
        except (OSError, MemoryError, ValueError, OverflowError):
            return None
        undo.pop_all()
    writing_end.close()
    return _Child(pid, reading, arena)


def _fork(be_child: Callable[[], NoReturn]) -> int:
    """The child's process id. A Ctrl-C meanwhile waits: in the child it would raise in the parent's code."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        pid = os.fork()
        if pid == 0:
            be_child()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _be_child(
    make: Callable[[], Made], pipe: FileIO, arena: Arena, *, parent: int, unwanted: Iterable[int]
) -> NoReturn:
    """Make chunks and send them. Whatever happens, the process ends here: the code above is the parent's."""
    try:
        # Terminals and service managers tell every process; the parent ends the run, in its own time.
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        _end_with(parent)
        # What is there by now stays; looking through it for garbage would copy it from the parent.
        gc.freeze()
        for descriptor in unwanted:
            os.close(descriptor)
        _send_all(make, _Sender(pipe, arena))
    finally:
        os._exit(0)


def _end_with(parent: int) -> None:
    """Have the system end this process when its parent ends, also in the middle of a long calculation."""
    with suppress(OSError, AttributeError):  # then it ends when it finds that nobody reads its pipe
        ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)


def _send_all(make: Callable[[], Made], sender: _Sender) -> None:
    try:
        for chunks in make():
            sender.send_chunks(chunks)
        sender.send(None)
    except BrokenPipeError:
        pass
    except BaseException as error:  # noqa: BLE001 - raised again in the parent
        with suppress(BrokenPipeError):
            sender.send(_failure(error))


def _failure(error: BaseException) -> _Failure:
    text = "".join(traceback.format_exception(error))
    try:
        return _Failure(pickle.dumps(error, protocol=5), text)
    except Exception:  # noqa: BLE001 - somebody else's class can fail in any way
        return _Failure(b"", text)


class _Failure(NamedTuple):
    """What was raised in the child, pickled where it can be, and its traceback."""

    pickled: bytes
    text: str

    def error(self) -> BaseException:
        """What is to be raised here. What isn't an Exception would end more than this run."""
        try:
            found = pickle.loads(self.pickled)  # noqa: S301 - our own child
        except Exception:  # noqa: BLE001 - somebody else's class can fail in any way
            found = None
        if isinstance(found, Exception | KeyboardInterrupt):
            if not isinstance(found, EtlError):
                found.add_note(f"in the process that reads the source:\n{self.text}")
            return found
        return RuntimeError(f"the process that reads the source failed:\n{self.text}")


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

    def send(self, found: _Frame | _Failure | None) -> None:
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
                hint="it may have run out of memory; run the same command again, what is committed is kept",
            ) from None
        found: _Frame | _Failure | None = pickle.loads(data)  # noqa: S301 - our own child
        if isinstance(found, _Failure):
            raise found.error()
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
