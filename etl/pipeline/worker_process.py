"""A second process that makes the chunks, as one interpreter can't make and send them at full speed.

The worker process is a fork: it starts at once, and shares what is loaded by then. It ends with its parent,
and never returns into the code that forked. Chunks come in memory files; their bodies and rows, nearly all of
their bytes, are not copied. Once nothing in the parent refers to a file, the worker writes the next chunks
into it: memory that is used again is cheaper than new memory.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import mmap
import os
import pickle
import signal
import socket
import struct
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import fields
from functools import partial
from operator import attrgetter
from typing import BinaryIO, Final, NoReturn, TypeAlias

import numpy as np
import pyarrow as pa

from ..errors import EtlError, SourceError
from ..model import Body, Chunk, Piece
from ..process import STOPPING
from .prefetch import ChunkStream, one_ahead, prefetch_chunks

MakeChunks: TypeAlias = Callable[[], Iterator[list[Chunk]]]

_SET_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG, from Linux's prctl.h
_HEAD: Final = struct.Struct("<IQ")  # a message: the number of its memory file, the size of the pickle in it
_NUMBER: Final = struct.Struct("<I")  # an answer: the number of a free file; b".": a list was taken
_LISTS_AHEAD: Final = 3  # lists of chunks that the worker makes before the parent takes them
_MOST_PIECES: Final = 1024  # IOV_MAX
_ALIGNMENT: Final = 64  # as Arrow wants its buffers
_FIELDS: Final = tuple(field.name for field in fields(Chunk) if field.name not in {"body", "rows"})
_values_of: Final = attrgetter(*_FIELDS)


def may_fork() -> bool:
    """Whether a fork is safe here: on Linux, if no other thread of Python runs."""
    return sys.platform == "linux" and threading.active_count() == 1


@contextmanager
def worker_process(make: MakeChunks, *, lock: int) -> Iterator[ChunkStream]:
    """What `make()` yields, made in a child process until the context ends; its errors are raised here.

    If the system has no descriptor or process to spare, chunks are made in this process. The child closes the
    descriptor `lock` at once: a lock that it shared would outlive its owner.
    """
    with ExitStack() as stack:
        try:
            os.close(os.memfd_create("chunks"))
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.enter_context(ours).setblocking(False)
            with theirs:
                pid = _fork(partial(_be_worker, make, theirs, os.getpid(), (ours.fileno(), lock)))
        except OSError:
            stream: ChunkStream = partial(prefetch_chunks, make())
        else:
            # A process that nobody has waited for stays, even after its end.
            stack.callback(os.waitpid, pid, 0)
            stack.callback(os.kill, pid, signal.SIGKILL)
            stream = partial(one_ahead, partial(_receive, ours, {}))
        yield stream


def _fork(be_worker: Callable[[], NoReturn]) -> int:
    """Fork; a Ctrl-C meanwhile waits, as in the child it would raise in the parent's code."""
    pa.default_memory_pool().release_unused()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    try:
        return os.fork() or be_worker()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _be_worker(make: MakeChunks, parent: socket.socket, parent_id: int, unwanted: Iterable[int]) -> NoReturn:
    """Make chunks and send them. Whatever happens, the process ends here: the code above is the parent's."""
    try:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)  # the parent ends the run
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        with suppress(OSError, AttributeError):  # end with the parent, also in a long calculation
            ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != parent_id:
            os._exit(0)
        gc.freeze()  # looking for garbage in what is there by now would copy it from the parent
        for descriptor in unwanted:
            os.close(descriptor)
        _send_chunks(make, parent)
    finally:
        os._exit(0)


class _MemoryFiles:
    """The worker's memory files: those that the parent has released are used again."""

    def __init__(self, parent: socket.socket) -> None:
        self._parent = parent
        self._files: list[BinaryIO] = []
        self._free: list[int] = []
        self._ahead = 0

    def wait(self) -> None:
        """Wait until the parent has taken enough lists. Raises ConnectionError if it has ended."""
        while True:
            try:
                waits = 0 if self._ahead >= _LISTS_AHEAD else socket.MSG_DONTWAIT
                answer = self._parent.recv(_NUMBER.size, waits)
            except BlockingIOError:
                return
            if not answer:
                raise ConnectionResetError
            if len(answer) == _NUMBER.size:
                self._free += _NUMBER.unpack(answer)
            else:
                self._ahead -= 1

    def send(self, found: object, buffers: Iterable[Body] = ()) -> None:
        """Send a pickle and, each at an aligned place, buffers in pieces."""
        head = pickle.dumps(found, protocol=5)
        if not self._free:
            self._free.append(len(self._files))
            self._files.append(open(os.memfd_create("chunks"), "wb", buffering=0))  # noqa: PTH123, SIM115
        number = self._free.pop()
        file = self._files[number]
        file.seek(0)
        pieces: list[Piece] = [head]
        place = len(head)
        for body in buffers:
            pieces += (bytes(-place % _ALIGNMENT), *body)
            place += -place % _ALIGNMENT + sum(map(len, body))
        for first in range(0, len(pieces), _MOST_PIECES):
            some = pieces[first : first + _MOST_PIECES]
            if os.writev(file.fileno(), some) < sum(map(len, some)):  # over 2 GB, or no memory
                raise OSError(errno.ENOSPC, "a memory file can't grow")
        if place < os.fstat(file.fileno()).st_size // 2:
            file.truncate(place)  # one large list must not keep its memory for the whole run
        socket.send_fds(self._parent, [_HEAD.pack(number, len(head))], [file.fileno()])
        self._ahead += 1


def _send_chunks(make: MakeChunks, parent: socket.socket) -> None:
    files = _MemoryFiles(parent)
    try:
        for chunks in filter(None, make()):
            files.wait()
            buffers: list[Body] = []
            for chunk in chunks:
                buffers += (chunk.body, (memoryview(chunk.rows.serialize()),))
            sizes = [sum(map(len, pieces)) for pieces in buffers]
            values = [(chunk.rows.schema.serialize().to_pybytes(), _values_of(chunk)) for chunk in chunks]
            files.send((sizes, values), buffers)
        files.send(None)
    except ConnectionError:
        pass  # the parent has ended
    except BaseException as error:  # noqa: BLE001 - raised again in the parent
        with suppress(ConnectionError):
            files.send(_error_to_raise(error))


def _error_to_raise(error: BaseException) -> BaseException:
    """The error as it comes out of a pickle, or one in its place; both have its traceback as text."""
    text = "".join(traceback.format_exception(error))
    if not isinstance(error, EtlError):
        error.add_note(f"in the process that reads the source:\n{text}")
    found = None
    with suppress(Exception):  # somebody else's class can fail in any way
        found = pickle.loads(pickle.dumps(error, protocol=5))  # noqa: S301 - it was made here
    # What isn't an Exception would end more than this run.
    if isinstance(found, Exception | KeyboardInterrupt):
        return found
    return RuntimeError(f"the process that reads the source failed:\n{text}")


async def _receive(worker: socket.socket, mapped: dict[int, mmap.mmap]) -> list[Chunk] | None:
    """The next list of chunks; None after the last. Raises the worker's error. `mapped` as in `_mapped`."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(worker, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(worker)
    try:
        message, descriptors, _, _ = socket.recv_fds(worker, _HEAD.size, 1)
    except ConnectionResetError:  # it has ended: raised once, before the last messages are returned
        message, descriptors, _, _ = socket.recv_fds(worker, _HEAD.size, 1)
    if not descriptors:
        raise SourceError(
            "the process that reads the source ended early",
            hint="it may have run out of memory; run the same command again, what is committed is kept",
        )
    number, place = _HEAD.unpack(message)
    memory = _mapped(descriptors[0], mapped, number, partial(_release, worker, number))
    found = pickle.loads(memory[:place])  # noqa: S301 - our own child
    if isinstance(found, BaseException):
        raise found
    if found is None:
        mapped.clear()
        return None
    with suppress(ConnectionError):  # it has ended after its last list
        await loop.sock_sendall(worker, b".")
    buffers: list[memoryview] = []
    sizes, values = found
    for size in sizes:
        place += -place % _ALIGNMENT
        buffers.append(memory[place : place + size])
        place += size
    chunks = []
    for body, rows, (schema, others) in zip(buffers[::2], buffers[1::2], values, strict=True):
        batch = pa.ipc.read_record_batch(pa.py_buffer(rows), pa.ipc.read_schema(pa.py_buffer(schema)))
        chunks.append(Chunk(body=(body,), rows=batch, **dict(zip(_FIELDS, others, strict=True))))
    return chunks


def _mapped(
    descriptor: int, mapped: dict[int, mmap.mmap], number: int, release: Callable[[], None]
) -> memoryview:
    """The content of a memory file, which is released when nothing refers to it any more.

    `mapped` has the files by number, and keeps them: a file that has not grown is not mapped again.
    """
    with open(descriptor, "rb") as file:
        memory = mapped.pop(number, None)
        if memory is None or len(memory) < os.fstat(descriptor).st_size:
            try:
                memory = mmap.mmap(descriptor, 0, mmap.MAP_SHARED | mmap.MAP_POPULATE, mmap.PROT_READ)
            except OSError:  # no descriptor or address space to spare
                found = memoryview(file.read())
                release()
                return found
        mapped[number] = memory
        content = np.frombuffer(memory, np.uint8)
        weakref.finalize(content, release).atexit = False
        return content.data


def _release(worker: socket.socket, number: int) -> None:
    with suppress(OSError):  # it has ended, or the socket is closed
        worker.send(_NUMBER.pack(number))
