"""Delimiters beyond ASCII, such as `§`, which pyarrow doesn't take: another character stands for them.

Where a text has that character itself, it is hidden meanwhile, so that every value comes out as it stands.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

# ASCII's own separator of fields.
_STAND_IN: Final = "\x1f"
# A noncharacter, which Unicode keeps for use inside of programs; not that of the escapes.
_SIGN: Final = "\ufdd1"
# What a text may have itself, and what that is hidden as.
_OWN: Final = ((_SIGN, f"{_SIGN}b"), (_STAND_IN, f"{_SIGN}a"))


@dataclass(frozen=True, slots=True)
class Delimiter:
    """The `text` between fields as the file has it, and as it is read."""

    text: str | None

    @property
    def read(self) -> str | None:
        """The one ASCII character that is read; None where the delimiter isn't known."""
        return _STAND_IN if self._replaced else self.text

    @property
    def _replaced(self) -> bool:
        return self.text is not None and not self.text.isascii()

    @property
    def _back(self) -> tuple[tuple[str, str], ...]:
        """What stands in the text as it is read, with what it means, in this order."""
        return ((_STAND_IN, self.text or ""), *((hidden, own) for own, hidden in reversed(_OWN)))

    def replaced(self, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """UTF-8 text in chunks, with what stands for the delimiter in its places."""
        if not self._replaced:
            yield from chunks
            return
        marks = ((self.text or "").encode(), _SIGN.encode())
        kept = b""
        for chunk in chunks:
            data = kept + chunk
            begun = max(_begun(data, mark) for mark in marks)
            data, kept = data[: len(data) - begun], data[len(data) - begun :]
            if data:
                yield self._read_as(data)
        if kept:
            yield self._read_as(kept)

    def written(self, data: bytes) -> bytes:
        """Text as it is read as the file has it."""
        if self._replaced:
            for read, meant in self._back:
                data = data.replace(read.encode(), meant.encode())
        return data

    def restored(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Columns of text as the file has them."""
        if not self._replaced:
            return rows
        columns = [self._restored(column) for column in rows.columns]
        return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)

    def _restored(self, column: pa.Array) -> pa.Array:
        for read, meant in self._back:
            if pc.any(pc.match_substring(column, read)).as_py():
                column = pc.replace_substring(column, read, meant)
        return column

    def _read_as(self, data: bytes) -> bytes:
        for own, hidden in _OWN:
            data = data.replace(own.encode(), hidden.encode())
        return data.replace((self.text or "").encode(), _STAND_IN.encode())


def _begun(data: bytes, mark: bytes) -> int:
    """How many bytes at the end may begin the mark."""
    return next((n for n in range(len(mark) - 1, 0, -1) if data.endswith(mark[:n])), 0)
