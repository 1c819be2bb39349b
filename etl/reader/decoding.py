"""Text in any encoding becomes whole lines of UTF-8; bytes that are not text are neither lost nor guessed.

A byte order mark wins over the encoding of the job. Files that were joined have such marks at the start of
later lines, too; there they are dropped.
"""

from __future__ import annotations

import codecs
import re
import uuid
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import chain
from typing import Any, Final

from ..errors import SourceError
from .files import InputFile, source_errors

MARK: Final = f"\x1a{uuid.uuid4().hex}\x1a"
MARK_BYTES: Final = MARK.encode()
BLOCK: Final = 1 << 21
MAX_RECORD: Final = 1 << 25
_MARKING: Final = f"propsync-mark-{MARK}"  # its own, as the package may be loaded under two names
_BOMS_AT_LINE_STARTS: Final = re.compile(rb"(?:\A|(?<=[\r\n]))(?:\xef\xbb\xbf)+")
_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _mark(error: Any) -> tuple[str, int]:
    """Replace the bytes of a UnicodeDecodeError by MARK and their hex digits."""
    return MARK + "".join(f"\\x{byte:02x}" for byte in error.object[error.start : error.end]), error.end


codecs.register_error(_MARKING, _mark)


def mark_bad_bytes(data: bytes) -> bytes:
    """Return the bytes if they are UTF-8; otherwise each bad one becomes MARK and its hex digits."""
    if data.isascii():
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode(errors=_MARKING).encode()
    return data


def marked_encoding(begin: bytes) -> str | None:
    """Return the encoding that a byte order mark at the beginning of a file says; None without a mark."""
    return next((name for mark, name in _ORDER_MARKS if begin.startswith(mark)), None)


def encoding_name(encoding: str) -> str:
    """Return Python's name of a text encoding; SourceError if there is none of that name."""
    try:
        name = codecs.lookup(encoding).name
        b"a".decode(name, "replace")
    except (LookupError, UnicodeError) as error:
        hint = "use a name such as utf-8, latin-1, cp1252 or utf-16"
        raise SourceError(f"there is no text encoding called {encoding}", hint=hint) from error
    return "utf-8" if name in ("utf-8-sig", "ascii") else name


def text_chunks(
    given: InputFile, encoding: str, size: int, position: list[int], *, returns: bool = False
) -> Generator[bytes, None, None]:
    """Yield the file as UTF-8, in whole lines of about `size` bytes together; bad bytes of UTF-8 are kept.

    A line ends at LF; if the file has none, with `returns` at CR. One that is longer than 32 MiB is cut. Byte
    order marks at the start of a line are left out. `position` gets how many stored bytes the text was.
    """
    with source_errors(given.name), closing(given.open()) as raw, closing(given.unpacked(raw)) as stream:
        begin = b""
        while len(begin) < len(codecs.BOM_UTF32_LE) and (more := stream.read(size)):
            begin += more
        encoding = marked_encoding(begin) or encoding
        chunks: Iterator[bytes] = chain([begin], iter(lambda: stream.read(size), b""))
        if encoding != "utf-8":
            decode = codecs.getincrementaldecoder(encoding)(_MARKING).decode
            texts = (decode(chunk, final=not chunk) for chunk in chain(chunks, [b""]))
            chunks = (text.encode(errors="backslashreplace") for text in texts)
        parts, made, done = list[bytes](), 0, 0
        for chunk in chain(filter(None, chunks), [b""]):
            made += len(chunk)
            end = chunk.rfind(b"\n") + 1 or (returns and chunk.rfind(b"\r", 0, -1) + 1)
            if chunk and not end and made - done <= MAX_RECORD:
                parts.append(chunk)
                continue
            text = b"".join((*parts, memoryview(chunk)[: end or None]))
            parts, done = [chunk[end:] if end else b""], done + len(text)
            position[:] = [round(raw.tell() * done / max(made, 1))]
            if b"\xef" in text and codecs.BOM_UTF8 in text:
                text = _BOMS_AT_LINE_STARTS.sub(b"", text)
            last = [text]
            del text, chunk  # while it is used, no copy of it is kept here
            yield last.pop()


class ReadBuffer:
    """The part of a stream that was read and not yet taken: `data`; `final`: the stream ends with it.

    `taken` is how many bytes were taken.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.data = b""
        self.final = False
        self.taken = 0

    def grow(self) -> None:
        """Read until it is about twice as long, or one chunk longer, or final."""
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
        self.taken += count
