"""What a checkpoint keeps for later: what each chunk sent, for the snapshot, and past runs, for the next run.

No I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..model import End, Fingerprints, RowRange, Sent

# How many past runs are kept, each to another endpoint.
MOST_PAST: Final = 32


@dataclass(frozen=True, slots=True)
class SentEntries:
    """What the snapshot is to record of the chunk that begins at row `first` of a file.

    `keys` (shape (m, w)) and `fingerprints` (shape (m, p)) are those of its rows with this `end`, in source
    order.
    """

    file: int
    first: int
    keys: NDArray[np.uint64]
    fingerprints: Fingerprints
    end: End = "accepted"


def pack_sent(chunk: RowRange, pieces: Sequence[Sent]) -> Iterator[tuple[Any, ...]]:
    """Rows of the table `sent`: one for each end of a chunk's pieces, accepted first, in source order."""
    for end in sorted({piece.end for piece in pieces}):
        own = [piece for piece in pieces if piece.end == end]
        order = np.argsort(np.concatenate([piece.numbers for piece in own]), kind="stable")
        keys = np.concatenate([piece.keys for piece in own])[order]
        fingerprints = np.concatenate([piece.fingerprints for piece in own])[order]
        little = (
            some.astype(some.dtype.newbyteorder("<"), copy=False).tobytes() for some in (keys, fingerprints)
        )
        yield chunk.file, chunk.first, len(order), fingerprints.dtype.itemsize, *little, end


def unpack_sent(row: tuple[Any, ...]) -> SentEntries:
    """Read a row of the table `sent`. Raises ValueError where the bytes don't fit."""
    file, first, rows, width, keys, fingerprints, end = row
    numbers = np.frombuffer(fingerprints, np.dtype(f"<u{width}")).reshape(rows, -1)
    return SentEntries(file, first, np.frombuffer(keys, "<u8").reshape(rows, -1), numbers, end)


@dataclass(frozen=True, slots=True)
class PastRun:
    """The last finished run to an endpoint: of an export, or (`resent`) of rejects.

    `rows` counts those of its source. `counted`: increments arrived, or may have. `marks` has a text for the
    content of each file, None where it is unknown.
    """

    endpoint: str
    resent: bool
    rows: int
    number: int
    counted: bool
    marks: tuple[str | None, ...] = ()

    def overlap(self, marks: Sequence[str | None]) -> Literal["all", "some", "none"]:
        """Whether a source with these marks is that of the run ("all"), or shares files with it, or none."""
        mine, theirs = (Counter(mark for mark in some if mark is not None) for some in (self.marks, marks))
        if not (mine & theirs):
            return "none"
        whole = mine == theirs and None not in self.marks and None not in marks
        return "all" if whole else "some"


def mark_of(entry: Sequence[object], digest: str | None) -> str | None:
    """A text for a file's content; `entry` is its name, size, time and sample.

    Without a digest of the whole file its size and time must be the same. None where they are unknown.
    """
    _, size, modified, _ = entry
    if digest is not None:
        return f"{size}:{digest}"
    return None if size is None or modified is None else ":".join(map(str, entry))
