"""What a chunk holds beside its body is bounded in bytes, at the same rows however these were batched."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.encoder import Encoder, Limits
from etl.encoder.cutter import row_bytes
from etl.model import Mapped, Reject
from tests.encoder.builders import chunks_of, mapped_of, mapper_of
from tests.examples import each_row
from tests.mapper.arrow_samples import ARROW_SAMPLES

JOB = {"user_id": "id", "user_properties": {"n": {"column": "n", "type": "integer"}}}


def wide_rows(count: int, texts: list[str], *, bad: bool) -> pa.Table:
    return pa.table(
        {
            "id": [f"user-{n}" for n in range(count)],
            "n": ["not a number" if bad else "1"] * count,
            "note": [f"{n}{texts[n % len(texts)]}" for n in range(count)],
        }
    )


@pytest.mark.parametrize("bad", [True, False])
def test_chunks_of_wide_rows_are_short(bad: bool) -> None:
    rows = wide_rows(3000, ["東" * 2000], bad=bad)
    chunks = chunks_of(mapped_of(mapper_of(JOB), rows), Limits(identifications=1000))
    assert len(chunks) > 3
    for chunk in chunks:
        texts = sum(2 * len(reject.values) for reject in chunk.rejects)
        assert chunk.rows.nbytes + texts < 5 << 20
    assert sum(len(chunk.rejects) + len(chunk.numbers) for chunk in chunks) == 3000


def test_rejects_do_not_gather_until_a_chunk_is_full() -> None:
    """A chunk of 2,000 events may have 128,000 rows: here 256 MB of rejects, if these were not counted."""
    nothing = mapped_of(mapper_of(JOB), wide_rows(0, [""], bad=True))[0]
    encoder, held, chunks = Encoder(first=1, limits=Limits(identifications=2000)), 0, 0
    tracemalloc.start()
    for first in range(1, 32_001, 1000):
        numbers = range(first, first + 1000)
        rejects = tuple(Reject("rows.csv", n, "bad", "why", f"{n}{'x' * 2000}") for n in numbers)
        batch = replace(nothing.batch, first=first, stop=first + 1000, rejects=rejects)
        for chunk in encoder.feed(replace(nothing, batch=batch, rejects=rejects)):
            held, chunks = max(held, sum(len(reject.values) for reject in chunk.rejects)), chunks + 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert chunks > 30
    assert held < 4 << 20
    assert peak < 16 << 20


@settings(max_examples=20)
@given(st.sampled_from([True, False]), st.sets(st.integers(0, 60), max_size=5))
def test_batches_move_no_border(bad: bool, breaks: set[int]) -> None:
    rows = wide_rows(60, ["", "x" * 300, "東" * 400, "😀" * 20], bad=bad)
    limits = Limits(identifications=50, kept_bytes=3000)

    def borders(mapped: list[Mapped]) -> list[int]:
        return [chunk.stop for chunk in chunks_of(mapped, limits)]

    whole = borders(mapped_of(mapper_of(JOB), rows))
    assert len(whole) > 3
    assert borders(mapped_of(mapper_of(JOB), rows, breaks)) == whole


@each_row("kind", ARROW_SAMPLES)
def test_the_size_of_a_row_depends_on_the_row_alone(kind: str) -> None:
    column, _ = ARROW_SAMPLES[kind]
    rows = pa.RecordBatch.from_arrays([column], names=["v"])
    alone = [row_bytes(rows.slice(at, 1)).tolist() for at in range(rows.num_rows)]
    assert [[size] for size in row_bytes(rows).tolist()] == alone


def test_sizes_are_about_those_of_arrow() -> None:
    rows = pa.record_batch(
        {
            "text": ["x" * 100, None, "東" * 100],
            "view": pa.array(["x" * 50] * 3, pa.string_view()),
            "list": [["a" * 10] * n for n in (1, 20, 30)],
            "map": pa.array([[("k" * 9, "v" * 100)]] * 3, pa.map_(pa.string(), pa.string())),
            "struct": [{"a": "y" * 200, "b": 1}] * 3,
            "n": [1, 2, 3],
        }
    )
    sizes = row_bytes(rows)
    assert 0.8 < sizes.sum() / rows.nbytes < 1.6
    assert sizes.argmax() == 2
