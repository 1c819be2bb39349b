"""Delimiters beyond ASCII, such as `§`, which pyarrow doesn't take: another character stands for them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final

# ASCII's own separator of fields. Where a text has it besides, its record has a field too many.
_STAND_IN: Final = "\x1f"


@dataclass(frozen=True, slots=True)
class Delimiter:
    """The `text` between fields as the file has it, and as it is read."""

    text: str | None

    @property
    def read(self) -> str | None:
        """The one ASCII character that is read; None where the delimiter isn't known."""
        return self.text if self.text is None or self.text.isascii() else _STAND_IN

    def replaced(self, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """UTF-8 text in chunks, with what stands for the delimiter in its places."""
        if self.text is None or self.text.isascii():
            yield from chunks
            return
        mark, kept = self.text.encode(), b""
        for chunk in chunks:
            data = kept + chunk
            begun = next((n for n in range(len(mark) - 1, 0, -1) if data.endswith(mark[:n])), 0)
            data, kept = data[: len(data) - begun], data[len(data) - begun :]
            if data:
                yield data.replace(mark, _STAND_IN.encode())
        if kept:
            yield kept

    def written(self, data: bytes) -> bytes:
        """Text with the delimiter as the file has it."""
        if self.text is None or self.text.isascii():
            return data
        return data.replace(_STAND_IN.encode(), self.text.encode())
