"""The metadata of a snapshot: the run that wrote it, its kind and version, and how many entries it has.

It is read without Arrow, which takes longer to import than all else that `status` does: an Arrow file ends
with a table of flatbuffers that has the metadata and the places of all record batches.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from struct import iter_unpack, unpack, unpack_from
from typing import Final

# The versions of each kind of file: of its form, and of the rules in `snapshot.value_hashes`, on which a list
# of ids doesn't depend. By other rules all users would count as changed, so such a snapshot is refused.
_VERSIONS: Final = {"snapshot": (2, 2), "list of ids": (3, 1)}
_METADATA: Final = b"propsync"
_END: Final = "<i6s"  # the size of the footer, and the magic bytes


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """The run that wrote a file: `number` counts the runs of the job, `run_id` names it everywhere."""

    number: int
    run_id: str
    endpoint: str
    job: str
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """The metadata of a file; `kind` is the kind of file; `mode` and `names` are a layout's."""

    kind: str
    header: SnapshotHeader
    mode: str = ""
    names: Sequence[str] = ()

    def pack(self) -> dict[bytes, bytes]:
        """The metadata as Arrow stores it."""
        version, hashing = _VERSIONS[self.kind]
        plain = {"version": version, "hashing": hashing, **asdict(self)}
        plain["stamp"] = plain.pop("header")
        return {_METADATA: json.dumps(plain, sort_keys=True).encode()}

    @staticmethod
    def unpack(packed: Mapping[bytes, bytes], kind: str) -> FileMetadata:
        """The metadata of a file of this kind.

        Raises OtherFormatError, or KeyError, TypeError or ValueError where it is no metadata at all.
        """
        plain = json.loads(packed[_METADATA])
        found = (int(plain.pop("version")), int(plain.pop("hashing", 1)))
        if plain["kind"] != kind:
            raise OtherFormatError(f"is not a {kind} of propsync, but a {plain['kind']}", "")
        if found > _VERSIONS[kind]:
            raise OtherFormatError("was written by a newer propsync", "update propsync, or ")
        if found < _VERSIONS[kind]:
            raise OtherFormatError("was written by an older propsync", "")
        return FileMetadata(header=SnapshotHeader(**plain.pop("stamp")), **plain)


class OtherFormatError(Exception):
    """A file is whole, but can't be used: why, and what can be done before it is deleted ("" for nothing)."""


def read_metadata(path: Path) -> tuple[FileMetadata, int]:
    """The metadata of a snapshot and the number of its entries.

    Raises OSError, and struct.error or another Exception of Python's own where it is not a snapshot that can
    be used.
    """
    with path.open("rb") as file:
        end = file.seek(-10, os.SEEK_END)
        size, magic = unpack(_END, file.read())
        if magic != b"ARROW1":
            raise ValueError("it is not an Arrow file")
        file.seek(end - size)
        footer = file.read(size)
        _, schema, _, batches, *_ = _fields(footer, 0)
        found = _items(footer, _fields(footer, schema)[2], 4)
        pairs = (_fields(footer, at) for at in range(found.start, found.stop, 4))
        packed = {footer[_items(footer, key, 1)]: footer[_items(footer, value, 1)] for key, value in pairs}
        entries = 0
        for place, length, _ in iter_unpack("<qi4xq", footer[_items(footer, batches, 24)]):
            file.seek(place)
            message = file.read(length)
            rows = _fields(message, _fields(message, 8)[2])[0]
            entries += unpack_from("<q", message, rows)[0] if rows else 0
    return FileMetadata.unpack(packed, "snapshot"), entries


def _fields(data: bytes, at: int) -> list[int]:
    """The places of the fields of the table to which an offset at `at` leads; 0 for one that is absent."""
    table = at + unpack_from("<I", data, at)[0]
    fields = table - unpack_from("<i", data, table)[0]
    size = unpack_from("<H", data, fields)[0]
    return [place and table + place for place in unpack_from(f"<{size // 2 - 2}H", data, fields + 4)]


def _items(data: bytes, at: int, size: int) -> slice:
    """Where the items, each of so many bytes, of the vector lie to which an offset at `at` leads."""
    vector = at + unpack_from("<I", data, at)[0]
    return slice(vector + 4, vector + 4 + size * unpack_from("<I", data, vector)[0])
