"""Memory that two processes share: slots for what is too big to be copied through a pipe.

One process fills free slots. The other gets views of them, and a slot is free again as soon as nothing there
refers to it any more. The numbers of the free ones travel back in a pipe.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Any, Final, NamedTuple

from etl.model import Piece

_NUMBER: Final = struct.Struct("<H")
_MOST_SLOTS: Final = 1 << 12  # a pipe has room for the numbers of twice as many
_ALIGNED: Final = 64  # as Arrow wants its buffers
# The other process may keep every slot for long, so whoever fills them must have another way too.
_PATIENCE_MILLISECONDS: Final = 20


class Stored(NamedTuple):
    """Where buffers are: the slot, and the bytes of each buffer."""

    slot: int
    sizes: tuple[int, ...]


class Arena:
    """At most `slots` slots of `size` bytes, made before the fork; the system gives memory as it is used."""

    def __init__(self, slots: int, size: int) -> None:
        slots = min(slots, _MOST_SLOTS)
        self._size = size
        self._memory = mmap.mmap(-1, slots * size)
        self._bytes: Any = ctypes.c_ubyte * size
        self._free, self._freed = os.pipe()
        os.write(self._freed, b"".join(map(_NUMBER.pack, range(slots))))

    def put(self, buffers: Sequence[Sequence[Piece]]) -> Stored | None:
        """Copy buffers, each given in pieces, into a free slot.

        None where they are too big, or where all slots are and stay in use.
        """
        sizes = tuple(sum(map(len, pieces)) for pieces in buffers)
        *starts, end = _borders(sizes)
        slot = self._take() if end <= self._size else None
        if slot is None:
            return None
        for start, pieces in zip(starts, buffers, strict=True):
            at = slot * self._size + start
            for piece in pieces:
                self._memory[at : at + len(piece)] = piece
                at += len(piece)
        return Stored(slot, sizes)

    def get(self, stored: Stored) -> list[memoryview]:
        """The buffers. The slot is free again when these, and all that was made of them, are gone."""
        everything = self._bytes.from_buffer(self._memory, stored.slot * self._size)
        weakref.finalize(everything, self._give_back, stored.slot).atexit = False
        view = memoryview(everything).cast("B")
        *starts, _ = _borders(stored.sizes)
        return [view[at : at + size] for at, size in zip(starts, stored.sizes, strict=True)]

    def close(self) -> None:
        """Nobody fills slots any more; what was got stays good."""
        freed, self._freed = self._freed, -1
        os.close(freed)
        os.close(self._free)

    def _take(self) -> int | None:
        poll = select.poll()
        poll.register(self._free, select.POLLIN)
        if not poll.poll(_PATIENCE_MILLISECONDS):
            return None
        return int(_NUMBER.unpack(os.read(self._free, _NUMBER.size))[0])

    def _give_back(self, slot: int) -> None:
        with suppress(OSError):  # closed: nobody wants it any more
            os.write(self._freed, _NUMBER.pack(slot))


def _borders(sizes: Sequence[int]) -> Iterator[int]:
    """Where each buffer begins in a slot, and where the last one's room ends."""
    return accumulate((-(-size // _ALIGNED) * _ALIGNED for size in sizes), initial=0)
