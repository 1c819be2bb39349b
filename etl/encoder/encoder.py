"""Mapped batches to chunks: a chunk never spans files, nor a change of column types within one.

Rows of one user in a chunk are merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..arrow.hashing import Keys
from ..arrow.originals import rejects_of, rows_with_originals, take_rows
from ..model import Body, Chunk, Mapped, Reject, Sent, Skipped, SkippedCounts
from ..subject import user_keys
from .cutter import NOTHING_HELD, Limits, RowSizes, cut_chunks, held_of
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
class _Encoded:
    """A mapped batch with all that chunks are made of; arrays have a row for each identification.

    It may wait for those of many batches, so it refers to nothing else of its own. `rows` are the source's;
    `sizes` are the bytes of each line.
    """

    identifications: pa.RecordBatch
    rows: pa.RecordBatch
    row_sizes: RowSizes
    large: frozenset[str]
    lines: Lines
    sizes: NDArray[np.int64]
    keys: Keys
    numbers: NDArray[np.int64]
    fingerprints: Fingerprints | None
    shares: Shares | None


class _Part(NamedTuple):
    """Identifications `start` to `end - 1` of an encoded batch."""

    of: _Encoded
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start


class Encoder:
    """Cuts one range of one file into chunks; feed it the range's batches in order, then `finish`."""

    def __init__(self, *, first: int, limits: Limits, encoding: Encoding | None = None) -> None:
        self._first = first
        self._stop = first
        self._limits = limits
        self._encoding = encoding or FormEncoding()
        self._parts: list[_Part] = []
        self._rejects: list[Reject] = []
        self._unsent: list[Sent] = []
        self._skipped: list[Skipped] = []
        self._batch: Mapped | None = None

    def feed(self, mapped: Mapped) -> Iterator[Chunk]:
        """Take a batch; yield the chunks that are certain by now."""
        before = self._batch
        # Rows of JSON always fit into one chunk: the types of their columns mean nothing.
        if before and (before.batch.originals is None or mapped.batch.originals is None):
            schemas = (before.identifications.schema, before.batch.rows.schema)
            if schemas != (mapped.identifications.schema, mapped.batch.rows.schema):
                yield from self.finish()
        part, oversized = self._encode(mapped)
        self._batch = mapped
        self._parts.append(part)
        self._rejects += sorted((*mapped.rejects, *oversized), key=lambda reject: reject.row)
        self._skipped += mapped.skipped
        self._stop = mapped.batch.stop
        yield from self._cut(complete=False)

    def finish(self) -> Iterator[Chunk]:
        """No row follows: yield what is left."""
        yield from self._cut(complete=True)

    def _encode(self, mapped: Mapped) -> tuple[_Part, tuple[Reject, ...]]:
        """Encode a batch, without the rows that no request can hold, which are rejects."""
        numbers = mapped.batch.numbers[mapped.kept]
        lines = self._encoding.write(mapped.identifications, mapped.batch.file, numbers)
        sizes = lines.sizes()
        fits = sizes < self._limits.body_bytes
        if not fits.all():
            identifications = mapped.identifications
            smaller = replace(
                mapped,
                kept=mapped.kept[fits],
                identifications=identifications.filter(pa.array(fits)),
                fingerprints=None if mapped.fingerprints is None else mapped.fingerprints[fits],
            )
            if mapped.fingerprints is not None:
                # Later rows of their users count as following a row that differs.
                keys = user_keys(identifications.filter(pa.array(~fits)))
                self._unsent.append(Sent(numbers[~fits], keys, mapped.fingerprints[~fits], "refused"))
            positions = mapped.kept[~fits]
            reason = f"the identification is over {self._limits.body_bytes:,} bytes; drop or shorten a column"
            rows, why = rows_with_originals(mapped.batch), [("too_big", reason)] * len(positions)
            return self._encode(smaller)[0], rejects_of(mapped.batch, rows, positions, why, mapped.keep_empty)
        rows, kept = rows_with_originals(mapped.batch), mapped.kept
        # The source rows are copied where they are few of the batch, which then can go.
        side_by_side = len(kept) and kept[-1] - kept[0] + 1 == len(kept)
        if side_by_side and 2 * len(kept) >= rows.num_rows:
            rows = rows.slice(int(kept[0]), len(kept))
        else:
            rows = take_rows(rows, kept)
        encoded = _Encoded(
            identifications=mapped.identifications,
            rows=rows,
            row_sizes=RowSizes(rows),
            large=mapped.large,
            lines=lines,
            sizes=sizes,
            keys=user_keys(mapped.identifications),
            numbers=numbers,
            fingerprints=mapped.fingerprints,
            shares=merge_shares(mapped.identifications, self._encoding.splice),
        )
        return _Part(encoded, 0, len(numbers)), ()

    def _cut(self, *, complete: bool) -> Iterator[Chunk]:
        numbers = _gathered(self._parts, "numbers", _NO_NUMBERS)
        done, held = 0, NOTHING_HELD
        # What the chunks would keep beside their bodies, where it can be enough to end one.
        together = sum(part.of.row_sizes.together(part.start, part.end) for part in self._parts)
        if self._rejects or together > self._limits.held_bytes:
            row_sizes = [part.of.row_sizes.each(part.start, part.end) for part in self._parts]
            held = held_of(numbers, np.concatenate([_NO_NUMBERS, *row_sizes]), self._rejects)
        for border in cut_chunks(
            numbers,
            _gathered(self._parts, "sizes", _NO_NUMBERS),
            _gathered(self._parts, "keys", _NO_KEYS),
            first=self._first,
            stop=self._stop,
            complete=complete,
            limits=self._limits,
            shares=_gathered(self._parts, "shares", None),
            held=held,
        ):
            yield self._chunk(self._between(border.start, border.end), border.stop)
            done = border.end
        self._parts = self._between(done, len(numbers))

    def _between(self, start: int, end: int) -> list[_Part]:
        found, before = [], 0
        for part in self._parts:
            low, high = max(start - before, 0), min(end - before, part.length)
            before += part.length
            if low < high:
                found.append(_Part(part.of, part.start + low, part.start + high))
        return found

    def _chunk(self, parts: list[_Part], stop: int) -> Chunk:
        assert self._batch is not None  # noqa: S101 - a chunk is only ever cut out of a batch
        batch = self._batch.batch
        keys = _gathered(parts, "keys", _NO_KEYS)
        body, ends, owners = self._body(parts, keys)
        rows = [part.of.rows.slice(part.start, part.length) for part in parts]
        rejects = sum(1 for reject in self._rejects if reject.row < stop)
        chunk = Chunk(
            source=batch.source,
            file=batch.file,
            first=self._first,
            stop=stop,
            body=body,
            ends=ends,
            keys=keys[np.unique(owners, return_index=True)[1]] if len(ends) < len(owners) else keys,
            numbers=_gathered(parts, "numbers", _NO_NUMBERS),
            owners=owners,
            rows=rows[0]
            if len(rows) == 1
            else pa.concat_batches([*rows, rows_with_originals(batch).slice(0, 0)]),
            text=batch.text,
            keep_empty=self._batch.keep_empty,
            rejects=tuple(self._rejects[:rejects]),
            unsent=self._unsent_before(stop),
            fingerprints=_gathered(parts, "fingerprints", None),
            large=frozenset().union(*(part.of.large for part in parts)),
            skipped=self._skipped_before(stop),
        )
        self._first, self._rejects = stop, self._rejects[rejects:]
        return chunk

    def _body(self, parts: list[_Part], keys: Keys) -> tuple[Body, NDArray[np.int64], NDArray[np.int64]]:
        """The request body, where each identification ends in it, and which one each row went into."""
        if not parts:
            return (), _NO_NUMBERS, _NO_NUMBERS
        assert self._batch is not None  # noqa: S101 - as above
        in_order = np.sort(keys[:, 0])
        if not (in_order[1:] == in_order[:-1]).any():  # no user comes twice
            body = array_body([part.of.lines.part(part.start, part.end) for part in parts])
            return body, np.cumsum(_gathered(parts, "sizes", _NO_NUMBERS)), np.arange(len(keys))
        batches = [part.of.identifications.slice(part.start, part.length) for part in parts]
        identifications = join_identifications(batches)
        owners = group_users(identifications)
        merged = merge_rows(identifications, owners, self._encoding.splice)
        last = np.empty(merged.num_rows, dtype=np.int64)
        last[owners] = _gathered(parts, "numbers", _NO_NUMBERS)  # of equal indices numpy keeps the last
        lines = self._encoding.write(merged, self._batch.batch.file, last)
        return array_body([lines.buffer]), lines.ends[1:], owners

    def _unsent_before(self, stop: int) -> tuple[Sent, ...]:
        taken, left = list[Sent](), list[Sent]()
        for one in self._unsent:
            border = int(one.numbers.searchsorted(stop))
            for found, at in ((taken, slice(border)), (left, slice(border, None))):
                if len(one.numbers[at]):
                    found.append(Sent(one.numbers[at], one.keys[at], one.fingerprints[at], one.end))
        self._unsent = left
        return tuple(taken)

    def _skipped_before(self, stop: int) -> SkippedCounts:
        if not self._skipped:
            return ()
        counts = Counter[tuple[str, str]]()
        for some in self._skipped:
            counts[some.column, some.reason] += int(some.rows.searchsorted(stop))
        later = (some.between(stop, int(some.rows[-1]) + 1) for some in self._skipped if len(some.rows))
        self._skipped = [some for some in later if len(some.rows)]
        return tuple((column, reason, count) for (column, reason), count in counts.items() if count)


def pieces(mapped: Mapped, *, rows: int = _PIECE_ROWS) -> Iterator[Mapped]:
    """The same in order, of `rows` readable rows each and a smaller last one; nothing is copied.

    Lines of a piece take less memory than those of the batch, and the sender gets them sooner. Wide rows come
    in pieces of fewer. A piece has the rejects that stand before each of its rows.
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


def _gathered(parts: list[_Part], name: str, nothing: Any) -> Any:
    """An array of the encoded batches, for the identifications of the parts; `nothing` if there is none."""
    arrays = ((getattr(part.of, name), part) for part in parts)
    found = [array[part.start : part.end] for array, part in arrays if array is not None]
    if len(found) == 1:
        return found[0]
    return np.concatenate(found) if found else nothing
