"""Chunks account for every row and are the same however the rows were batched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from etl import amplitude
from etl.encoder import Limits
from etl.model import Chunk, Mapped
from tests.encoder.builders import body_of, chunks_of, mapped_of, mapper_of, sent_by
from tests.examples import examples

JOB = {"user_id": "id", "user_properties": {"plan": "plan", "score": {"column": "score", "type": "integer"}}}
MAPPER = mapper_of(JOB)
ROW = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["", "ab", *(f"user-{n}" for n in range(6))]),
        "plan": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        "score": st.sampled_from([None, "1", "23", "x"]),
    }
)
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "plan", "score")])
LIMITS = Limits(identifications=4, body_bytes=220)


def table_of(rows: list[dict[str, object]]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def as_text(chunk: Chunk) -> tuple[object, ...]:
    """All there is to a chunk, to be compared."""
    arrays = (chunk.ends, chunk.keys, chunk.numbers, chunk.owners)
    rest = (chunk.source, chunk.file, chunk.first, chunk.stop, body_of(chunk), chunk.rejects, chunk.text)
    return (*rest, *(array.tolist() for array in arrays), chunk.rows.to_pylist())


@given(st.lists(ROW, max_size=30))
@settings(max_examples=examples(100), deadline=None)
def test_every_row_is_sent_merged_unchanged_or_rejected(rows: list[dict[str, object]]) -> None:
    chunks = chunks_of(mapped_of(MAPPER, table_of(rows)), LIMITS)
    first = 1
    for chunk in chunks:
        places = [*chunk.numbers.tolist(), *(reject.row for reject in chunk.rejects)]
        assert chunk.first == first
        assert len(set(places)) == len(places)
        assert all(chunk.first <= place < chunk.stop for place in places)
        assert chunk.unchanged == chunk.stop - chunk.first - len(places) >= 0
        assert set(chunk.owners.tolist()) == set(range(chunk.users))
        first = chunk.stop
    assert first == len(rows) + 1


@given(st.lists(ROW, max_size=30), st.data())
@settings(max_examples=examples(75))
def test_chunks_are_the_same_however_rows_were_batched(
    rows: list[dict[str, object]], data: st.DataObject
) -> None:
    breaks = data.draw(st.sets(st.integers(0, len(rows)), max_size=5))
    whole = chunks_of(mapped_of(MAPPER, table_of(rows)), LIMITS)
    pieces = chunks_of(mapped_of(MAPPER, table_of(rows), breaks), LIMITS)
    assert [as_text(chunk) for chunk in pieces] == [as_text(chunk) for chunk in whole]


@given(st.lists(ROW, max_size=30), st.data())
@settings(max_examples=examples(100), deadline=None)
def test_encoding_from_any_border_gives_the_same_chunks_again(
    rows: list[dict[str, object]], data: st.DataObject
) -> None:
    whole = chunks_of(mapped_of(MAPPER, table_of(rows)), LIMITS)
    done = data.draw(st.integers(0, len(whole)))
    first = whole[done - 1].stop if done else 1
    mapped = _from(mapped_of(MAPPER, table_of(rows), [first - 1]), first)
    assert [as_text(chunk) for chunk in chunks_of(mapped, LIMITS, first=first)] == [
        as_text(chunk) for chunk in whole[done:]
    ]


def _from(mapped: list[Mapped], first: int) -> list[Mapped]:
    return [one for one in mapped if one.batch.first >= first and one.batch.stop > one.batch.first]


@given(st.lists(ROW, max_size=30))
@settings(max_examples=examples(100), deadline=None)
def test_places_in_the_body_name_each_identification(rows: list[dict[str, object]]) -> None:
    for chunk in chunks_of(mapped_of(MAPPER, table_of(rows)), LIMITS):
        starts = [0, *chunk.ends[:-1].tolist()] if chunk.users else []
        pieces = [body_of(chunk)[1 + a : b] for a, b in zip(starts, chunk.ends.tolist(), strict=True)]
        joined = replace(chunk, body=(b"[" + b",".join(pieces) + b"]",))
        assert sent_by(joined if pieces else chunk) == sent_by(chunk)
        assert len(sent_by(chunk)) == chunk.users
        assert len(body_of(chunk)) <= LIMITS.body_bytes + 1


def test_a_row_too_big_for_any_request_is_a_reject() -> None:
    job = {"user_id": "id", "user_properties": {f"p{n}": "plan" for n in range(900)}}
    rows = table_of([{"id": "user-1", "plan": "€" * 1000}, {"id": "user-2", "plan": "short"}])
    [chunk] = chunks_of(mapped_of(mapper_of(job), rows), Limits())
    assert [(reject.row, reject.code) for reject in chunk.rejects] == [(1, "too_big")]
    assert [one["user_id"] for one in sent_by(chunk)] == ["user-2"]
    assert '"id":"user-1"' in chunk.rejects[0].values


def test_bodies_stay_below_the_limit_of_bytes() -> None:
    rows = table_of([{"id": f"user-{n:05d}", "plan": "é" * 1000} for n in range(900)])
    chunks = chunks_of(mapped_of(MAPPER, rows), Limits(identifications=1000))
    assert len(chunks) > 1
    assert all(len(body_of(chunk)) <= amplitude.MAX_BODY_BYTES for chunk in chunks)
    assert all(len(body_of(chunk)) > amplitude.MAX_BODY_BYTES - 7000 for chunk in chunks[:-1])


def test_a_long_stretch_of_rejects_is_settled_bit_by_bit() -> None:
    rows = table_of([{"id": "", "plan": "x"}] * 1000)
    chunks = chunks_of(mapped_of(MAPPER, rows), LIMITS)
    assert [chunk.stop - chunk.first for chunk in chunks] == [256, 256, 256, 232]
    assert all(chunk.users == 0 and chunk.body == () for chunk in chunks)


def test_a_change_of_types_within_a_file_ends_a_chunk() -> None:
    texts = pa.table(
        {"id": ["user-1", "user-2"], "plan": ["a", "b"], "score": pa.array([None, None], pa.string())}
    )
    numbers = pa.table({"id": ["user-3"], "plan": pa.array([7]), "score": pa.array([None], pa.string())})
    [one] = mapped_of(MAPPER, texts)
    [other] = mapped_of(MAPPER, numbers)
    moved = replace(other, batch=replace(other.batch, first=3, stop=4, numbers=np.array([3])))
    assert [(c.first, c.stop) for c in chunks_of([one, moved], Limits())] == [(1, 3), (3, 4)]
