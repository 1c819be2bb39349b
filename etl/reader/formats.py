"""What kind of file it is: by the end of its name where that says it, otherwise by its first bytes."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from etl.errors import SourceError
from etl.file_names import PACKED, format_and_codec, format_named
from etl.model import Format
from etl.reader.faults import translated
from etl.reader.file_kinds import kind_of
from etl.reader.places import SNIFFED, Place, exactly

_JSON_NAME: Final = re.compile(r"\.json(\.\w+)?$")
_PACKED_BEGIN: Final = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_BZIP2: Final = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")
_PARQUET: Final = re.compile(rb"PAR[1E][\x00-\x1f]")
_BLANK: Final = b" \t\r\n"


@dataclass(frozen=True, slots=True)
class Input:
    """A place, what its bytes are packed with (None: nothing), and what is in them."""

    place: Place
    codec: str | None
    format: Format

    @property
    def name(self) -> str:
        """The place's name."""
        return self.place.name

    def open(self) -> pa.NativeFile:
        """A new stream over the unpacked bytes."""
        raw = self.place.open()
        return pa.CompressedInputStream(raw, self.codec) if self.codec else raw


def is_data_file(name: str) -> bool:
    """Whether the name ends as that of a file with rows, packed or not."""
    return format_named(name) is not None


def ending(name: str) -> str:
    """The end of a file's name with its dot, both ends of a packed one; "" where it has none."""
    parts = name.lower().lstrip(".").split(".")[1:]
    return "".join(f".{part}" for part in parts[-2 if len(parts) > 1 and parts[-1] in PACKED else -1 :])


def recognise(place: Place) -> Input:
    """Look at the name and the first bytes of a place; SourceError if it can't hold rows."""
    by_name, packed = format_and_codec(place.name)
    codec = _codec(_begin(Input(place, None, "csv")), packed)
    head = _begin(Input(place, codec, "csv"))
    return Input(place, codec, _format(place.name, by_name, head))


def _begin(given: Input) -> bytes:
    with translated(given.name), closing(given.open()) as stream:
        return exactly(stream, SNIFFED)


def _codec(head: bytes, named: str | None) -> str | None:
    """Servers unpack what they send, and names lie: the bytes decide. Only Brotli has no mark of its own."""
    for begin, codec in _PACKED_BEGIN.items():
        if head.startswith(begin):
            return codec
    if _BZIP2.match(head):
        return "bz2"
    return named if named == "brotli" and head else None


def _format(name: str, by_name: Format | None, head: bytes) -> Format:
    if _PARQUET.match(head):
        return "parquet"
    other = kind_of(head)
    if other is not None:
        raise SourceError(f"{name} is {other.name}", hint=other.remedy)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(_BLANK)
    if _JSON_NAME.search(name.lower()) and text.startswith(b"["):
        hint = "write one object a line, for example with: jq -c '.[]'"
        raise SourceError(f"{name} holds one JSON list", hint=hint)
    if by_name == "parquet" and (b"\0" in head or b"PAR1".startswith(head)):
        return by_name  # a damaged one: read as one, it is named as damaged
    if by_name == "parquet" or by_name is None:
        return "ndjson" if text.startswith(b"{") else "csv"
    return by_name
