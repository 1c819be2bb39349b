"""Fingerprints are the same where the JSON is, and differ where it does."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.arrow.json_text import json_lines, splice_json
from etl.arrow.layout import value_columns
from etl.mapper import Mapper
from etl.model import Batch
from etl.snapshot import FieldGroup, fingerprints_of, layout_of
from etl.snapshot.value_hashes import hash_values
from tests.examples import examples
from tests.snapshot.builders import job_of, layout_for, mapped_of

PLAN = job_of({"user_id": "id", "user_properties": {"plan": "plan"}})
BY_USER = job_of({"user_id": "id", "user_properties": {"plan": "plan"}}, changes="user")
BOTH = pytest.mark.parametrize("job", [PLAN, BY_USER], ids=["property", "user"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def prints_for(job: Any, values: list[Any], kind: pa.DataType | None = None) -> list[int]:
    """The fingerprint of `plan` for each value, all of one user; fails where a row says nothing."""
    column = pa.array(values, kind)
    schema = pa.schema([("id", pa.string()), ("plan", column.type)])
    rows = pa.RecordBatch.from_arrays([pa.array(["user-1"] * len(values)), column], schema=schema)
    mapper = Mapper(job.identification)
    mapped = mapper.map(Batch("x", 0, 1, len(values) + 1, np.arange(len(values)), rows))
    assert not mapped.rejects
    assert len(mapped.kept) == len(values)
    found: list[int] = fingerprints_of(mapped.identifications, layout_for(job), splice_json)[:, 0].tolist()
    return found


COLUMNS: list[tuple[list[Any], pa.DataType]] = [
    (["", "a", "b", "5", "true", "null", "{}", "a\x00b", "a\x00", "ä", "long" * 100], pa.string()),
    ([0, 1, -1, 5, 2**31 - 1, -(2**31), 256, 65536], pa.int32()),
    ([2**53, 2**53 + 1, 2**53 + 2, 2**62, 2**62 + 1, -(2**53), -(2**53) - 1, -(2**62), 7], pa.int64()),
    ([0, 1, 2**53 + 1, 2**63, 2**64 - 1], pa.uint64()),
    ([0.0, 0.5, -0.5, 1e300, 5e-324, 2.0**60, 0.1, 0.30000000000000004, 0.3], pa.float64()),
    ([True, False], pa.bool_()),
    ([date(2024, 1, 1), date(2024, 1, 2), date(1969, 12, 31)], pa.date32()),
    ([datetime(2024, 1, 1, 1, 1, n, tzinfo=UTC) for n in range(3)], pa.timestamp("us", "UTC")),
    ([["a"], ["b"], ["a", "b"], ["b", "a"], ["a", "a"], [], ["ab"], ["", "ab"], [""]], pa.list_(pa.string())),
    ([[1], [2], [1, 2], [2, 1], [1, 1, 1], [12], [0], [0, 0], []], pa.list_(pa.int64())),
    ([[True], [False], [True, False]], pa.large_list(pa.bool_())),
    ([{"a": 1}, {"a": 2}, {"b": 1}, {"a": 1, "b": 1}], pa.struct([("a", pa.int64()), ("b", pa.int64())])),
    ([[{"a": 1}], [{"a": 2}], [{"a": 1}, {"a": 2}]], pa.list_(pa.struct([("a", pa.int64())]))),
    ([Decimal("1.10"), Decimal("1.20"), Decimal("-1.10")], pa.decimal128(5, 2)),
    ([[("a", 1)], [("a", 2)], [("b", 1)]], pa.map_(pa.string(), pa.int64())),
]


@BOTH
@pytest.mark.parametrize(("values", "kind"), COLUMNS, ids=[str(kind) for _, kind in COLUMNS])
def test_different_values_have_different_prints_wherever_they_stand(
    job: Any, values: list[Any], kind: pa.DataType
) -> None:
    fingerprints = prints_for(job, values, kind)
    assert len(set(fingerprints)) == len(values)
    assert prints_for(job, values[::-1], kind) == fingerprints[::-1]
    assert [prints_for(job, [value], kind)[0] for value in values] == fingerprints
    assert 0 not in fingerprints


def test_a_list_is_all_its_elements_in_their_places_and_nulls_are_elements() -> None:
    texts = pa.array([[None], [""], [None, None], [], ["a", None], [None, "a"], None, ["a"]])
    numbers = pa.array([[None], [0], [None, None], [0, 0]], pa.list_(pa.int64()))
    for lists in (texts, numbers):
        hashed = hash_values(lists, 7).tolist()
        assert len(set(hashed)) == len(lists) - lists.null_count
        for start in range(len(lists)):
            assert hash_values(lists.slice(start), 7).tolist() == hashed[start:]


@BOTH
def test_values_of_different_types_differ(job: Any) -> None:
    kinds: list[tuple[list[Any], pa.DataType]] = [
        ([5], pa.int64()),
        (["5"], pa.string()),
        ([[5]], pa.list_(pa.int64())),
        ([["5"]], None),
    ]
    kinds += [([True], pa.bool_()), (["true"], pa.string()), ([1], pa.int64()), (['{"a":5}'], pa.string())]
    kinds += [([{"a": 5}], pa.struct([("a", pa.int64())])), ([0], pa.int64()), ([False], pa.bool_())]
    fingerprints = [prints_for(job, values, kind)[0] for values, kind in kinds]
    assert len(set(fingerprints)) == len(kinds)


@BOTH
def test_numbers_are_the_same_whatever_the_width_of_their_column(job: Any) -> None:
    kinds = (
        pa.int8(),
        pa.int16(),
        pa.int32(),
        pa.int64(),
        pa.uint8(),
        pa.uint64(),
        pa.float32(),
        pa.float64(),
    )
    assert len({prints_for(job, [5], kind)[0] for kind in kinds}) == 1
    assert prints_for(job, [0.0]) == prints_for(job, [-0.0])


@BOTH
def test_texts_are_the_same_whatever_their_column(job: Any) -> None:
    plain = prints_for(job, ["a", "b"], pa.string())
    assert prints_for(job, ["a", "b"], pa.large_string()) == plain
    codes = pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["b", "a"]))
    assert prints_for(job, codes.to_pylist(), codes.type) == plain


@settings(max_examples=examples(50))
@given(st.lists(st.one_of(TEXTS, st.none(), st.lists(TEXTS, max_size=3)), max_size=12), st.data())
def test_prints_are_equal_exactly_where_the_json_is(values: list[Any], data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from([pa.string(), pa.list_(pa.string())]))
    wanted = [value for value in values if value is None or isinstance(value, list) == (kind != pa.string())]
    ids = data.draw(
        st.lists(st.sampled_from(["user-1", "user-2"]), min_size=len(wanted), max_size=len(wanted))
    )
    schema = pa.schema([("id", pa.string()), ("plan", kind), ("country", pa.string())])
    job = job_of({"user_id": "id", "language": "country", "user_properties": {"plan": "plan"}})
    rows = [{"id": own, "plan": value, "country": "x"} for own, value in zip(ids, wanted, strict=True)]
    start = data.draw(st.integers(0, len(rows)))
    (mapped,) = mapped_of(job, rows, schema) if rows else (None,)
    if mapped is None:
        return
    sliced = mapped.identifications.slice(min(start, mapped.identifications.num_rows))
    fingerprints = fingerprints_of(sliced, layout_for(job))[:, 1]
    texts = [
        json.dumps([found["user_id"], found.get("user_properties", {}).get("$set", {}).get("plan")])
        for found in map(json.loads, json_lines(sliced).splitlines())
    ]
    seen: dict[int, str] = {}
    for own, text in zip(fingerprints.tolist(), texts, strict=True):
        assert (own == 0) == text.endswith("null]")
        if own:
            assert seen.setdefault(own, text) == text
    assert len(seen) == len({text for text in texts if not text.endswith("null]")})


def test_another_user_with_the_same_values_has_other_prints() -> None:
    schema = pa.schema([("id", pa.string()), ("device", pa.string()), ("plan", pa.string())])
    rows = [
        {"id": user, "device": device, "plan": "pro"}
        for user in ("aaaaa", None)
        for device in ("aaaaa", "bbbbb")
    ]
    for changes in ("property", "user"):
        job = job_of(
            {"user_id": "id", "device_id": "device", "user_properties": {"plan": "plan"}}, changes=changes
        )
        (mapped,) = mapped_of(job, rows, schema)
        plans = fingerprints_of(mapped.identifications, layout_for(job))[:, 0].tolist()
        # One user on two devices is one user; a device is none, whatever it is called.
        assert plans[0] == plans[1]
        assert len(set(plans)) == 3


def test_a_link_is_that_of_both_ids() -> None:
    job = job_of({"user_id": "id", "device_id": "device", "user_properties": {"plan": "plan"}})
    schema = pa.schema([("id", pa.string()), ("device", pa.string()), ("plan", pa.string())])
    pairs = [("aaaaa", "ddddd"), ("aaaaa", "eeeee"), ("bbbbb", "ddddd"), (None, "ddddd"), ("aaaaa", None)]
    rows = [{"id": user, "device": device, "plan": "pro"} for user, device in pairs]
    (mapped,) = mapped_of(job, rows, schema)
    links = fingerprints_of(mapped.identifications, layout_for(job))[:, -1].tolist()
    assert links[-1] == 0
    assert len(set(links)) == 5


def test_which_fields_of_a_family_are_given_counts() -> None:
    place = {name: name for name in ("country", "region", "city", "dma")}
    job = job_of({"user_id": "id", **place})
    schema = pa.schema([(name, pa.string()) for name in ("id", *place)])
    values: list[tuple[str | None, ...]] = [
        ("a", "b", None, None),
        ("b", "a", None, None),
        ("a", None, "b", None),
        ("a", None, None, None),
    ]
    values += [("a", "b", "b", "b"), (None, "a", "b", None)]
    rows = [{"id": "user-1", **dict(zip(place, some, strict=True))} for some in values]
    (mapped,) = mapped_of(job, rows, schema)
    assert len(np.unique(fingerprints_of(mapped.identifications, layout_for(job)))) == len(values)


def test_unset_is_another_value_than_none_and_than_its_text() -> None:
    job = job_of({"user_id": "id", "user_properties": {"plan": {"column": "plan", "null": "unset"}}})
    texts = prints_for(job, [None, "-", "a"], pa.string())
    assert 0 not in texts
    assert len(set(texts)) == 3


def test_the_place_of_a_value_counts() -> None:
    job = job_of({"user_id": "id", "user_properties": {"a": "plan", "b": "plan"}})
    schema = pa.schema([("id", pa.string()), ("plan", pa.string())])
    (mapped,) = mapped_of(job, [{"id": "user-1", "plan": "x"}], schema)
    assert len(np.unique(fingerprints_of(mapped.identifications, layout_for(job)))) == 2


def test_by_user_nothing_ignored_and_no_order_of_columns_counts() -> None:
    schema = pa.schema([(name, pa.string()) for name in ("id", "a", "b", "c")])
    rows = [{"id": "user-1", "a": "1", "b": "2", "c": "3"}, {"id": "user-1", "a": "1", "b": "2", "c": "4"}]
    found = []
    for properties in (["a", "b", "c"], ["c", "b", "a"]):
        changes = {"by": "user", "ignore": ["c"]}
        job = job_of(
            {"user_id": "id", "user_properties": {name: name for name in properties}}, changes=changes
        )
        (mapped,) = mapped_of(job, rows, schema)
        found += fingerprints_of(mapped.identifications, layout_for(job)).ravel().tolist()
    assert len(set(found)) == 1


_RAW = """
import numpy as np, pyarrow as pa
from etl.snapshot import layout_of, fingerprints_of
from etl.job.spec import Job
from etl.arrow.json_text import splice_json
from etl.mapper import Mapper
from etl.model import Batch
job = Job.of({"name": "t", "source": "x.csv", "identification": {"user_id": "id", "user_properties": {
    "$set": {"raw": {"column": "raw", "type": "json"}},
    "$postInsert": {"list": {"column": "raw", "type": "json"}}}}})
rows = pa.RecordBatch.from_pydict({"id": ["user-1"] * 4, "raw": ['{"a":[1]}', "5", '"5"', '"x\\\\u0000("']})
mapped = Mapper(job.identification).map(Batch("x", 0, 1, 5, np.arange(4), rows))
found = fingerprints_of(mapped.identifications, layout_of(job.identification, job.changes),
splice_json).tolist()
"""


def test_raw_json_has_the_same_fingerprints_in_every_process() -> None:
    # Between the stages it is marked, and the marks are drawn anew by each process.
    command = [sys.executable, "-c", _RAW + "print(found)"]
    other = subprocess.run(command, capture_output=True, check=True)
    here: dict[str, Any] = {}
    exec(_RAW, here)
    assert json.loads(other.stdout) == here["found"]
    assert len({own for row in here["found"] for own in row}) == 8


def test_prints_never_change() -> None:
    """Otherwise an update of propsync would send everyone: these numbers are written down for good."""
    schema = pa.schema(
        [("id", pa.string()), ("plan", pa.string()), ("mrr", pa.float64()), ("ok", pa.bool_())]
    )
    properties = {"plan": "plan", "mrr": "mrr", "ok": "ok"}
    row = {"id": "user-1", "plan": "pro", "mrr": 12.5, "ok": True}
    found = []
    for changes in ("property", "user"):
        job = job_of({"user_id": "id", "user_properties": properties}, changes=changes)
        (mapped,) = mapped_of(job, [row], schema)
        found.append(fingerprints_of(mapped.identifications, layout_for(job))[0].tolist())
    assert found == [[3137533393, 935271354, 1476666545], [16322430169840766101]]


EVERYTHING = {
    "user_id": "id",
    "app_version": "version",
    "country": "country",
    "region": "region",
    "city": {"value": "Zürich"},
    "dma": "dma",
    "groups": {"company": "company"},
    "user_properties": {
        "$set": {"plan": "plan", "seats": {"column": "seats", "null": "unset"}, "a.b": "plan"},
        "$setOnce": {"first_plan": "plan"},
        "$add": {"orders": "orders"},
        "$postInsert": {"tags": "plan"},
        "$unset": ["old"],
    },
}
EVERY_COLUMN = ["id", "version", "country", "region", "dma", "company", "plan", "seats", "orders"]


def names(job_bundles: tuple[FieldGroup, ...]) -> list[str]:
    return [bundle.name for bundle in job_bundles]


def test_a_family_is_one_bundle_and_a_property_is_one_with_its_unsetting() -> None:
    bundles = {bundle.name: bundle for bundle in layout_for(job_of(EVERYTHING)).bundles}
    assert set(bundles) == {
        "app_version",
        "place",
        "groups.company",
        "$set.plan",
        "$set.seats",
        "$set.a.b",
        "$setOnce.first_plan",
        "$add.orders",
        "$postInsert.tags",
        "$unset.old",
    }
    assert set(bundles["place"].paths) == {("country",), ("region",), ("city",), ("dma",)}
    assert set(bundles["$set.seats"].paths) == {
        ("user_properties", "$set", "seats"),
        ("user_properties", "$unset", "seats"),
    }
    assert [name for name, bundle in bundles.items() if bundle.unrepeatable] == ["$add.orders"]


def test_every_value_of_an_identification_is_in_one_bundle() -> None:
    job = job_of(EVERYTHING)
    schema = pa.schema([(name, pa.string()) for name in EVERY_COLUMN])
    row = dict.fromkeys(EVERY_COLUMN, "12345")
    (mapped,) = mapped_of(job, [row | {"orders": 1}], schema.set(8, pa.field("orders", pa.int64())))
    found = [path for path, _ in value_columns(mapped.identifications) if path != ("user_id",)]
    paths = [path for bundle in layout_for(job).bundles for path in bundle.paths]
    assert sorted(paths) == sorted(found)


def test_what_clears_all_properties_makes_them_one_that_can_be_compared() -> None:
    properties = {"$clearAll": True, "$set": {"plan": "plan"}, "$add": {"orders": "orders"}}
    layout = layout_for(job_of({"user_id": "id", "language": "lang", "user_properties": properties}))
    assert names(layout.bundles) == ["language", "user_properties"]
    assert layout.names == ("language", "user_properties")


def test_increments_have_no_fingerprint() -> None:
    properties = {"$set": {"plan": "plan"}, "$add": {"n": "n"}, "$append": {"l": "l"}, "$prepend": {"m": "m"}}
    assert layout_for(job_of({"user_id": "id", "user_properties": properties})).names == ("$set.plan",)


def test_a_device_has_a_fingerprint_where_there_are_both_ids() -> None:
    properties = {"plan": "plan"}
    both = job_of({"user_id": "id", "device_id": "device", "user_properties": properties})
    assert layout_for(both).names == ("$set.plan", "device_id")
    assert layout_for(job_of({"device_id": "device", "user_properties": properties})).names == ("$set.plan",)


@pytest.mark.parametrize(
    ("ignored", "counted"),
    [
        (["seen"], {"place", "$set.plan"}),
        (["country"], {"place", "$set.plan", "$set.seen"}),
        (["country", "region", "dma"], {"place", "$set.plan", "$set.seen"}),
        (["country", "region", "city", "dma"], {"$set.plan", "$set.seen"}),
    ],
)
def test_a_bundle_is_ignored_where_all_its_columns_are(ignored: list[str], counted: set[str]) -> None:
    place = {name: name for name in ("country", "region", "city", "dma")}
    identification = {"user_id": "id", **place, "user_properties": {"plan": "plan", "seen": "seen"}}
    layout = layout_for(job_of(identification, changes={"ignore": ignored}))
    assert {name for name, counts in zip(layout.names, layout.counted, strict=True) if counts} == counted
    assert set(layout.names) == {"place", "$set.plan", "$set.seen"}


def test_a_constant_is_never_ignored() -> None:
    job = job_of(
        {"user_id": "id", "user_properties": {"seen": "seen", "source": {"value": "x"}}},
        changes={"ignore": ["seen"]},
    )
    layout = layout_for(job)
    assert [layout.names[column] for column in np.flatnonzero(layout.counted)] == ["$set.source"]


def test_by_user_there_is_one_fingerprint() -> None:
    layout = layout_for(job_of({"user_id": "id", "user_properties": {"plan": "plan"}}, changes="user"))
    assert (layout.names, layout.dtype.itemsize) == (("fingerprint",), 8)


def test_nothing_is_compared_where_the_job_says_so() -> None:
    job = job_of({"user_id": "id", "user_properties": {"plan": "plan"}}, changes="off")
    assert layout_of(job.identification, job.changes) is None
