"""Answers that come compressed, though nobody asked for it. No I/O.

Only a proxy or relay does that, and its answer has to be read all the same. What is decompressed is bounded,
so that a small answer can't fill the memory.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Final

# gzip or zlib, as the header of the data says; and deflate without any.
_WITH_HEADER: Final = 32 + zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS
_MOST_LAYERS: Final = 4
_GZIP_MAGIC: Final = b"\x1f\x8b"


def decompressed(body: bytes, encodings: Sequence[str], most: int) -> bytes | None:
    """What a body holds, at most `most` bytes of it; None where it isn't what its Content-Encodings say.

    `encodings` are the values of all such headers, in order.
    """
    names = [name for value in encodings for name in re.split(r"[\s,]+", value.lower()) if name]
    layers = [name for name in names if name != "identity"]
    if len(layers) > _MOST_LAYERS:
        return None
    text: bytes | None = body
    for name in reversed(layers):
        text = None if text is None else _layer(text, name, most)
    return text


def looks_packed(body: bytes) -> bool:
    """Whether a body is gzip, whatever its headers say."""
    return body.startswith(_GZIP_MAGIC)


def _layer(body: bytes, name: str, most: int) -> bytes | None:
    if name in {"gzip", "x-gzip"}:
        return _inflated(body, _WITH_HEADER, most)
    if name == "deflate":
        text = _inflated(body, _WITH_HEADER, most)
        return _inflated(body, _BARE, most) if text is None else text
    return None


def _inflated(body: bytes, form: int, most: int) -> bytes | None:
    """All members of a compressed body, up to a bound; None for corrupt data, or data that breaks off."""
    found = bytearray()
    while body:
        member = zlib.decompressobj(form)
        try:
            found += member.decompress(body, most - len(found))
        except zlib.error:
            return None
        if len(found) >= most:
            break
        if not member.eof:
            return None
        body = member.unused_data.lstrip(b"\x00")  # padding
    return bytes(found)
