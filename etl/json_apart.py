"""JSON lines written by a process of their own.

arro3 keeps the interpreter's lock while it writes. In another process it keeps nobody waiting, so that a
run whose rate has no limit uses both cores of a small machine.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from contextlib import suppress
from typing import BinaryIO, Final, Self, cast

import pyarrow as pa

from etl.json_lines import json_stream

_LENGTH_BYTES: Final = 8
_PIPE_BYTES: Final = 1 << 20


class JsonApart:
    """Writes record batches as `json_stream` does, in a child process; here, should the child fail.

    Use it from one thread at a time, and `close` it.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        with suppress(OSError):
            self._child = subprocess.Popen(
                [sys.executable, "-m", "etl.json_apart"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                start_new_session=True,  # Ctrl-C is for the run, which then closes this
            )
            _widen(self._child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, rows: pa.RecordBatch) -> bytearray:
        """A JSON object and a newline for each row; nulls are left out."""
        if self._child is not None:
            try:
                return self._ask(self._child, rows)
            except (OSError, EOFError):
                self.close()
        return bytearray(json_stream(rows).getbuffer())

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()
            child.wait()

    def _ask(self, child: subprocess.Popen[bytes], rows: pa.RecordBatch) -> bytearray:
        stdin, stdout = cast("BinaryIO", child.stdin), cast("BinaryIO", child.stdout)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_batch(rows)
        _send(stdin, memoryview(sink.getvalue()))
        return _receive(stdout)


def _widen(child: subprocess.Popen[bytes]) -> None:
    """Make the pipes as wide as an ordinary user may, where the system has such a thing."""
    for pipe in (child.stdin, child.stdout):
        if pipe is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)


def _send(pipe: BinaryIO, data: memoryview) -> None:
    pipe.write(len(data).to_bytes(_LENGTH_BYTES, "little"))
    while len(data):
        data = data[pipe.write(data) :]


def _receive(pipe: BinaryIO) -> bytearray:
    length = bytearray(_LENGTH_BYTES)
    _fill(pipe, memoryview(length))
    data = bytearray(int.from_bytes(length, "little"))
    _fill(pipe, memoryview(data))
    return data


def _fill(pipe: BinaryIO, room: memoryview) -> None:
    while len(room):
        count = pipe.readinto(room)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        room = room[count:]


def _serve() -> None:
    """What the child does until nobody asks any more."""
    stdin, stdout = open(0, "rb", buffering=0), open(1, "wb", buffering=0)  # noqa: SIM115
    with suppress(EOFError, BrokenPipeError):
        while True:
            with pa.ipc.open_stream(pa.py_buffer(_receive(stdin))) as reader:
                rows = reader.read_next_batch()
            _send(stdout, json_stream(rows).getbuffer())


if __name__ == "__main__":
    _serve()
