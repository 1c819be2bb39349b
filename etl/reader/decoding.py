"""Text in any encoding becomes UTF-8, and bytes that are no text are marked, not lost and not guessed at.

A byte order mark says more about a file than its reader can, so it wins over the encoding that was asked for.
Files that were joined have such marks at the start of later lines, too; there they are dropped.
"""

from __future__ import annotations

import codecs
import re
import uuid
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Final

from etl.errors import SourceError
from etl.reader.faults import translated
from etl.reader.formats import Input

MARK: Final = f"\x1a{uuid.uuid4().hex}\x1a"
MARK_BYTES: Final = MARK.encode()
BLOCK: Final = 1 << 21
_MARKING: Final = "propsync-mark"
_BOM: Final = codecs.BOM_UTF8
_BOMS_AT_LINE_STARTS: Final = re.compile(rb"(?<=[\r\n])(?:\xef\xbb\xbf)+")
_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _mark(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    shown = "".join(f"\\x{byte:02x}" for byte in error.object[error.start : error.end])
    return MARK + shown, error.end


codecs.register_error(_MARKING, _mark)


def marked(data: bytes) -> bytes:
    """The same bytes if they are UTF-8; otherwise each bad one as MARK and its digits."""
    if data.isascii():
        return data
    try:
        data.decode()
    except UnicodeDecodeError:
        return data.decode(errors=_MARKING).encode()
    return data


def encoding_name(encoding: str) -> str:
    """Python's own name of a text encoding; SourceError if it knows none of that name."""
    try:
        name = codecs.lookup(encoding).name
        b"a".decode(name, "replace")
    except (LookupError, UnicodeError) as error:
        hint = "use a name such as utf-8, latin-1, cp1252 or utf-16"
        raise SourceError(f"there is no text encoding called {encoding}", hint=hint) from error
    return "utf-8" if name in ("utf-8-sig", "ascii") else name


def text_chunks(given: Input, encoding: str, size: int = BLOCK) -> Generator[bytes, None, None]:
    """The file as UTF-8, about `size` bytes at a time; bad bytes of UTF-8 stay in.

    Byte order marks at the start of a line are left out.
    """
    with translated(given.name), closing(given.open()) as stream:
        begin = b""
        while len(begin) < len(codecs.BOM_UTF32_LE) and (more := stream.read(size)):
            begin += more
        told = next(((mark, name) for mark, name in _ORDER_MARKS if begin.startswith(mark)), (b"", encoding))
        if told[1] == "utf-8":
            yield from _without_order_marks(_raw(begin, lambda: stream.read(size)))
        else:
            yield from _without_order_marks(_recoded(begin, lambda: stream.read(size), told[1]))


def _without_order_marks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks without byte order marks at the start of a line."""
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


def _raw(begin: bytes, read: Callable[[], bytes]) -> Iterator[bytes]:
    while begin:
        yield begin
        begin = read()


def _recoded(begin: bytes, read: Callable[[], bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(_MARKING)
    chunk = begin
    while chunk:
        yield decoder.decode(chunk).encode(errors="backslashreplace")
        chunk = read()
    yield decoder.decode(b"", final=True).encode(errors="backslashreplace")
