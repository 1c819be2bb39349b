"""Whatever the values: a column's rules are those of single values, and batches don't matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.errors import SourceError
from etl.job.column_spec import ColumnSpec, Step
from etl.job.identification_spec import Identification
from etl.mapper import Mapper
from etl.model import Batch, Mapped, Reject
from tests.examples import each_row, examples
from tests.mapper import reference
from tests.mapper.mapping import USER, batch_of, outcomes, reasons, sent, setting, with_users

DIGITS = st.text("0123456789+-.eE", max_size=25)
WORDS = st.sampled_from(
    [
        "",
        " ",
        "true",
        "F",
        "yes",
        "0",
        "-1",
        "NaN",
        "inf",
        "null",
        "Anonymous",
        "user-1",
        " abcde ",
        "a" * 1025,
        "b," * 700,
    ]
)
CLOCK = r"[0-2][0-9]:[0-6][0-9](:[0-6][0-9](\.[0-9]{1,3})?)?(Z|[+-][0-2][0-9]:?[0-6][0-9])?"
MOMENTS = st.from_regex(rf"[0-9]{{4}}-[01][0-9]-[0-3][0-9]([T ]{CLOCK})?", fullmatch=True)
DAYS = st.from_regex(r"[0-3]?[0-9]/[01]?[0-9]/[0-9]{4}", fullmatch=True)
ANYTHING = st.text(st.characters(codec="utf-8"), max_size=12)
TEXTS = st.one_of(DIGITS, WORDS, MOMENTS, DAYS, ANYTHING, st.text("a ,\u00a0;", max_size=8))

NUMERIC = st.text("0123456789.,eE+-'=", max_size=9)
AROUND = st.sampled_from(["", " ", "\u200b", "\ufeff\t", "\u00ad", "\u2066"])
ID_TEXTS = NUMERIC | st.tuples(AROUND, NUMERIC | WORDS, AROUND, NUMERIC | WORDS).map("".join)

RULES: list[tuple[dict[str, Any], Callable[[str], object]]] = [
    ({}, reference.string),
    ({"type": "number"}, reference.number),
    ({"type": "integer"}, reference.integer),
    ({"type": "boolean"}, reference.boolean),
    ({"type": "date"}, reference.date),
    ({"type": "datetime"}, reference.datetime),
    ({"type": "list"}, reference.list_),
    ({"transform": (Step("trim"), Step("sha256"))}, reference.hashed),
    ({"transform": (Step("date_format", formats=("%d/%m/%Y",)),)}, reference.day_first),
]


@pytest.mark.parametrize(("spec", "rule"), RULES, ids=[rule.__name__ for _, rule in RULES])
@settings(max_examples=examples(40), deadline=None)
@given(texts=st.lists(st.none() | TEXTS, max_size=12))
def test_a_column_is_mapped_as_its_values_one_by_one(
    spec: dict[str, Any], rule: Callable[[str], object], texts: list[str | None]
) -> None:
    if rule is reference.list_:  # arrays are read as such: see test_json_values
        texts = [text for text in texts if not text or not {"[", "{"} & set(text)]
    expected = [rule(text) if text else None for text in texts]
    assert repr(outcomes(texts, **spec)) == repr(expected)


@settings(max_examples=examples(40), deadline=None)
@given(texts=st.lists(TEXTS | ID_TEXTS, max_size=12))
def test_ids_are_checked_as_one_by_one(texts: list[str]) -> None:
    identification = Identification({"user_id": ColumnSpec(column="id")}, unset=("x",))
    mapped = Mapper(identification).map(batch_of({"id": pa.array(texts, pa.string())}, text=True))
    found = dict(zip((mapped.kept + 1).tolist(), (line["user_id"] for line in sent(mapped)), strict=True))
    found.update({reject.row: f"<{reject.code}>" for reject in mapped.rejects})
    short = [text if len(text) <= 1024 else "<long_id>" for text in map(reference.user_id, texts)]
    assert [found[row + 1] for row in range(len(texts))] == short


MIXED = Identification(
    {
        "user_id": ColumnSpec(column="a"),
        "device_id": ColumnSpec(column="b"),
        "country": ColumnSpec(column="c"),
    },
    groups={"g": ColumnSpec(column="c", type="list", separator=";")},
    operators={
        "$set": {
            "n": ColumnSpec(column="b", type="number", null="unset"),
            "j": ColumnSpec(column="c", type="json"),
            "d": ColumnSpec(column="d", default='"none"'),
        },
        "$append": {"l": ColumnSpec(column="d", type="date")},
    },
)


def _part(batch: Batch, start: int, stop: int) -> Batch:
    return Batch(
        batch.source,
        batch.file,
        batch.first + start,
        batch.first + stop,
        batch.numbers[start:stop],
        batch.rows.slice(start, stop - start),
        text=batch.text,
    )


def _summary(*parts: Mapped) -> tuple[list[int], list[Any], list[Any]]:
    numbers = [number for part in parts for number in part.batch.numbers[part.kept].tolist()]
    return (
        numbers,
        [line for part in parts for line in sent(part)],
        [r for part in parts for r in part.rejects],
    )


@settings(max_examples=examples(40), deadline=None)
@given(
    rows=st.lists(st.tuples(WORDS | ANYTHING, WORDS | DIGITS, TEXTS, MOMENTS | WORDS), max_size=10),
    border=st.integers(0, 10),
    text=st.booleans(),
)
def test_every_row_is_in_one_place_wherever_batches_end(
    rows: list[tuple[str, ...]], border: int, *, text: bool
) -> None:
    columns = {name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate("abcd")}
    batch = batch_of(columns, text=text)
    border = min(border, len(rows))
    mapper = Mapper(MIXED)
    whole, left, right = (
        mapper.map(part) for part in (batch, _part(batch, 0, border), _part(batch, border, len(rows)))
    )
    kept, rejected = whole.batch.numbers[whole.kept].tolist(), [reject.row for reject in whole.rejects]
    assert kept == sorted(set(kept))
    assert rejected == sorted(set(rejected))
    assert not set(kept) & set(rejected)
    assert whole.identifications.num_rows == len(kept)
    assert _summary(whole) == _summary(left, right)
    assert whole.identifications.schema == left.identifications.schema == right.identifications.schema


def column(name: str, **spec: Any) -> ColumnSpec:
    return ColumnSpec(column=name, **spec)


def test_keys_stand_in_the_order_of_the_api_and_nulls_are_left_out() -> None:
    identification = Identification(
        fields={
            "paying": column("p"),
            "carrier": column("p"),
            "device_id": column("d"),
            "user_id": column("u"),
        },
        groups={"team": column("t")},
        operators={"$set": {"b": column("p"), "a": column("t")}, "$setOnce": {"c": column("p")}},
        unset=("old", "older"),
        clear_all=True,
    )
    columns = {"u": ["user-1", "user-2"], "d": ["dev-1", ""], "p": ["true", ""], "t": ["x", ""]}
    batch = batch_of({name: pa.array(values) for name, values in columns.items()}, text=True)
    first, second = sent(Mapper(identification).map(batch))
    assert list(first) == ["user_id", "device_id", "carrier", "paying", "groups", "user_properties"]
    assert list(first["user_properties"]) == ["$clearAll", "$unset", "$set", "$setOnce"]
    assert list(first["user_properties"]["$set"].items()) == [("b", "true"), ("a", "x")]
    always = {"$clearAll": "-", "$unset": {"old": "-", "older": "-"}}
    assert second == {"user_id": "user-2", "user_properties": always}


def test_rows_that_say_nothing_are_neither_kept_nor_rejected() -> None:
    mapped = Mapper(setting(column("v"))).map(with_users(pa.array(["a", None, "b"])))
    assert mapped.kept.tolist() == [0, 2]
    assert mapped.rejects == ()
    assert len(sent(mapped)) == 2


def test_a_null_can_unset_the_property() -> None:
    identification = Identification(
        USER,
        operators={"$set": {"p": column("v", null="unset"), "q": column("v", null="unset", default='"d"')}},
        unset=("old",),
    )
    first, second = sent(Mapper(identification).map(with_users(pa.array(["a", ""]), text=True)))
    assert first["user_properties"] == {"$unset": {"old": "-"}, "$set": {"p": "a", "q": "a"}}
    assert second["user_properties"] == {"$unset": {"old": "-", "p": "-"}, "$set": {"q": "d"}}


@each_row(
    ("constant", "expected"),
    [
        ('"crm"', "crm"),
        ("3", 3),
        ("1.5", 1.5),
        ("true", True),
        ('["a", "b"]', ["a", "b"]),
        ('["a", 1]', ["a", 1]),
        ("[]", []),
        ('{"a": [1, "x"], "b": null}', {"a": [1, "x"], "b": None}),
    ],
)
def test_a_constant_is_the_same_for_every_row(constant: str, expected: object) -> None:
    mapped = Mapper(setting(ColumnSpec(constant=constant))).map(with_users(pa.array(["a", None])))
    assert [line["user_properties"]["$set"]["p"] for line in sent(mapped)] == [expected, expected]


@each_row(
    ("values", "spec", "expected"),
    [
        (["a", ""], {"default": '"d"'}, ["a", "d"]),
        (["1", ""], {"type": "number", "default": "0"}, [1.0, 0.0]),
        (["1", ""], {"type": "integer", "default": "0"}, [1, 0]),
        (["1", ""], {"type": "integer", "default": "0.5"}, [1, 0.5]),
        (["yes", ""], {"type": "boolean", "default": "false"}, [True, False]),
        (["2024-01-02", ""], {"type": "date", "default": '"1970-01-01"'}, ["2024-01-02", "1970-01-01"]),
        (["", ""], {"type": "datetime", "default": '"1970-01-01T00:00:00"'}, ["1970-01-01T00:00:00"] * 2),
        (["a,b", ""], {"type": "list", "default": '["c"]'}, [["a", "b"], ["c"]]),
        (['{"a": 1}', ""], {"type": "json", "default": '{"b": 2}'}, [{"a": 1}, {"b": 2}]),
        (["a", ""], {"default": '{"b": [1, "c"]}'}, ["a", {"b": [1, "c"]}]),
        (pa.array([1, None]), {"default": '"none"'}, [1, "none"]),
        (pa.array([True, None]), {"default": "0"}, [True, 0]),
        (pa.array([1.5, None]), {"default": "true"}, [1.5, True]),
        (pa.array([[1], None]), {"default": "[2]"}, [[1], [2]]),
        (pa.array([[1], None]), {"default": '["x"]'}, [[1], ["x"]]),
        (['["a",1]', ""], {"type": "list", "default": '["d",2]'}, [["a", 1], ["d", 2]]),
    ],
)
def test_a_default_stands_for_a_null(values: Any, spec: dict[str, Any], expected: list[Any]) -> None:
    found = outcomes(values, **spec)
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]


def test_a_default_is_text_where_amplitude_takes_only_text() -> None:
    fields = {**USER, "app_version": column("v", default='"none"')}
    found = sent(Mapper(Identification(fields)).map(with_users(pa.array([1.0, None, 2.5]))))
    assert [line["app_version"] for line in found] == ["1", "none", "2.5"]


@pytest.mark.parametrize("operator", ["$append", "$prepend", "$preInsert", "$postInsert", "$remove"])
def test_list_operators_get_lists(operator: str) -> None:
    assert outcomes(["a", ""], operator=operator) == [["a"], None]
    assert outcomes(["a,b", ""], operator=operator, type="list") == [["a", "b"], None]
    assert outcomes(pa.array([[1, None], None]), operator=operator) == [[1], None]
    found = outcomes(['{"a": 1}', '[1, "b"]', "null"], operator=operator, type="json")
    assert found == [[{"a": 1}], [1, "b"], None]
    assert outcomes(["a", ""], operator=operator, default='["d", 1]') == [["a"], ["d", 1]]


def test_groups_are_text_or_lists_of_text() -> None:
    identification = Identification(USER, groups={"g": column("v", type="list")})
    values = pa.array([list(range(10)), list(range(11)), None, [7]])
    mapped = Mapper(identification).map(with_users(values))
    assert [line["groups"] for line in sent(mapped)] == [{"g": [str(n) for n in range(10)]}, {"g": ["7"]}]
    assert reasons(mapped) == {2: "column v: [0,1,2,3,4,5,6,7,8,9,10] has more than 10 group values"}
    single = Identification(USER, groups={"g": column("v")})
    assert [line["groups"]["g"] for line in sent(Mapper(single).map(with_users(pa.array([1.0, 2.5]))))] == [
        "1",
        "2.5",
    ]


def test_the_first_fault_in_the_order_of_the_job_is_the_reason() -> None:
    identification = Identification(
        {"user_id": column("u")},
        operators={"$set": {"a": column("v", type="date"), "b": column("v", type="number")}},
    )
    batch = batch_of(
        {"u": pa.array(["user-1", "", "user-3"]), "v": pa.array(["x", "x", "2024-01-02"])}, text=True
    )
    assert reasons(Mapper(identification).map(batch)) == {
        1: 'column v: "x" is not a date like 2024-12-31',
        2: "column u: there is no user_id",
        3: 'column v: "2024-01-02" is not a number',
    }


def test_a_reason_is_one_short_line() -> None:
    mapped = Mapper(setting(column("v", type="number"))).map(with_users(pa.array(["a\n" * 100])))
    (reason,) = reasons(mapped).values()
    assert reason.isprintable()
    assert len(reason) < 100


def test_rejects_show_the_row_as_it_stood_in_the_source() -> None:
    earlier = Reject("f.csv", 2, "ragged", "3 fields", "{}")
    batch = batch_of(
        {"u": pa.array([" user-1 ", "user-3"]), "v": pa.array(["x", "y"]), "w": pa.array(["", "z"])},
        text=True,
    )
    numbers = batch.numbers.copy()
    numbers[1] = 3
    batch = type(batch)("f.csv", 0, 1, 4, numbers, batch.rows, (earlier,), text=True)
    mapped = Mapper(setting(column("v", type="number"))).map(batch)
    assert mapped.rejects == (
        Reject(
            "f.csv", 1, "bad_number", 'column v: "x" is not a number', '{"u":" user-1 ","v":"x","w":null}'
        ),
        earlier,
        Reject("f.csv", 3, "bad_number", 'column v: "y" is not a number', '{"u":"user-3","v":"y","w":"z"}'),
    )


def test_a_missing_column_is_an_error_of_the_source() -> None:
    with pytest.raises(SourceError, match=r"f\.csv has no column plan\n.*u, v"):
        Mapper(setting(column("plan"))).map(with_users(pa.array(["a"])))


def test_json_values_may_hold_anything_that_json_holds() -> None:
    values = [
        {"a": '"},"user_properties":{"$clearAll":"-"}'},
        "\x00(",
        ")\x00",
        "\\u0000\n\u2028",
        {"\x00": "\\"},
    ]
    assert outcomes([orjson.dumps(value).decode() for value in values], type="json") == values


def test_splicing_is_asked_for_only_where_a_job_can_need_it() -> None:
    def needs(spec: ColumnSpec) -> bool:
        return Mapper(setting(spec)).has_raw_json

    assert needs(column("v", type="json"))
    assert needs(column("v", default="0"))
    assert needs(ColumnSpec(constant="{}"))
    assert needs(column("v", type="list"))
    assert needs(column("v", path=("a",)))
    assert needs(column("v", values=(("a", "1"), ("b", '"x"'))))
    assert not needs(column("v", values=(("a", "1"), ("b", "2"))))
    assert not needs(column("v", type="date"))
    assert not needs(ColumnSpec(constant='"{}"'))
