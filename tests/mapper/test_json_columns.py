"""`path`: the value within an object is mapped as if it stood in a column of its own."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.arrow.json_text import json_column
from etl.errors import SourceError
from etl.job.column_spec import ColumnSpec
from etl.job.identification_spec import Identification
from etl.mapper import Mapper
from tests.mapper.mapping import batch_of, outcomes, sent, setting, with_users

OBJECTS = [{"plan": "pro", "deep": {"x.y": 5}}, {"plan": None}, {}, None, {"plan": "free", "deep": {}}]


def forms(objects: list[Any]) -> list[pa.Array]:
    texts = [None if one is None else json.dumps(one) for one in objects]
    return [
        json_column(texts),
        pa.array(texts, pa.string()),
        pa.array(texts, pa.string()).dictionary_encode(),
    ]


@pytest.mark.parametrize("column", forms(OBJECTS), ids=["ndjson", "text", "dictionary"])
def test_in_json(column: pa.Array) -> None:
    assert outcomes(column, path=("plan",)) == ["pro", None, None, None, "free"]
    assert outcomes(column, path=("deep", "x.y"), type="integer") == [5, None, None, None, None]
    assert outcomes(column, path=("deep",))[0] == {"x.y": 5}
    assert outcomes(column, path=("nowhere", "at", "all")) == [None] * 5


def test_in_structs_and_maps() -> None:
    struct = pa.array([{"a": {"b": 1}}, {"a": None}, None], pa.struct({"a": pa.struct({"b": pa.int32()})}))
    assert outcomes(struct, path=("a", "b")) == [1, None, None]
    maps = pa.array([[("k", 1), ("l", 2)], [], None], pa.map_(pa.string(), pa.int64()))
    assert outcomes(maps, path=("l",)) == [2, None, None]
    mixed = pa.array([{"j": '{"x": {"y": 2}}'}, {"j": ""}], pa.struct({"j": pa.string()}))
    assert outcomes(mixed, path=("j", "x", "y"), type="number") == [2, None]
    times = pa.array([{"t": dt.datetime(2024, 1, 2)}])
    assert outcomes(times, path=("t",), type="date") == ["2024-01-02"]
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef", None], pa.binary(16)))
    maps = pa.MapArray.from_arrays(pa.array([0, 2, 2], pa.int32()), pa.array(["a", "b"]), uuids)
    assert outcomes(maps, path=("a",)) == ["30313233-3435-3637-3839-616263646566", None]


def test_a_part_that_a_struct_lacks_ends_the_run() -> None:
    spec = ColumnSpec(column="v", path=("plam",))
    with pytest.raises(SourceError, match="column v has no part `plam`") as caught:
        Mapper(setting(spec)).map(with_users(pa.array([{"plan": "pro"}])))
    assert caught.value.hint == "its parts are plan"


@pytest.mark.parametrize(
    "column",
    [
        json_column(['"x"', "5", "[1]", '{"a":1}', None]),
        pa.array(["x", "5", "[1]", '{"a":1}', ""]),
        pa.array(["{", "NaN", "true", '{"a":1}', " "]),
    ],
    ids=["ndjson", "text", "broken"],
)
def test_what_is_no_object_is_a_reject(column: pa.Array) -> None:
    assert outcomes(column, path=("a",)) == ["<bad_path>"] * 3 + [1, None]
    assert outcomes(column, path=("a",), invalid="skip") == [None] * 3 + [1, None]
    assert outcomes(pa.array([5, None]), path=("a",)) == ["<bad_path>", None]


def test_words_for_null_stand_for_the_object_and_within_it() -> None:
    column = pa.array(["NULL", '{"a":"NULL"}', '{"a":"x"}'])
    assert outcomes(column, path=("a",), nulls=("NULL",)) == [None, None, "x"]


def test_ids_in_objects() -> None:
    ids = json_column(
        ['{"$oid":"65a0c0ffee0000000000000a"}', '{"$oid":null}', '{"$oid":{"a":1}}', '{"$oid":1.5}']
    )
    identification = Identification(
        {"user_id": ColumnSpec(column="u", path=("$oid",))}, operators={"$set": {"p": ColumnSpec(column="v")}}
    )
    mapped = Mapper(identification).map(batch_of({"u": ids, "v": pa.array(["a", "b", "c", "d"])}))
    assert [one["user_id"] for one in sent(mapped)] == ["65a0c0ffee0000000000000a"]
    assert [reject.code for reject in mapped.rejects] == ["missing_id", "mangled_id", "mangled_id"]


values = (
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=4) | st.floats(-1e6, 1e6)
)


@given(st.lists(values, min_size=1, max_size=12))
def test_as_a_column_of_its_own(found: list[Any]) -> None:
    alone = json_column([None if one is None else json.dumps(one) for one in found])
    specs: list[dict[str, Any]] = [{}, {"type": "string"}]
    for spec in specs:
        expected = outcomes(alone, **spec)
        for column in forms([{"a": {"b": one}} for one in found]):
            assert outcomes(column, path=("a", "b"), **spec) == expected


@given(st.lists(values, min_size=1, max_size=6), st.sampled_from(["value", "list", "time"]))
def test_the_type_of_values_in_text_does_not_depend_on_them(found: list[Any], role: str) -> None:
    operator = "$append" if role == "list" else "$set"
    column = forms([{"a": one} for one in found])[1]
    spec = ColumnSpec(column="v", path=("a",))
    identification = setting(spec, operator)
    schemas = {
        Mapper(identification).map(with_users(column.slice(at, 1))).identifications.schema.to_string()
        for at in range(len(found))
    }
    assert len(schemas) == 1


@pytest.mark.parametrize("default", ['"x"', "5"])
def test_lists_of_several_types_keep_their_elements_beside_a_default(default: str) -> None:
    values = json_column(['["a"]', "[1]", None])
    assert outcomes(values, default=default) == [["a"], [1], json.loads(default)]
