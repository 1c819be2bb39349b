"""The part of a stream that is being looked at: it grows at its end and is taken from its beginning."""

from __future__ import annotations

from collections.abc import Iterator

LIMIT = 1 << 25


class Window:
    """`data` is what was read and not yet taken; `final` says that the stream ends with it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.data = b""
        self.final = False

    @property
    def full(self) -> bool:
        """Whether it holds more than one record may have: 32 MiB."""
        return len(self.data) > LIMIT

    def grow(self) -> None:
        """Make it about twice as long, or one chunk longer, or final."""
        added: list[bytes] = []
        missing = max(1, len(self.data))
        while missing > 0 and not self.final:
            chunk = next(self._chunks, None)
            self.final = chunk is None
            added.append(chunk or b"")
            missing -= len(added[-1])
        self.data = b"".join((self.data, *added))

    def take(self, count: int) -> None:
        """Drop `count` bytes at the beginning."""
        self.data = self.data[count:]
