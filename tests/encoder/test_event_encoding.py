"""An event has its insert_id from its run, its place and its content, and from nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.arrow.json_text import splice_json
from etl.encoder import EventEncoding, Limits
from etl.encoder.encoding import Lines, hash_lines
from etl.model import Chunk, Mapped
from tests.encoder.builders import body_of, chunks_of, events_of, mapped_of, mapper_of, one_by_one, sent_by
from tests.examples import examples

RUN = "0123456789abcdef" * 2
JOB = {
    "user_id": "id",
    "user_properties": {"$set": {"plan": "plan"}, "$add": {"score": {"column": "score", "type": "integer"}}},
}
MAPPER = mapper_of(JOB)
ROW = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["", *(f"user-{n}" for n in range(6))]),
        "plan": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        "score": st.sampled_from([None, "1", "23", "x"]),
    }
)
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "plan", "score")])
LIMITS = Limits(identifications=4, body_bytes=700)
Rows = list[dict[str, object]]


def table_of(rows: Rows) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def mapped(rows: Rows, breaks: Iterable[int] = (), *, file: int = 0) -> list[Mapped]:
    found = mapped_of(MAPPER, table_of(rows), breaks)
    return [replace(one, batch=replace(one.batch, file=file)) for one in found]


def chunks(rows: Rows, breaks: Iterable[int] = (), *, run: str = RUN, file: int = 0) -> list[Chunk]:
    return chunks_of(mapped(rows, breaks, file=file), LIMITS, encoding=EventEncoding(run))


def insert_ids(made: list[Chunk]) -> list[str]:
    return [event["insert_id"] for chunk in made for event in events_of(chunk)]


def users(count: int) -> Rows:
    return [{"id": f"user-{n:04d}", "plan": "pro", "score": "1"} for n in range(count)]


@given(st.lists(ROW, max_size=30))
@settings(max_examples=examples(100), deadline=None)
def test_events_say_what_identifications_say(rows: Rows) -> None:
    made = [event for chunk in chunks(rows) for event in events_of(chunk)]
    assert all(event.pop("event_type") == "$identify" for event in made)
    assert all(len(event.pop("insert_id")) == 64 for event in made)
    # Events are longer, so that borders are elsewhere where bytes are the limit.
    wide = replace(LIMITS, body_bytes=1_000_000)
    events = chunks_of(mapped(rows), wide, encoding=EventEncoding(RUN))
    forms = chunks_of(mapped(rows), wide)
    assert [len(events_of(chunk)) for chunk in events] == [len(sent_by(chunk)) for chunk in forms]
    stripped = [
        {name: value for name, value in event.items() if name not in {"event_type", "insert_id"}}
        for chunk in events
        for event in events_of(chunk)
    ]
    assert stripped == [one for chunk in forms for one in sent_by(chunk)]


@given(st.lists(ROW, max_size=30), st.data())
@settings(max_examples=examples(75))
def test_events_are_the_same_however_rows_were_batched(rows: Rows, data: st.DataObject) -> None:
    breaks = data.draw(st.sets(st.integers(0, len(rows)), max_size=5))
    assert [body_of(chunk) for chunk in chunks(rows, breaks)] == [body_of(chunk) for chunk in chunks(rows)]


@given(st.lists(ROW, max_size=30), st.data())
@settings(max_examples=examples(100), deadline=None)
def test_a_run_taken_up_at_any_border_sends_the_same_events(rows: Rows, data: st.DataObject) -> None:
    whole = chunks(rows)
    done = data.draw(st.integers(0, len(whole)))
    first = whole[done - 1].stop if done else 1
    again = [one for one in mapped(rows, [first - 1]) if one.batch.first >= first and one.batch.stop > first]
    made = chunks_of(again, LIMITS, first=first, encoding=EventEncoding(RUN))
    assert [body_of(chunk) for chunk in made] == [body_of(chunk) for chunk in whole[done:]]


@given(st.lists(ROW, max_size=30))
@settings(max_examples=examples(100), deadline=None)
def test_places_in_the_body_name_each_event(rows: Rows) -> None:
    for chunk in chunks(rows):
        starts = [0, *chunk.ends[:-1].tolist()] if chunk.users else []
        pieces = [body_of(chunk)[1 + a : b] for a, b in zip(starts, chunk.ends.tolist(), strict=True)]
        assert b"[" + b",".join(pieces) + b"]" == (body_of(chunk) or b"[]")
        assert len(body_of(chunk)) <= LIMITS.body_bytes + 1


def test_equal_rows_are_told_apart_by_run_file_and_row() -> None:
    same = users(2) * 8
    tonight, tomorrow = insert_ids(chunks(same)), insert_ids(chunks(same, run="f" * 32))
    other_file = insert_ids(chunks(same, file=1))
    everything = [*tonight, *tomorrow, *other_file]
    assert len(set(everything)) == len(everything)


def test_no_two_of_many_are_the_same() -> None:
    made = chunks_of(mapped(users(20_000), [6_000]), Limits(2000), encoding=EventEncoding(RUN))
    assert len(set(insert_ids(made))) == 20_000


@pytest.mark.parametrize("change", [{"plan": "prp"}, {"score": "2"}, {"id": "user-0004x"}, {"plan": None}])
def test_another_content_at_the_same_place_is_another_event(change: dict[str, object]) -> None:
    rows = users(8)
    before = insert_ids(chunks(rows))
    rows[4] = rows[4] | change
    after = insert_ids(chunks(rows))
    assert [n for n in range(8) if before[n] != after[n]] == [4]


def test_merged_rows_have_one_event_of_the_place_of_the_last() -> None:
    rows = users(3)
    rows.insert(1, {"id": "user-0002", "plan": "free", "score": "10"})
    [chunk] = chunks_of(mapped(rows), Limits(4), encoding=EventEncoding(RUN))
    sent = {event["user_id"]: event for event in events_of(chunk)}
    assert sent["user-0002"]["user_properties"]["$add"] == {"score": 11}
    places = {user: int(event["insert_id"][32:48], 16) for user, event in sent.items()}
    assert places == {"user-0000": 1, "user-0001": 3, "user-0002": 4}


def test_an_insert_id_shows_run_and_place() -> None:
    [chunk] = chunks_of(mapped(users(1), file=5), LIMITS, encoding=EventEncoding(RUN))
    assert insert_ids([chunk])[0].startswith(f"{RUN}0000050000000001")


def test_raw_json_is_spliced_before_it_is_hashed() -> None:
    job = {"user_id": "id", "user_properties": {"p": {"column": "plan", "type": "json"}}}
    rows = table_of([{"id": "user-1", "plan": '{"a": [1, "é"]}', "score": None}])
    found = mapped_of(mapper_of(job), rows)
    [chunk] = chunks_of(found, LIMITS, encoding=EventEncoding(RUN, splice_json))
    assert events_of(chunk)[0]["user_properties"] == {"$set": {"p": {"a": [1, "é"]}}}
    assert "é".encode() in body_of(chunk)
    assert one_by_one(found) != events_of(chunk)


def test_a_time_goes_with_the_event_and_merged_rows_have_the_last_one() -> None:
    job = {"user_id": "id", "time": "plan", "user_properties": {"score": "score"}}
    mapper = mapper_of(job, destination={"transport": "batch"})
    rows: Rows = [
        {"id": "user-1", "plan": "2024-05-01T10:00:00.250Z", "score": "1"},
        {"id": "user-2", "plan": None, "score": "1"},
        {"id": "user-1", "plan": "1714557700", "score": "2"},
        {"id": "user-3", "plan": "2024-05-01", "score": None},
    ]
    [chunk] = chunks_of(mapped_of(mapper, table_of(rows)), LIMITS, encoding=EventEncoding(RUN))
    assert [event.get("time") for event in events_of(chunk)] == [1_714_557_700_000, None]
    assert chunk.unchanged == 1


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), min_size=1, max_size=12))
@settings(max_examples=examples(100), deadline=None)
def test_the_hash_of_a_line_depends_on_that_line_alone(texts: list[bytes]) -> None:
    def hashed(some: list[bytes]) -> list[int]:
        lines = [b"{" + text + b"}," for text in some]
        ends = np.concatenate([[0], np.cumsum([len(line) for line in lines])])
        found: list[int] = hash_lines(Lines(memoryview(b"".join(lines)), ends)).tolist()
        return found

    together = hashed(texts)
    assert together == [hashed([text])[0] for text in texts]
    assert len(set(together)) == len(set(texts))
