r"""Escape characters in CSV text, such as the backslash that Spark and MySQL write.

Before a quote, itself, the delimiter or a line end it takes their meaning away; before anything else it is a
character like any other, so `\N` and `C:\temp` stay as they are. pyarrow would take every escape character
away, so escaped characters are hidden from it: each becomes two characters that no text has, and comes back
in the values. What reads the hidden text needs to know of quotes, delimiters and line ends only.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

# A noncharacter, which Unicode keeps for use inside of programs. Where a text has it, it is hidden as well.
_SIGN: Final = "\ufdd0"
_SIGN_BYTES: Final = _SIGN.encode()
_OWN: Final = _SIGN + "x"
_LETTERS: Final = "eqwabdfghijk"


@dataclass(frozen=True, slots=True)
class Escapes:
    """Hides what `escape` stands before, and brings it back. `escape` "" hides nothing."""

    escape: str
    quote: str
    delimiters: Sequence[str]

    @property
    def _hidden(self) -> Iterator[tuple[str, str]]:
        """Each text that can be escaped, with what it is hidden as.

        The escape character comes first, as pairs of it are read from the left, and CRLF before CR.
        """
        texts = (self.escape, self.quote, "\r\n", "\r", "\n", *self.delimiters)
        return ((text, _SIGN + letter) for text, letter in zip(texts, _LETTERS, strict=False) if text)

    def hide(self, chunks: Iterator[bytes]) -> Generator[bytes, None, None]:
        """The text of the chunks with escaped characters hidden, in chunks."""
        if not self.escape:
            yield from chunks
            return
        kept = b""
        for chunk in chunks:
            data = kept + chunk
            begun = len(data) - _unfinished(data, self.escape.encode())
            data, kept = data[:begun], data[begun:]
            yield self.hidden(data)
        if kept:
            yield self.hidden(kept)

    def hidden(self, data: bytes) -> bytes:
        """The text with escaped characters hidden; it must not end within an escape."""
        if _SIGN_BYTES in data:
            data = data.replace(_SIGN_BYTES, _OWN.encode())
        if self.escape.encode() not in data:
            return data
        for text, sign in self._hidden:
            data = data.replace((self.escape + text).encode(), sign.encode())
        return data

    def written(self, data: bytes) -> bytes:
        """The hidden text as the file has it."""
        return self._back(data, self.escape)

    def meant(self, data: bytes) -> bytes:
        """The hidden text as it is meant, without escape characters."""
        return self._back(data, "")

    def line_ends(self, data: bytes) -> int:
        """How many line ends are hidden in the text."""
        if not self.escape or _SIGN_BYTES not in data:
            return 0
        return sum(data.count(sign.encode()) for text, sign in self._hidden if text.strip("\r\n") == "")

    def restored(self, rows: pa.RecordBatch, data: bytes) -> pa.RecordBatch:
        """Columns of text that were read from the hidden text `data`, with their values as they are meant."""
        if not self.escape or _SIGN_BYTES not in data:
            return rows
        present = [(text, sign) for text, sign in self._hidden if sign.encode() in data]
        present += [(_SIGN, _OWN)] * (_OWN.encode() in data)
        columns = [_replaced(column, present) for column in rows.columns]
        return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)

    def _back(self, data: bytes, before: str) -> bytes:
        if not self.escape or _SIGN_BYTES not in data:
            return data
        for text, sign in self._hidden:
            data = data.replace(sign.encode(), (before + text).encode())
        return data.replace(_OWN.encode(), _SIGN_BYTES)


def _replaced(column: pa.Array, present: Sequence[tuple[str, str]]) -> pa.Array:
    if not pc.any(pc.match_substring(column, _SIGN)).as_py():
        return column
    for text, sign in present:
        column = pc.replace_substring(column, sign, text)
    return column


def _unfinished(data: bytes, escape: bytes) -> int:
    """How many bytes at the end may belong to an escape, or a sign, that the next chunk finishes."""
    for held in (_SIGN_BYTES[:2], _SIGN_BYTES[:1]):
        if data.endswith(held):
            return len(held)
    stop = len(data) - data.endswith(b"\r")
    run = stop - len(data[:stop].rstrip(escape))
    return (run % 2) * (1 + len(data) - stop)
