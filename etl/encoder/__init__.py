"""Stage 4, ENCODE: mapped identifications to chunks, whose bodies fit Amplitude's limits.

A chunk never spans files, nor a change of column types within one. Rows of one user in a chunk are merged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from etl.encoder.cutter import NOTHING_HELD, Held, Limits, cut
from etl.encoder.encoding import Encoding, EventEncoding, FormEncoding
from etl.encoder.held import RowSizes, held_of
from etl.encoder.lines import Lines, array_body
from etl.encoder.merge import group_users, joined, merge_rows
from etl.encoder.merge_limits import Shares, merge_shares
from etl.encoder.pieces import pieces
from etl.keys import Keys, user_keys
from etl.model import Body, Chunk, Mapped, Reject, Sent, Skipped, SkippedCounts
from etl.values import originals, pick_rows, shown_rows

if TYPE_CHECKING:
    from etl.model import Fingerprints

__all__ = ["Encoder", "Encoding", "EventEncoding", "FormEncoding", "Limits", "pieces"]


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A mapped batch with all that chunks are made of.

    It may wait for those of many batches, so it refers to nothing else of its own. `rows` are the source's.
    """

    identifications: pa.RecordBatch
    rows: pa.RecordBatch
    fingerprints: Fingerprints | None
    large: frozenset[str]
    lines: Lines
    keys: Keys
    numbers: NDArray[np.int64]
    shares: Shares | None
    sizes: RowSizes


class _Part(NamedTuple):
    """Identifications `start` to `end - 1` of an encoded batch."""

    of: _Encoded
    start: int
    end: int

    @property
    def length(self) -> int:
        return self.end - self.start

    def text(self) -> memoryview:
        return self.of.lines.part(self.start, self.end)


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
        if self._batch is not None and not _alike(self._batch, mapped):
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

    def _encode(self, mapped: Mapped) -> tuple[_Part, list[Reject]]:
        numbers = mapped.batch.numbers[mapped.kept]
        lines = self._encoding.write(mapped.identifications, mapped.batch.file, numbers)
        fits = lines.sizes() < self._limits.body_bytes
        if not fits.all():
            smaller = replace(
                mapped,
                kept=mapped.kept[fits],
                identifications=mapped.identifications.filter(pa.array(fits)),
                fingerprints=None if mapped.fingerprints is None else mapped.fingerprints[fits],
            )
            self._unsent += _unsent(mapped, ~fits)
            return self._encode(smaller)[0], _oversized(mapped, ~fits, self._limits.body_bytes)
        keys = user_keys(mapped.identifications)
        shares = merge_shares(mapped.identifications, self._encoding.splice)
        rows = _kept_rows(mapped)
        encoded = _Encoded(
            mapped.identifications,
            rows,
            mapped.fingerprints,
            mapped.large,
            lines,
            keys,
            numbers,
            shares,
            RowSizes(rows),
        )
        return _Part(encoded, 0, len(numbers)), []

    def _cut(self, *, complete: bool) -> Iterator[Chunk]:
        numbers = _numbers(self._parts)
        sizes = _sizes(self._parts)
        keys = _keys(self._parts)
        done = 0
        for border in cut(
            numbers,
            sizes,
            keys,
            first=self._first,
            stop=self._stop,
            complete=complete,
            limits=self._limits,
            shares=_shares(self._parts),
            held=self._held(numbers),
        ):
            yield self._chunk(self._between(border.start, border.end), border.stop)
            done = border.end
        self._parts = self._between(done, len(numbers))

    def _held(self, numbers: NDArray[np.int64]) -> Held:
        """What the chunks would keep beside their bodies, where it can be enough to end one."""
        together = sum(part.of.sizes.together(part.start, part.end) for part in self._parts)
        if not self._rejects and together <= self._limits.held_bytes:
            return NOTHING_HELD
        sizes = [part.of.sizes.each(part.start, part.end) for part in self._parts]
        return held_of(numbers, np.concatenate([_NO_NUMBERS, *sizes]), self._rejects)

    def _between(self, start: int, end: int) -> list[_Part]:
        found, before = [], 0
        for part in self._parts:
            low, high = max(start - before, 0), min(end - before, part.length)
            before += part.length
            if low < high:
                found.append(_Part(part.of, part.start + low, part.start + high))
        return found

    def _chunk(self, parts: list[_Part], stop: int) -> Chunk:
        batch = self._last_batch().batch
        keys = _keys(parts)
        body, ends, owners = self._body(parts, keys)
        merged = len(ends) < len(owners)
        chunk = Chunk(
            source=batch.source,
            file=batch.file,
            first=self._first,
            stop=stop,
            body=body,
            ends=ends,
            keys=keys[np.unique(owners, return_index=True)[1]] if merged else keys,
            numbers=_numbers(parts),
            owners=owners,
            rows=_joined([part.of.rows.slice(part.start, part.length) for part in parts], shown_rows(batch)),
            text=batch.text,
            keep_empty=self._last_batch().keep_empty,
            rejects=self._rejects_before(stop),
            unsent=self._unsent_before(stop),
            fingerprints=_fingerprints(parts),
            large=frozenset().union(*(part.of.large for part in parts)),
            skipped=self._skipped_before(stop),
        )
        self._first = stop
        return chunk

    def _body(self, parts: list[_Part], keys: Keys) -> tuple[Body, NDArray[np.int64], NDArray[np.int64]]:
        """The request body, where each identification ends in it, and which one each row went into."""
        if not parts:
            return (), _NO_NUMBERS, _NO_NUMBERS
        if not _repeat(keys[:, 0]):
            body = array_body([part.text() for part in parts])
            return body, np.cumsum(_sizes(parts)), np.arange(len(keys))
        identifications = joined([part.of.identifications.slice(part.start, part.length) for part in parts])
        owners = group_users(identifications)
        merged = merge_rows(identifications, owners, self._encoding.splice)
        last = np.empty(merged.num_rows, dtype=np.int64)
        last[owners] = _numbers(parts)  # of equal indices numpy keeps the last
        lines = self._encoding.write(merged, self._last_batch().batch.file, last)
        return array_body([lines.buffer]), lines.ends[1:], owners

    def _rejects_before(self, stop: int) -> tuple[Reject, ...]:
        count = sum(1 for reject in self._rejects if reject.row < stop)
        taken, self._rejects = tuple(self._rejects[:count]), self._rejects[count:]
        return taken

    def _unsent_before(self, stop: int) -> tuple[Sent, ...]:
        taken = tuple(_chosen(one, one.numbers < stop) for one in self._unsent)
        left = [_chosen(one, one.numbers >= stop) for one in self._unsent]
        self._unsent = [one for one in left if len(one.numbers)]
        return tuple(one for one in taken if len(one.numbers))

    def _skipped_before(self, stop: int) -> SkippedCounts:
        if not self._skipped:
            return ()
        counts = Counter[tuple[str, str]]()
        for some in self._skipped:
            counts[some.column, some.reason] += int(some.rows.searchsorted(stop))
        later = (some.between(stop, int(some.rows[-1]) + 1) for some in self._skipped if len(some.rows))
        self._skipped = [some for some in later if len(some.rows)]
        return tuple((column, reason, count) for (column, reason), count in counts.items() if count)

    def _last_batch(self) -> Mapped:
        assert self._batch is not None  # noqa: S101 - a chunk is only ever cut out of a batch
        return self._batch


_NO_KEYS: Keys = np.empty((0, 1), dtype=np.uint64)
_NO_NUMBERS: NDArray[np.int64] = np.empty(0, dtype=np.int64)


def _kept_rows(mapped: Mapped) -> pa.RecordBatch:
    """The source rows of the identifications; copied where they are few of the batch, which then can go."""
    rows, kept = shown_rows(mapped.batch), mapped.kept
    side_by_side = len(kept) and kept[-1] - kept[0] + 1 == len(kept)
    if side_by_side and 2 * len(kept) >= rows.num_rows:
        return rows.slice(int(kept[0]), len(kept))
    return pick_rows(rows, kept)


def _numbers(parts: list[_Part]) -> NDArray[np.int64]:
    found = [part.of.numbers[part.start : part.end] for part in parts]
    return np.concatenate(found) if found else _NO_NUMBERS


def _sizes(parts: list[_Part]) -> NDArray[np.int64]:
    found = [np.diff(part.of.lines.ends[part.start : part.end + 1]) for part in parts]
    return np.concatenate(found) if found else _NO_NUMBERS


def _keys(parts: list[_Part]) -> Keys:
    found = [part.of.keys[part.start : part.end] for part in parts]
    return np.concatenate(found) if found else _NO_KEYS


def _shares(parts: list[_Part]) -> Shares | None:
    found = [part.of.shares[part.start : part.end] for part in parts if part.of.shares is not None]
    return np.concatenate(found) if found else None


def _fingerprints(parts: list[_Part]) -> Fingerprints | None:
    found = [
        part.of.fingerprints[part.start : part.end] for part in parts if part.of.fingerprints is not None
    ]
    return np.concatenate(found) if found else None


def _repeat(keys: Keys) -> bool:
    in_order = np.sort(keys)
    return bool((in_order[1:] == in_order[:-1]).any())


def _alike(one: Mapped, other: Mapped) -> bool:
    """Whether rows of both can go into one chunk. Those of JSON always can: their types say nothing."""
    if one.batch.originals is not None and other.batch.originals is not None:
        return True
    schemas = ((one.identifications, other.identifications), (one.batch.rows, other.batch.rows))
    return all(before.schema.equals(after.schema) for before, after in schemas)


def _joined(batches: list[pa.RecordBatch], like: pa.RecordBatch) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.concat_batches(batches) if batches else like.slice(0, 0)


def _oversized(mapped: Mapped, mask: NDArray[np.bool_], most: int) -> list[Reject]:
    batch, positions = mapped.batch, mapped.kept[mask]
    rows = originals(
        shown_rows(batch), positions, source=batch.source, text=batch.text, keep_empty=mapped.keep_empty
    )
    reason = f"the identification is over {most:,} bytes; drop or shorten a column"
    return [
        Reject(batch.source, int(number), "too_big", reason, row.values, origin=row.origin)
        for number, row in zip(batch.numbers[positions], rows, strict=True)
    ]


def _unsent(mapped: Mapped, mask: NDArray[np.bool_]) -> list[Sent]:
    """Rows that no request can hold: later rows of their users count as following a row that differs."""
    if mapped.fingerprints is None:
        return []
    keys = user_keys(mapped.identifications.filter(pa.array(mask)))
    return [Sent(mapped.batch.numbers[mapped.kept[mask]], keys, mapped.fingerprints[mask], "refused")]


def _chosen(some: Sent, mask: NDArray[np.bool_]) -> Sent:
    return Sent(some.numbers[mask], some.keys[mask], some.fingerprints[mask], some.end)
