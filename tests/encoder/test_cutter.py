"""Borders depend on the rows and the border before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.encoder.cutter import ChunkBorder, KeptBytes, Limits, cut_chunks
from etl.encoder.merge import WHOLE_SHARE
from tests.examples import examples

LIMITS = Limits(identifications=4, body_bytes=40, kept_bytes=100)


@dataclass(frozen=True)
class Rows:
    """A file: what belongs to each sent row, what is held of sent and rejected rows, and its end."""

    numbers: list[int]
    sizes: list[int]
    keys: list[list[int]]
    shares: list[int]
    held: dict[int, int]
    stop: int

    def cut_chunks(
        self, start: int = 0, first: int = 1, until: int | None = None, *, complete: bool = True
    ) -> list[ChunkBorder]:
        """The chunks of rows `first` to `until - 1`; `start` sent rows come before."""
        until = self.stop if until is None else until
        end = sum(1 for number in self.numbers if number < until)
        width = len(self.keys[0]) if self.keys else 1
        held = {row: size for row, size in self.held.items() if first <= row < until}
        return list(
            cut_chunks(
                np.array(self.numbers[start:end], np.int64),
                np.array(self.sizes[start:end], np.int64),
                np.array(self.keys[start:end], np.uint64).reshape(-1, width),
                first=first,
                stop=until,
                complete=complete,
                limits=LIMITS,
                shares=np.array(self.shares[start:end], np.int64).reshape(-1, 1),
                kept=KeptBytes.of(np.array(list(held), np.int64), np.array(list(held.values()), np.int64)),
            )
        )


@st.composite
def files(draw: st.DrawFn) -> Rows:
    total = draw(st.integers(0, 400))
    numbers = sorted(draw(st.sets(st.integers(1, max(total, 1)), max_size=60))) if total else []
    width = draw(st.sampled_from([1, 2]))
    rejected = draw(st.sets(st.integers(1, total), max_size=20)) if total else set()
    return Rows(
        numbers,
        sizes=[draw(st.integers(5, 39)) for _ in numbers],
        keys=[[draw(st.integers(0, 6)) + 100 * column for column in range(width)] for _ in numbers],
        shares=[
            draw(st.sampled_from([0, 1, WHOLE_SHARE // 2, WHOLE_SHARE, 2 * WHOLE_SHARE])) for _ in numbers
        ],
        held={row: draw(st.sampled_from([1, 30, 99, 200])) for row in sorted(rejected.union(numbers))},
        stop=total + 1,
    )


@given(files())
@settings(max_examples=examples(100), deadline=None)
def test_chunks_tile_the_rows_within_the_limits(rows: Rows) -> None:
    end, first = 0, 1
    for chunk in rows.cut_chunks():
        inside = range(chunk.start, chunk.end)
        assert chunk.start == end
        assert chunk.stop > first
        assert all(first <= rows.numbers[i] < chunk.stop for i in inside)
        assert len(inside) <= LIMITS.identifications
        assert sum(rows.sizes[i] for i in inside) <= LIMITS.body_bytes
        assert chunk.stop - first <= LIMITS.rows
        held = [size for row, size in rows.held.items() if first <= row < chunk.stop]
        assert sum(held) <= LIMITS.kept_bytes or len(held) == 1
        by_user: dict[int, list[int]] = {}
        for i in inside:
            by_user.setdefault(rows.keys[i][0], []).append(rows.shares[i])
        assert all(sum(shares) <= WHOLE_SHARE or len(shares) == 1 for shares in by_user.values())
        end, first = chunk.end, chunk.stop
    assert (end, first) == (len(rows.numbers), rows.stop)


@given(files(), st.data())
@settings(max_examples=examples(100), deadline=None)
def test_cutting_after_any_border_gives_the_rest(rows: Rows, data: st.DataObject) -> None:
    chunks = rows.cut_chunks()
    done = data.draw(st.integers(0, len(chunks)))
    start, first = (chunks[done - 1].end, chunks[done - 1].stop) if done else (0, 1)
    again = rows.cut_chunks(start, first)
    assert [(c.end + start, c.stop) for c in again] == [(c.end, c.stop) for c in chunks[done:]]


@given(files(), st.data())
@settings(max_examples=examples(100), deadline=None)
def test_the_reader_s_batches_move_no_border(rows: Rows, data: st.DataObject) -> None:
    whole = [c.stop for c in rows.cut_chunks()]
    breaks = [*sorted(data.draw(st.sets(st.integers(1, rows.stop), max_size=8))), rows.stop]
    start, first, borders = 0, 1, []
    for index, until in enumerate(breaks):
        cuts = rows.cut_chunks(start, first, until, complete=index == len(breaks) - 1)
        for chunk in cuts:
            borders.append(chunk.stop)
        if cuts:
            start, first = start + cuts[-1].end, cuts[-1].stop
    assert borders == whole


@given(files())
@settings(max_examples=examples(100), deadline=None)
def test_one_user_with_two_devices_is_never_twice_in_a_chunk(rows: Rows) -> None:
    for chunk in rows.cut_chunks():
        pairs = {tuple(pair) for pair in rows.keys[chunk.start : chunk.end]}
        for column in range(len(rows.keys[0]) if rows.keys else 0):
            assert len({pair[column] for pair in pairs}) == len(pairs)
