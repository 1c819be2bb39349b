"""Merged rows leave a profile as the rows one by one would have left it, whatever the operator."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.encoder import Limits
from etl.sandbox.api_rules import check
from etl.sandbox.profiles import Profiles
from tests.encoder.builders import Identification, chunks_of, mapped_of, mapper_of, one_by_one, sent_by
from tests.examples import examples

EVERYTHING = {
    "user_id": "id",
    "platform": "platform",
    "os_name": "os_name",
    "os_version": "os_version",
    "device_brand": "brand",
    "device_manufacturer": "maker",
    "device_model": "model",
    "carrier": "carrier",
    "language": "language",
    "groups": {"team": "team", "site": "site"},
    "user_properties": {
        "$set": {"plan": "plan", "score": "score", "gone": {"column": "gone", "null": "unset"}},
        "$setOnce": {"first_plan": "plan"},
        "$add": {"logins": "logins"},
        "$append": {"visits": "word"},
        "$prepend": {"latest": "word"},
        "$preInsert": {"front": "words"},
        "$postInsert": {"back": "words"},
        "$remove": {"tags": "word"},
        "$unset": ["legacy"],
    },
}
WORDS_GIVEN = ["red", "green", "blue"]
WORDS = st.sampled_from(WORDS_GIVEN)
TEXT = st.none() | WORDS
ROW = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["user-1", "user-2", "user-3"]),
        **dict.fromkeys(
            ("platform", "os_name", "os_version", "brand", "maker", "model", "carrier", "language"), TEXT
        ),
        **dict.fromkeys(("team", "site", "plan", "gone", "word"), TEXT),
        "score": st.none() | st.integers(0, 9),
        "logins": st.none() | st.integers(-5, 5),
        "words": st.none() | st.lists(WORDS, max_size=3, unique=True),
    }
)
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("id", "platform", "os_name", "os_version", "brand", "maker", "model")]
    + [(name, pa.string()) for name in ("carrier", "language", "team", "site", "plan", "gone", "word")]
    + [("score", pa.int64()), ("logins", pa.int64()), ("words", pa.list_(pa.string()))]
)
EARLIER: list[Identification] = [
    {
        "user_id": f"user-{n}",
        "platform": "web",
        "user_properties": {"$set": {"tags": ["red", "blue", "red"], "legacy": 1, "back": ["blue"]}},
    }
    for n in (1, 2, 3)
]


def profiles_after(identifications: list[Identification]) -> dict[str, object]:
    profiles = Profiles()
    for identification in EARLIER + identifications:
        check(identification)
        profiles.apply(identification)
    return profiles.as_json()


@given(st.lists(ROW, min_size=1, max_size=12), st.sampled_from([1, 2, 5, 100]))
@settings(max_examples=examples(75))
def test_merging_changes_no_profile(rows: list[dict[str, object]], window: int) -> None:
    mapped = mapped_of(mapper_of(EVERYTHING), pa.Table.from_pylist(rows, schema=SCHEMA))
    chunks = chunks_of(mapped, Limits(identifications=window))
    sent = [identification for chunk in chunks for identification in sent_by(chunk)]
    assert profiles_after(sent) == profiles_after(one_by_one(mapped))
    for chunk in chunks:
        users = [identification["user_id"] for identification in sent_by(chunk)]
        assert len(users) == len(set(users)) == chunk.users


@given(st.lists(ROW, min_size=1, max_size=8))
@settings(max_examples=examples(50))
def test_clear_all_forgets_the_rows_before(rows: list[dict[str, object]]) -> None:
    job = {
        "user_id": "id",
        "user_properties": {"$clearAll": True, "$set": {"plan": "plan"}, "$add": {"logins": "logins"}},
    }
    mapped = mapped_of(mapper_of(job), pa.Table.from_pylist(rows, schema=SCHEMA))
    sent = [one for chunk in chunks_of(mapped, Limits()) for one in sent_by(chunk)]
    assert profiles_after(sent) == profiles_after(one_by_one(mapped))


DEVICES = st.fixed_dictionaries(
    {
        "user": st.none() | st.sampled_from(["user-1", "user-2"]),
        "device": st.none() | st.sampled_from(["device-1", "device-2"]),
        "plan": st.none() | WORDS,
    }
)


@given(st.lists(DEVICES, min_size=1, max_size=10))
@settings(max_examples=examples(75))
def test_users_with_several_devices_are_sent_as_their_rows_say(rows: list[dict[str, object]]) -> None:
    schema = pa.schema([(name, pa.string()) for name in ("user", "device", "plan")])
    job = {"user_id": "user", "device_id": "device", "user_properties": {"plan": "plan"}}
    mapped = mapped_of(mapper_of(job), pa.Table.from_pylist(rows, schema=schema))
    chunks = chunks_of(mapped, Limits())
    assert profiles_after([one for chunk in chunks for one in sent_by(chunk)]) == profiles_after(
        one_by_one(mapped)
    )
    for chunk in chunks:
        for field in ("user_id", "device_id"):
            ids = [one[field] for one in sent_by(chunk) if field in one]
            assert len(ids) == len(set(ids))


@pytest.mark.parametrize("kind", [pa.int32(), pa.float64(), pa.decimal128(38, 2)])
def test_sums_of_any_number_type(kind: pa.DataType) -> None:
    rows = pa.table(
        {"id": ["user-1"] * 3, "n": pa.array([1, None, 2], pa.int64()).cast(pa.decimal128(38, 2)).cast(kind)}
    )
    mapped = mapped_of(mapper_of({"user_id": "id", "user_properties": {"$add": {"n": "n"}}}), rows)
    [chunk] = chunks_of(mapped, Limits())
    assert sent_by(chunk) == [{"user_id": "user-1", "user_properties": {"$add": {"n": 3}}}]
