"""Borders depend on the rows and the border before."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from etl.encoder.cutter import Cut, Limits, cut

LIMITS = Limits(identifications=4, body_bytes=40)


@st.composite
def rows(draw: st.DrawFn) -> tuple[list[int], list[int], list[list[int]], int]:
    """Numbers, sizes and keys of the rows that are sent, and where the file stops."""
    total = draw(st.integers(0, 400))
    numbers = sorted(draw(st.sets(st.integers(1, max(total, 1)), max_size=60))) if total else []
    sizes = [draw(st.integers(5, 39)) for _ in numbers]
    width = draw(st.sampled_from([1, 2]))
    keys = [[draw(st.integers(0, 6)) + 100 * column for column in range(width)] for _ in numbers]
    return numbers, sizes, keys, total + 1


def cut_all(
    numbers: list[int],
    sizes: list[int],
    keys: list[list[int]],
    first: int,
    stop: int,
    *,
    complete: bool = True,
) -> list[Cut]:
    width = len(keys[0]) if keys else 1
    return list(
        cut(
            np.array(numbers, np.int64),
            np.array(sizes, np.int64),
            np.array(keys, np.uint64).reshape(-1, width),
            first=first,
            stop=stop,
            complete=complete,
            limits=LIMITS,
        )
    )


@given(rows())
def test_chunks_tile_the_rows_within_the_limits(
    given_rows: tuple[list[int], list[int], list[list[int]], int],
) -> None:
    numbers, sizes, keys, stop = given_rows
    end, first = 0, 1
    for chunk in cut_all(numbers, sizes, keys, 1, stop):
        inside = range(chunk.start, chunk.end)
        assert chunk.start == end
        assert chunk.stop > first
        assert all(first <= numbers[i] < chunk.stop for i in inside)
        assert len(inside) <= LIMITS.identifications
        assert sum(sizes[i] for i in inside) <= LIMITS.body_bytes
        assert chunk.stop - first <= LIMITS.rows
        end, first = chunk.end, chunk.stop
    assert (end, first) == (len(numbers), stop)


@given(rows(), st.data())
def test_cutting_after_any_border_gives_the_rest(
    given_rows: tuple[list[int], list[int], list[list[int]], int], data: st.DataObject
) -> None:
    numbers, sizes, keys, stop = given_rows
    chunks = cut_all(numbers, sizes, keys, 1, stop)
    done = data.draw(st.integers(0, len(chunks)))
    start, first = (chunks[done - 1].end, chunks[done - 1].stop) if done else (0, 1)
    again = cut_all(numbers[start:], sizes[start:], keys[start:], first, stop)
    assert [(c.end + start, c.stop) for c in again] == [(c.end, c.stop) for c in chunks[done:]]


@given(rows(), st.data())
def test_the_reader_s_batches_move_no_border(
    given_rows: tuple[list[int], list[int], list[list[int]], int], data: st.DataObject
) -> None:
    numbers, sizes, keys, stop = given_rows
    whole = [c.stop for c in cut_all(numbers, sizes, keys, 1, stop)]
    breaks = [*sorted(data.draw(st.sets(st.integers(1, stop), max_size=8))), stop]
    start, first, borders = 0, 1, []
    for index, until in enumerate(breaks):
        seen = sum(1 for number in numbers if number < until)
        cuts = cut_all(
            numbers[start:seen],
            sizes[start:seen],
            keys[start:seen],
            first,
            until,
            complete=index == len(breaks) - 1,
        )
        for chunk in cuts:
            borders.append(chunk.stop)
        if cuts:
            start, first = start + cuts[-1].end, cuts[-1].stop
    assert borders == whole


@given(rows())
def test_one_user_with_two_devices_is_never_twice_in_a_chunk(
    given_rows: tuple[list[int], list[int], list[list[int]], int],
) -> None:
    numbers, sizes, keys, stop = given_rows
    for chunk in cut_all(numbers, sizes, keys, 1, stop):
        pairs = {tuple(pair) for pair in keys[chunk.start : chunk.end]}
        for column in range(len(keys[0]) if keys else 0):
            assert len({pair[column] for pair in pairs}) == len(pairs)
