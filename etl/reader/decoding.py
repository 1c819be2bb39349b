"""Text in any encoding becomes UTF-8; bytes that are no text are marked, and neither lost nor guessed.

A byte order mark wins over the encoding of the job. Files that were joined have such marks at the start of
later lines, too; there they are dropped.
"""

from __future__ import annotations

import codecs
import re
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain
from typing import Final, TypeVar

from ..errors import SourceError
from .files import UnpackedFile, source_errors

MARK: Final = f"\x1a{uuid.uuid4().hex}\x1a"
MARK_BYTES: Final = MARK.encode()
BLOCK: Final = 1 << 21
BLANK: Final = b" \t\r\n"
MAX_RECORD: Final = 1 << 25
_MARKING: Final = f"propsync-mark-{MARK}"  # its own, as the package may be loaded under two names
_BOM: Final = codecs.BOM_UTF8
_BOMS_AT_LINE_STARTS: Final = re.compile(rb"(?<=[\r\n])(?:\xef\xbb\xbf)+")
_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_Found = TypeVar("_Found")


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    digits = "".join(f"\\x{byte:02x}" for byte in error.object[error.start : error.end])
    return MARK + digits, error.end


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
    given: UnpackedFile, encoding: str, size: int = BLOCK, position: list[int] | None = None
) -> Generator[bytes, None, None]:
    """Yield the file as UTF-8, about `size` bytes at a time; bad bytes of UTF-8 are kept.

    Byte order marks at the start of a line are left out. `position` gets how many bytes were read, as they
    are stored.
    """
    with source_errors(given.name), closing(given.file.open()) as raw, closing(given.unpacked(raw)) as stream:

        def read() -> bytes:
            data: bytes = stream.read(size)
            if position is not None:
                position[:] = [raw.tell()]
            return data

        begin = b""
        while len(begin) < len(codecs.BOM_UTF32_LE) and (more := read()):
            begin += more
        encoding = next((name for mark, name in _ORDER_MARKS if begin.startswith(mark)), encoding)
        chunks: Iterator[bytes] = chain([begin], iter(read, b""))
        if encoding != "utf-8":
            decode = codecs.getincrementaldecoder(encoding)(_MARKING).decode
            texts = (decode(chunk, final=not chunk) for chunk in chain(chunks, [b""]))
            chunks = (text.encode(errors="backslashreplace") for text in texts)
        yield from _without_order_marks(chunks)


def _without_order_marks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    kept, at_start = b"", True
    for chunk in chunks:
        data, kept = kept + chunk if kept else chunk, b""
        if b"\xef" in data:
            while at_start and data.startswith(_BOM):
                data = data.removeprefix(_BOM)
            data = _BOMS_AT_LINE_STARTS.sub(b"", data) if _BOM in data else data
            kept = next((part for part in (_BOM[:2], _BOM[:1]) if data.endswith(part)), b"")
            data = data.removesuffix(kept)
        yield data
        at_start = data.endswith((b"\r", b"\n")) if data else at_start
    if kept:
        yield kept


class ReadBuffer:
    """The part of a stream that was read and not yet taken: `data`; `final`: the stream ends with it.

    `taken` is how many bytes were taken.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.data = b""
        self.final = False
        self.taken = 0

    @property
    def full(self) -> bool:
        """Whether it holds more than one record may have: 32 MiB."""
        return len(self.data) > MAX_RECORD

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

    def grow_until(self, find: Callable[[], _Found | None], too_long: SourceError) -> _Found:
        """Grow until `find` finds something, which it must if the buffer is final; else raise `too_long`."""
        while (found := find()) is None:
            if self.full:
                raise too_long
            self.grow()
        return found
