"""What each chunk sent, for the snapshot: arrays in a file that only grows, and where they stand in SQLite.

SQLite would write them twice, in pages, and read them to delete them. The arrays of a transaction are on the
disk before it; what stands behind those of the last one is of none, and is overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from ..state_files import create_private, is_there, state_error, sync_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..model import End, Fingerprints, RowRange, Sent

_TOGETHER: Final = 6_000_000  # bytes of neighbouring chunks


@dataclass(frozen=True, slots=True)
class SentEntries:
    """What the snapshot is to record of chunks, of which the first begins at row `first` of a file.

    `keys` (shape (m, w)) and `fingerprints` (shape (m, p)) are those of its rows with this `end`, in source
    order.
    """

    file: int
    first: int
    keys: NDArray[np.uint64]
    fingerprints: Fingerprints
    end: End = "accepted"

    @property
    def kind(self) -> tuple[object, ...]:
        """What is the same of entries that can stand in one array."""
        prints = self.fingerprints
        return self.file, self.end, self.keys.shape[1], prints.shape[1], prints.dtype


class SentFile:
    """The file at `path`, made when it is needed. `end` is where what is committed ends.

    A row of the table `sent` is: file, first row, number of rows, bytes of a fingerprint, of all keys, of all
    fingerprints, end, place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.end = 0

    def is_whole(self) -> bool:
        """Whether the file has all that is committed."""
        return not self.end or (is_there(self._path) and self._path.stat().st_size >= self.end)

    def append(self, added: Iterable[SentEntries]) -> list[tuple[Any, ...]]:
        """Write arrays behind `end`, durably; the rows of the table for them. Raises StateError."""
        import numpy as np  # here and below: `status` does without

        rows: list[tuple[Any, ...]] = []
        arrays: list[memoryview] = []
        place = self.end
        for one in added:
            keys, prints = (
                np.ascontiguousarray(some, some.dtype.newbyteorder("<"))
                for some in (one.keys, one.fingerprints)
            )
            sizes = (len(keys), prints.itemsize, keys.nbytes, prints.nbytes)
            rows.append((one.file, one.first, *sizes, one.end, place))
            arrays += [keys.data, prints.data]
            place += keys.nbytes + prints.nbytes
        if place == self.end:
            return rows
        try:
            # With nothing in it that counts it is of an earlier run, if there is one.
            old = os.O_RDWR | os.O_NOFOLLOW
            descriptor = os.open(self._path, old) if self.end else create_private(self._path)
            with os.fdopen(descriptor, "r+b") as file:
                file.seek(self.end)
                file.writelines(arrays)
                file.flush()
                os.fsync(descriptor)
            if not self.end:
                sync_folder(self._path.parent)
        except OSError as error:
            raise state_error(self._path, error) from error
        self.end = place
        return rows

    def read(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[SentEntries]:
        """What rows of the table stand for, in their order; neighbours of one kind come together.

        Raises OSError, or ValueError where the bytes don't fit.
        """
        held: list[SentEntries] = []
        size = 0
        for one in self._each(rows):
            if held and (size > _TOGETHER or one.kind != held[0].kind):
                yield _joined(held)
                held, size = [], 0
            held.append(one)
            size += one.keys.nbytes + one.fingerprints.nbytes
        if held:
            yield _joined(held)

    def _each(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[SentEntries]:
        import numpy as np

        with ExitStack() as stack:
            opened: IO[bytes] | None = None
            for file, first, count, width, key_bytes, print_bytes, end, place in rows:
                opened = opened or stack.enter_context(self._path.open("rb", buffering=0))
                both = os.pread(opened.fileno(), key_bytes + print_bytes, place)
                keys = np.frombuffer(both[:key_bytes], "<u8").reshape(count, -1)
                prints = np.frombuffer(both[key_bytes:], f"<u{width}").reshape(count, -1)
                yield SentEntries(file, first, keys, prints, end)

    def remove(self) -> None:
        """Remove it, as far as that is possible: nothing of it counts any more."""
        self.end = 0
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def _joined(some: Sequence[SentEntries]) -> SentEntries:
    import numpy as np

    keys = np.concatenate([one.keys for one in some])
    return replace(some[0], keys=keys, fingerprints=np.concatenate([one.fingerprints for one in some]))


def by_end(chunk: RowRange, pieces: Sequence[Sent]) -> Iterator[SentEntries]:
    """What was sent of a chunk: one for each end of its pieces, accepted first, in source order."""
    import numpy as np

    for end in sorted({piece.end for piece in pieces}):
        own = [piece for piece in pieces if piece.end == end]
        keys, fingerprints = own[0].keys, own[0].fingerprints
        if len(own) > 1:
            order = np.argsort(np.concatenate([piece.numbers for piece in own]), kind="stable")
            keys = np.concatenate([piece.keys for piece in own])[order]
            fingerprints = np.concatenate([piece.fingerprints for piece in own])[order]
        yield SentEntries(chunk.file, chunk.first, keys, fingerprints, end)
