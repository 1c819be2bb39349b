"""Encodes mapped batches to chunks, and merges the rows of one user in a chunk.

A chunk never spans files, nor a change of column types within one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.originals import rejects_of, rows_with_originals, take_rows
from ..model import Body, Chunk, Mapped, Reject, Sent, Skipped, counts_of
from ..subject import Keys, user_keys
from .cutter import KeptBytes, Limits, cut_chunks, row_bytes
from .encoding import Encoding, FormEncoding, Lines, array_body
from .merge import Shares, group_users, join_identifications, merge_rows, merge_shares

if TYPE_CHECKING:
    from ..model import Fingerprints

# Smaller pieces of a batch take longer; chunks of larger ones come to the sender in bursts.
_PIECE_ROWS: Final = 8192
_PIECE_BYTES: Final = 1 << 23  # of source rows; lines of wide ones take the most memory of all
_NO_KEYS: Keys = np.empty((0, 1), dtype=np.uint64)
_NO_NUMBERS: NDArray[np.int64] = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Part:
    """Identifications with all that chunks are made of; arrays have a row for each of them.

    It may wait for many batches, so it refers to nothing else of its own batch. `rows` are the source's,
    which take `row_bytes`; `sizes` are the bytes of each line.
    """

    identifications: pa.RecordBatch
    rows: pa.RecordBatch
    row_bytes: NDArray[np.int64]
    large: frozenset[str]
    lines: Lines
    sizes: NDArray[np.int64]
    keys: Keys
    numbers: NDArray[np.int64]
    fingerprints: Fingerprints | None
    shares: Shares | None

    def between(self, start: int, end: int) -> _Part:
        """Those from `start` to `end - 1`; nothing is copied."""
        by_row = {name: getattr(self, name) for name in self.__slots__ if name != "large"}
        own = {name: some[start:end] for name, some in by_row.items() if some is not None}
        return replace(self, **own)


class Encoder:
    """Cuts one range of one file into chunks; feed it the range's batches in order, then `finish`."""

    def __init__(self, *, first: int, limits: Limits, encoding: Encoding | None = None) -> None:
        self._first = first
        self._limits = limits
        self._encoding = encoding or FormEncoding()
        self._parts: list[_Part] = []
        self._rejects: list[Reject] = []
        self._unsent: list[Sent] = []
        self._skipped: list[Skipped] = []
        self._last: Mapped | None = None

    def feed(self, mapped: Mapped) -> Iterator[Chunk]:
        """Take a batch; yield the chunks that are certain by now."""
        before = self._last
        # Rows of JSON always fit into one chunk: the types of their columns mean nothing.
        if before and (before.batch.originals is None or mapped.batch.originals is None):
            schemas = (before.identifications.schema, before.batch.rows.schema)
            if schemas != (mapped.identifications.schema, mapped.batch.rows.schema):
                yield from self.finish()
        self._last = mapped
        self._skipped += mapped.skipped
        self._encode(mapped)
        yield from self._cut(mapped, complete=False)

    def finish(self) -> Iterator[Chunk]:
        """No row follows: yield what is left."""
        if self._last is not None:
            yield from self._cut(self._last, complete=True)

    def _encode(self, mapped: Mapped) -> None:
        """Encode a batch; rows that no request can hold become rejects."""
        batch, rows, most = mapped.batch, rows_with_originals(mapped.batch), self._limits.body_bytes
        numbers, rejects = batch.numbers[mapped.kept], mapped.rejects
        lines = self._encoding.write(mapped.identifications, batch.file, numbers)
        sizes = lines.sizes()
        fits = sizes < most
        if not fits.all():
            if mapped.fingerprints is not None:
                # Later rows of their users count as following a row that differs.
                keys, prints = user_keys(mapped.identifications), mapped.fingerprints
                for row in np.flatnonzero(~fits).tolist():
                    at = slice(row, row + 1)
                    self._unsent.append(Sent(numbers[at], keys[at], prints[at], "refused"))
                mapped = replace(mapped, fingerprints=prints[fits])
            positions = mapped.kept[~fits]
            reason = f"the identification is over {most:,} bytes; drop or shorten a column"
            why = [("too_big", reason)] * len(positions)
            rejects += rejects_of(batch, rows, positions, why, mapped.keep_empty)
            smaller = mapped.identifications.filter(pa.array(fits))
            mapped, numbers = replace(mapped, kept=mapped.kept[fits], identifications=smaller), numbers[fits]
            lines = self._encoding.write(smaller, batch.file, numbers)
            sizes = lines.sizes()
        self._rejects += sorted(rejects, key=lambda reject: reject.row)
        # The source rows are copied where they are few of the batch, which then can go.
        kept = mapped.kept
        side_by_side = len(kept) and kept[-1] - kept[0] + 1 == len(kept)
        if side_by_side and 2 * len(kept) >= rows.num_rows:
            rows = rows.slice(int(kept[0]), len(kept))
        else:
            rows = take_rows(rows, kept)
        part = _Part(
            identifications=mapped.identifications,
            rows=rows,
            row_bytes=row_bytes(rows),
            large=mapped.large,
            lines=lines,
            sizes=sizes,
            keys=user_keys(mapped.identifications),
            numbers=numbers,
            fingerprints=mapped.fingerprints,
            shares=merge_shares(mapped.identifications),
        )
        self._parts.append(part)

    def _cut(self, last: Mapped, *, complete: bool) -> Iterator[Chunk]:
        """Yield the chunks of what is waiting; `last` is the batch that came last."""
        parts, numbers = self._parts, _gathered(self._parts, "numbers", _NO_NUMBERS)
        done, stop = 0, last.batch.stop
        borders = cut_chunks(
            numbers,
            _gathered(parts, "sizes", _NO_NUMBERS),
            _gathered(parts, "keys", _NO_KEYS),
            first=self._first,
            stop=stop,
            complete=complete,
            limits=self._limits,
            shares=_gathered(parts, "shares", None),
            kept=KeptBytes.of(numbers, _gathered(parts, "row_bytes", _NO_NUMBERS), self._rejects),
        )
        for border in borders:
            yield self._chunk(last, _between(parts, border.start, border.end), border.stop)
            done = border.end
        self._parts = _between(parts, done, len(numbers))

    def _chunk(self, last: Mapped, parts: list[_Part], stop: int) -> Chunk:
        batch, keys = last.batch, _gathered(parts, "keys", _NO_KEYS)
        numbers = _gathered(parts, "numbers", _NO_NUMBERS)
        body: Body = ()
        ends = owners = np.arange(len(keys))  # which identification each row goes into
        in_order = np.sort(keys[:, 0])
        if (in_order[1:] == in_order[:-1]).any():  # a user comes twice
            identifications = join_identifications([part.identifications for part in parts])
            owners = group_users(identifications)
            merged = merge_rows(identifications, owners)
            ended = np.empty(merged.num_rows, dtype=np.int64)
            ended[owners] = numbers  # of equal indices numpy keeps the last
            lines = self._encoding.write(merged, batch.file, ended)
            body, ends = array_body([lines.text]), lines.ends[1:]
        elif parts:
            body = array_body([part.lines.text for part in parts])
            ends = np.cumsum(_gathered(parts, "sizes", _NO_NUMBERS))
        rows = [part.rows for part in parts]
        chunk = Chunk(
            source=batch.source,
            file=batch.file,
            first=self._first,
            stop=stop,
            body=body,
            ends=ends,
            keys=keys[np.unique(owners, return_index=True)[1]] if len(ends) < len(owners) else keys,
            numbers=numbers,
            owners=owners,
            rows=rows[0] if len(rows) == 1 else pa.concat_batches([*rows, rows_with_originals(batch)[:0]]),
            text=batch.text,
            keep_empty=last.keep_empty,
            rejects=tuple(reject for reject in self._rejects if reject.row < stop),
            unsent=tuple(one for one in self._unsent if one.numbers[0] < stop),
            fingerprints=_gathered(parts, "fingerprints", None),
            large=frozenset().union(*(part.large for part in parts)),
            skipped=counts_of(some.between(0, stop) for some in self._skipped),
        )
        self._first, self._rejects = stop, self._rejects[len(chunk.rejects) :]
        self._unsent = self._unsent[len(chunk.unsent) :]
        left = (some.between(stop, batch.stop) for some in self._skipped)
        self._skipped = [some for some in left if len(some.rows)]
        return chunk


def pieces(mapped: Mapped, *, rows: int = _PIECE_ROWS) -> Iterator[Mapped]:
    """Split a batch into pieces of `rows` readable rows and a smaller last one; nothing is copied.

    Lines of a piece take less memory than those of the batch, and the sender gets them sooner. Pieces of wide
    rows have fewer. A piece has the rejects that stand before each of its rows.
    """
    batch = mapped.batch
    count, numbers = batch.rows.num_rows, batch.numbers
    rows = max(1, min(rows, count * _PIECE_BYTES // max(batch.rows.nbytes, 1)))
    for start in range(0, count, rows):
        end = min(start + rows, count)
        first = int(numbers[start - 1]) + 1 if start else batch.first
        yield mapped.between(first, int(numbers[end - 1]) + 1 if end < count else batch.stop)
    if count == 0:
        yield mapped


def _between(parts: list[_Part], start: int, end: int) -> list[_Part]:
    """Identifications `start` to `end - 1` of all parts together."""
    found, before = [], 0
    for part in parts:
        low, high = max(start - before, 0), min(end - before, len(part.numbers))
        before += len(part.numbers)
        if low < high:
            found.append(part.between(low, high))
    return found


def _gathered(parts: list[_Part], name: str, nothing: Any) -> Any:
    """An array of all parts together; `nothing` if there is none."""
    found = [array for part in parts if (array := getattr(part, name)) is not None]
    if len(found) == 1:
        return found[0]
    return np.concatenate(found) if found else nothing
