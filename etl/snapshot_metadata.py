"""What a snapshot says of itself: the run that wrote it, the way of hashing, and how many entries it has.

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

SNAPSHOT_VERSION: Final = 2  # 1 had neither doubts nor links, so it is read as one without any
# Versions of the rules in `snapshot.value_hashes`. The first one took times by their numbers, floats by
# their doubles, and rare types by their JSON text. A snapshot keeps the version that it began with, or all
# its users would count as changed.
FIRST_HASHING: Final = 1
NEWEST_HASHING: Final = 2
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
    """The metadata of a file; `kind` is the kind of file; `mode`, `names` and `hashing` are a layout's."""

    kind: str
    header: SnapshotHeader
    mode: str = ""
    names: Sequence[str] = ()
    hashing: int = FIRST_HASHING  # of files that don't say it

    def pack(self) -> dict[bytes, bytes]:
        """The metadata as Arrow stores it."""
        plain = asdict(self)
        plain["stamp"] = plain.pop("header")
        return {_METADATA: json.dumps({"version": SNAPSHOT_VERSION, **plain}, sort_keys=True).encode()}

    @staticmethod
    def unpack(packed: Mapping[bytes, bytes]) -> FileMetadata | None:
        """The metadata; None if a newer version wrote it. Raises KeyError, TypeError or ValueError."""
        plain = json.loads(packed[_METADATA])
        if int(plain.pop("version")) > SNAPSHOT_VERSION or int(plain.get("hashing", 1)) > NEWEST_HASHING:
            return None
        return FileMetadata(header=SnapshotHeader(**plain.pop("stamp")), **plain)


def read_metadata(path: Path) -> tuple[FileMetadata | None, int]:
    """The metadata of a file (None as in `unpack`) and the number of its entries.

    Raises OSError, and struct.error or another Exception of Python's own where it is not such a file.
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
    return FileMetadata.unpack(packed), entries


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
