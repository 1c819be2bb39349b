"""Merging changes no profile, whatever Arrow type the values have, and however large or long they are."""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.arrow.json_text import json_column, json_lines, splice_json
from etl.encoder import FormEncoding, Limits
from etl.encoder.merge import WHOLE_SHARE, merge_shares
from etl.mapper import Mapper
from etl.model import Mapped
from etl.sandbox.api_rules import check
from etl.sandbox.profiles import Profiles
from tests.encoder.builders import Identification, chunks_of, mapped_of, mapper_of, sent_by
from tests.examples import combinations, examples

USERS = ["user-1", "user-2"]
LIST_OPERATORS = ["$append", "$prepend", "$preInsert", "$postInsert", "$remove"]
EARLIER: Identification = {
    "$set": {name: [1, "red", {"a": 1}, 2.0, True, {"a": 1, "b": "x"}] for name in ["list"]} | {"n": 10}
}


def integers(kind: pa.DataType, low: int, high: int) -> tuple[pa.DataType, st.SearchStrategy[Any]]:
    return kind, st.integers(low, high) | st.sampled_from([low, high, 0, 1])


MOST = Decimal("9" * 36 + ".99")
NUMBERS: Final[list[tuple[pa.DataType, st.SearchStrategy[Any]]]] = [
    integers(pa.int8(), -128, 127),
    integers(pa.uint16(), 0, 65_535),
    integers(pa.int64(), -(2**63), 2**63 - 1),
    integers(pa.uint64(), 0, 2**64 - 1),
    (pa.float16(), st.sampled_from([0.5, -0.0, 1.5, 65_504.0])),
    (pa.float32(), st.sampled_from([0.1, 0.2, -0.3, 1e30, -0.0])),
    (pa.float64(), st.sampled_from([0.1, 1.7e308, -1.7e308, 2.5, -0.0])),
    (pa.decimal128(5, 2), st.sampled_from([Decimal("999.99"), Decimal("-0.01"), Decimal("1.10")])),
    (pa.decimal128(38, 2), st.sampled_from([MOST, MOST.copy_negate(), Decimal("0.10")])),
    (pa.decimal256(76, 2), st.sampled_from([Decimal("9" * 74 + ".99"), Decimal("0.10")])),
]
TEXTS = st.sampled_from(["red", "blue", "ü" * 300, "z" * 1000, "\x00"])
ELEMENTS: Final[list[tuple[pa.DataType, st.SearchStrategy[Any]]]] = [
    (pa.int32(), st.integers(-1, 2)),
    (pa.uint64(), st.sampled_from([0, 1, 2**64 - 1])),
    (pa.float32(), st.sampled_from([0.0, -0.0, 0.1, 2.0])),
    (pa.float64(), st.sampled_from([0.0, -0.0, 0.1, 2.0])),
    (pa.bool_(), st.booleans()),
    (pa.decimal128(6, 2), st.sampled_from([Decimal("1.00"), Decimal("0.10")])),
    (pa.decimal256(40, 1), st.sampled_from([Decimal("1.0"), Decimal("0.1")])),
    (pa.date32(), st.sampled_from([dt.date(2024, 1, 1), dt.date(1999, 12, 31)])),
    (pa.timestamp("us"), st.sampled_from([dt.datetime(2024, 1, 1, 8), dt.datetime(1999, 12, 31)])),
    (pa.string(), TEXTS),
    (pa.struct([("a", pa.int64()), ("b", pa.string())]), st.fixed_dictionaries(
        {"a": st.sampled_from([1, 2, None]), "b": st.sampled_from(["x", None])})),
    (pa.struct([("a", pa.struct([("b", pa.float64())]))]), st.fixed_dictionaries(
        {"a": st.fixed_dictionaries({"b": st.sampled_from([0.0, -0.0, 1.0])})})),
    (pa.map_(pa.string(), pa.int64()), st.permutations([("a", 1), ("b", 2)]).map(lambda pairs: pairs[:2])
        | st.sampled_from([[("a", 1)]])),
]  # fmt: skip


def one_by_one(mapped: list[Mapped]) -> list[Identification]:
    lines = b"".join(json_lines(batch.identifications, splice=splice_json) for batch in mapped)
    return [json.loads(line) for line in lines.splitlines()]


def sent(mapped: list[Mapped], window: int) -> list[Identification]:
    chunks = chunks_of(mapped, Limits(identifications=window), encoding=FormEncoding(splice_json))
    for chunk in chunks:
        users = [identification["user_id"] for identification in sent_by(chunk)]
        assert len(users) == len(set(users)) == chunk.users
    return [identification for chunk in chunks for identification in sent_by(chunk)]


def profiles_after(identifications: Iterable[Identification]) -> dict[str, Any]:
    profiles = Profiles()
    for user in USERS:
        profiles.apply({"user_id": user, "user_properties": EARLIER})
    for identification in identifications:
        check(identification)
        profiles.apply(identification)
    return profiles.as_json()


def alike(one: Any, other: Any) -> bool:
    """Equal as JSON; numbers, since they were added up in another order, but for rounding."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, bool) or isinstance(other, bool) or not isinstance(one, int | float):
        return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
    return isinstance(other, int | float) and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)


def assert_merging_changes_nothing(mapper: Mapper, rows: pa.Table, window: int) -> list[Identification]:
    mapped = mapped_of(mapper, rows)
    merged = sent(mapped, window)
    assert alike(profiles_after(merged), profiles_after(one_by_one(mapped)))
    return merged


@pytest.mark.parametrize(("kind", "values"), NUMBERS, ids=[str(kind) for kind, _ in NUMBERS])
@given(st.data())
@settings(max_examples=examples(12, 6))
def test_sums(kind: pa.DataType, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.tuples(st.sampled_from(USERS), st.none() | values), min_size=1, max_size=8))
    numbers = [
        np.float16(number) if kind == pa.float16() and number is not None else number for _, number in rows
    ]
    table = pa.table({"id": [user for user, _ in rows], "n": pa.array(numbers, kind)})
    mapper = mapper_of({"user_id": "id", "user_properties": {"$add": {"n": "n"}}})
    assert_merging_changes_nothing(mapper, table, data.draw(st.sampled_from([2, 100])))


@pytest.mark.parametrize(("element", "operator"), combinations(ELEMENTS, LIST_OPERATORS))
@given(st.data())
@settings(max_examples=6)
def test_lists(
    element: tuple[pa.DataType, st.SearchStrategy[Any]], operator: str, data: st.DataObject
) -> None:
    kind, values = element
    lists = st.none() | st.lists(values, max_size=3)
    rows = data.draw(st.lists(st.tuples(st.sampled_from(USERS), lists), min_size=1, max_size=6))
    table = pa.table(
        {"id": [user for user, _ in rows], "v": pa.array([row[1] for row in rows], pa.list_(kind))}
    )
    mapper = mapper_of(
        {"user_id": "id", "user_properties": {operator: {"list": {"column": "v", "too_long": "truncate"}}}}
    )
    assert_merging_changes_nothing(mapper, table, data.draw(st.sampled_from([2, 100])))


JSONS = st.sampled_from(
    [
        "1",
        "1.0",
        "true",
        '"1"',
        '"red"',
        '{"a":1,"b":[]}',
        '{"b":[],"a":1.0}',
        '{"a":true}',
        '{"a":1}',
        '["x"]',
    ]
)


@pytest.mark.parametrize("operator", LIST_OPERATORS)
@given(st.lists(st.tuples(st.sampled_from(USERS), st.none() | JSONS), min_size=1, max_size=8))
@settings(max_examples=examples(20, 8))
def test_lists_of_any_json(operator: str, rows: list[tuple[str, str | None]]) -> None:
    table = pa.table({"id": [user for user, _ in rows], "v": pa.array([row[1] for row in rows], pa.string())})
    mapper = mapper_of(
        {"user_id": "id", "user_properties": {operator: {"list": {"column": "v", "type": "json"}}}}
    )
    assert_merging_changes_nothing(mapper, table, 100)


@settings(max_examples=20)
@given(st.lists(st.none() | st.sampled_from([1, 2**53 + 1, 2**62, -5]), min_size=1, max_size=6))
def test_sums_with_a_default_of_another_type(numbers: list[int | None]) -> None:
    table = pa.table({"id": ["user-1"] * len(numbers), "n": pa.array(numbers, pa.int64())})
    properties = {"$add": {"n": {"column": "n", "default": 0.5}}}
    assert_merging_changes_nothing(mapper_of({"user_id": "id", "user_properties": properties}), table, 100)


def test_what_fits_is_merged() -> None:
    """Else all of the above would hold for sending every row by itself."""
    table = pa.table({"id": ["user-1"] * 9, "n": [2**61] * 4 + [1] * 5})
    mapper = mapper_of({"user_id": "id", "user_properties": {"$add": {"n": "n"}}})
    sums = [one["user_properties"]["$add"]["n"] for one in assert_merging_changes_nothing(mapper, table, 100)]
    assert sums == [3 * 2**61, 2**61 + 5]


def test_a_share_depends_on_the_number_not_on_its_type() -> None:
    def shares(kind: pa.DataType) -> list[int]:
        numbers = pa.array([1, None, 100]).cast(kind)
        added = pa.StructArray.from_arrays([numbers], names=["n"])
        properties = pa.StructArray.from_arrays([added], names=["$add"])
        found = merge_shares(pa.record_batch([properties], names=["user_properties"]))
        assert found is not None
        return [int(share) for share in found[:, 0]]

    assert shares(pa.int8()) == shares(pa.int64()) == shares(pa.uint64())
    assert 0 < shares(pa.int64())[2] < WHOLE_SHARE


def test_a_list_s_share_is_that_of_its_strings_however_they_are_written() -> None:
    """Marked as any JSON, or as plain strings: else a chunk would end where a batch has other types."""

    def shares(properties: object, values: pa.Array) -> list[int]:
        mapper = mapper_of({"user_id": "id", "user_properties": {"$append": {"list": properties}}})
        (mapped,) = mapped_of(mapper, pa.table({"id": ["user-1", "user-2"], "v": values}))
        found = merge_shares(mapped.identifications)
        assert found is not None
        return [int(share) for share in found[:, 0]]

    plain = shares("v", pa.array([["ä", "b"], ["c\x00"]]))
    assert plain == shares({"column": "v", "type": "json"}, pa.array(['["ä","b",5]', '["c\\u0000",{"a":1}]']))
    assert plain == [3 * WHOLE_SHARE // 1024, 2 * WHOLE_SHARE // 1024]


@pytest.mark.parametrize("operator", LIST_OPERATORS)
def test_a_batch_whose_json_has_no_list(operator: str) -> None:
    """A part of objects that no row of a batch has: its column is one of lists all the same."""
    column = {"tags": {"column": "doc", "path": "tags"}}
    mapper = mapper_of({"user_id": "id", "user_properties": {operator: column}})
    docs = ['{"other":1}', None, "{}", '{"tags":["a",1]}']
    rows = pa.table({"id": ["user-1", "user-2", "user-1", "user-1"], "doc": json_column(docs)})
    assert [one["user_properties"] for one in sent(mapped_of(mapper, rows, {3}), 10)] == [
        {operator: {"tags": ["a", 1]}}
    ]
