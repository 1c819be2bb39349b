"""A batch in pieces is the same batch: every row, reject and fingerprint once, and in its place."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.encoder import Limits, pieces
from etl.model import Batch, Mapped, Reject
from tests.encoder.builders import body_of, chunks_of
from tests.examples import examples

FIRST = 101


def reject(row: int) -> Reject:
    return Reject("rows.csv", row, "bad", "why", "{}")


def mapped_of(kinds: list[str]) -> Mapped:
    """A row of each kind: sent, unchanged (makes no identification), refused by the mapper, or unreadable."""
    numbers = np.array([n for n, kind in enumerate(kinds, FIRST) if kind != "unreadable"], dtype=np.int64)
    readable = [kind for kind in kinds if kind != "unreadable"]
    kept = np.array([place for place, kind in enumerate(readable) if kind == "sent"], dtype=np.int64)
    ids = pa.array([f"user-{n}" for n in numbers], pa.string())
    values = pa.StructArray.from_arrays([pa.array(numbers, pa.int64())], names=["n"])
    batch = Batch(
        source="rows.csv",
        file=0,
        first=FIRST,
        stop=FIRST + len(kinds),
        numbers=numbers,
        rows=pa.record_batch({"id": ids}),
        rejects=tuple(reject(n) for n, kind in enumerate(kinds, FIRST) if kind == "unreadable"),
        runs=numbers + 1,
    )
    properties = pa.StructArray.from_arrays([values.take(pa.array(kept))], names=["$set"])
    return Mapped(
        batch=batch,
        kept=kept,
        identifications=pa.record_batch({"user_id": ids.take(pa.array(kept)), "user_properties": properties}),
        rejects=tuple(reject(n) for n, kind in enumerate(kinds, FIRST) if kind in {"unreadable", "refused"}),
        fingerprints=numbers[kept].astype(np.uint32).reshape(-1, 1),
    )


KINDS = st.lists(st.sampled_from(["sent", "sent", "unchanged", "refused", "unreadable"]), max_size=40)


@given(KINDS, st.integers(1, 12))
@settings(max_examples=examples(100), deadline=None)
def test_pieces_put_together_are_the_batch(kinds: list[str], rows: int) -> None:
    mapped = mapped_of(kinds)
    parts = list(pieces(mapped, rows=rows))
    batches = [part.batch for part in parts]
    assert (batches[0].first, batches[-1].stop) == (mapped.batch.first, mapped.batch.stop)
    assert all(before.stop == after.first for before, after in pairwise(batches))
    assert [r for part in parts for r in part.rejects] == list(mapped.rejects)
    assert [r for batch in batches for r in batch.rejects] == list(mapped.batch.rejects)
    assert pa.Table.from_batches([part.identifications for part in parts]).to_pylist() == (
        mapped.identifications.to_pylist()
    )
    for part in parts:
        numbers = part.batch.numbers
        assert len(numbers) + len(part.batch.rejects) == part.batch.stop - part.batch.first
        assert len(numbers) == part.batch.rows.num_rows <= rows
        assert part.batch.rows["id"].to_pylist() == [f"user-{n}" for n in numbers]
        assert part.batch.runs is not None
        assert part.fingerprints is not None
        assert part.batch.runs.tolist() == (numbers + 1).tolist()
        ids = [f"user-{n}" for n in numbers[part.kept]]
        assert part.identifications["user_id"].to_pylist() == ids
        assert part.fingerprints.ravel().tolist() == numbers[part.kept].tolist()


@given(KINDS, st.integers(1, 12), st.integers(1, 7))
@settings(max_examples=examples(100), deadline=None)
def test_chunks_are_the_same_in_pieces(kinds: list[str], rows: int, limit: int) -> None:
    mapped, limits = mapped_of(kinds), Limits(identifications=limit)
    whole = chunks_of([mapped], limits, first=FIRST)
    cut = chunks_of(list(pieces(mapped, rows=rows)), limits, first=FIRST)
    assert [(c.first, c.stop, body_of(c), c.rejects) for c in cut] == [
        (c.first, c.stop, body_of(c), c.rejects) for c in whole
    ]


@pytest.mark.parametrize("kinds", [[], ["unreadable"] * 3])
def test_a_batch_without_readable_rows_is_one_piece(kinds: list[str]) -> None:
    mapped = replace(mapped_of(kinds), fingerprints=None)
    assert list(pieces(mapped, rows=2)) == [mapped]
