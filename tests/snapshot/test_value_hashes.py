"""Two values have one hash exactly where they are one value in the JSON that is sent, of whatever type."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from etl.arrow.json_text import json_lines, mark_json, splice_json
from etl.snapshot.value_hashes import hash_values
from tests.examples import examples

Column = tuple[pa.DataType, Any]

BORDERS = [0, 1, 49, 127, 2**24 + 1, 2**53, 2**53 + 1, 2**53 + 2, 2**60, 10**18, 2**63 - 1, 2**63, 2**64 - 1]
BORDERS += [2**64 - 2**53 - 1, 1152921504606847000]
INTEGERS = {pa.int8(): 8, pa.int32(): 32, pa.int64(): 64, pa.uint8(): 8, pa.uint64(): 64}
FRACTIONS = ["49", "0.1", "49.99", "-1", "0.1000000000000000055", "9007199254740993", "1000000000000000000"]
DECIMALS = [pa.decimal32(5, 2), pa.decimal128(10, 2), pa.decimal128(38, 19), pa.decimal256(60, 30)]
TEXTS = ["2024-01-15", "2024-01-15T10:30:00", "5", "true", "", "a\x00b", "{}", "größer"]
TEXT_KINDS = [pa.string(), pa.large_string(), pa.string_view()]
MOMENTS = [datetime(2024, 1, 15, 10, 30), datetime(1969, 12, 31, 23, 59, 59), datetime(1, 1, 1)]


def integers(kind: pa.DataType) -> st.SearchStrategy[int]:
    signed = kind in {pa.int8(), pa.int32(), pa.int64()}
    bits = INTEGERS[kind] - signed
    low = -(2**bits) if signed else 0
    near = [n for border in BORDERS for n in (border, -border) if low <= n < 2**bits]
    return st.sampled_from(near) | st.integers(low, 2**bits - 1)


@st.composite
def scalars(draw: st.DrawFn) -> Column:
    """A type, and a value of it."""
    kind = draw(
        st.sampled_from(["integer", "double", "single", "decimal", "boolean", "text", "moment", "rare"])
    )
    if kind == "integer":
        own = draw(st.sampled_from(sorted(INTEGERS, key=str)))
        return own, draw(integers(own))
    if kind == "double":
        near = st.sampled_from([49.0, 0.1, 49.99, 2.0**60, 1e18, -0.0, 2.0**53 + 2])
        return pa.float64(), draw(near | st.floats(allow_nan=False, allow_infinity=False))
    if kind == "single":
        near = st.sampled_from([float(np.float32(value)) for value in (49, 0.1, 49.99, 1e20)])
        return pa.float32(), draw(near | st.floats(width=32, allow_nan=False, allow_infinity=False))
    if kind == "decimal":
        return draw(st.sampled_from(DECIMALS)), Decimal(draw(st.sampled_from(FRACTIONS)))
    if kind == "boolean":
        return pa.bool_(), draw(st.booleans())
    if kind == "text":
        texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
        return draw(st.sampled_from(TEXT_KINDS)), draw(st.sampled_from(TEXTS) | texts)
    if kind == "moment":
        unit, zone = draw(st.sampled_from(["s", "ms", "us"])), draw(st.sampled_from([None, "UTC"]))
        moment = draw(st.sampled_from(MOMENTS))
        return pa.timestamp(unit, zone), moment.replace(tzinfo=UTC) if zone else moment
    days: list[Column] = [
        (pa.date32(), date(2024, 1, 15)),
        (pa.date64(), date(2024, 1, 15)),
        (pa.date32(), date(1, 1, 1)),
    ]
    rest: list[Column] = [(pa.time32("s"), 1), (pa.duration("s"), 5), (pa.binary(), b"ab")]
    own, value = draw(st.sampled_from(days + rest))
    return own, value


@st.composite
def values(draw: st.DrawFn, depth: int = 0) -> Column:
    """The same, also of lists, objects and maps of such."""
    kind, value = draw(scalars())
    match draw(st.sampled_from(["", "", "list", "object", "map", "within"])) if depth < 2 else "":
        case "list":
            lists = [pa.list_(kind), pa.large_list(kind), pa.list_view(kind)]
            elements = st.sampled_from([[], [value], [value, value], [None, value], [value, None]])
            return draw(st.sampled_from(lists)), draw(elements)
        case "object":
            other, second = draw(values(depth + 1))
            names = draw(st.permutations(["a", "b"]))
            members = {names[0]: draw(st.sampled_from([value, None])), names[1]: second}
            return pa.struct([(names[0], kind), (names[1], other)]), members
        case "map":
            members = draw(st.sampled_from([[], [("a", value)], [("a", value), ("b", None)]]))
            return pa.map_(pa.string(), kind), members
        case "within":
            inner, value = draw(values(depth + 1))
            return pa.struct([("a", inner)]), {"a": value}
        case _:
            return kind, value


def line_of(column: pa.Array) -> str:
    """The JSON that is sent of a column's only value."""
    (line,) = json_lines(pa.RecordBatch.from_arrays([column], names=["v"])).splitlines()
    return line.decode()


def meaning(value: Any) -> Any:
    """What a JSON value is: numbers by their digits, objects without order and without what is null."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, Decimal):
        with localcontext() as context:
            context.prec = 400
            return ("number", value + 0)
    if isinstance(value, list):
        return ("list", tuple(map(meaning, value)))
    if isinstance(value, dict):
        return (
            "object",
            frozenset((k, meaning(member)) for k, member in value.items() if member is not None),
        )
    return (type(value).__name__, value)


def meaning_of(line: str) -> Any:
    return meaning(json.loads(line, parse_int=Decimal, parse_float=Decimal).get("v"))


def array_of(kind: pa.DataType, value: Any) -> pa.Array:
    try:
        return pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        assume(False)
        raise


HASHES: dict[Any, int] = {}
MEANINGS: dict[int, Any] = {}


@settings(max_examples=examples(300))
@given(values())
def test_a_hash_stands_for_one_meaning_and_a_meaning_for_one_hash(column: Column) -> None:
    """Every example is compared with all before it."""
    array = array_of(*column)
    means = meaning_of(line_of(array))
    hashed = int(hash_values(array, 7)[0])
    assert HASHES.setdefault(means, hashed) == hashed
    assert MEANINGS.setdefault(hashed, means) == means
    # Wherever it stands, and however it is encoded.
    assert int(hash_values(pa.concat_arrays([array, array]).slice(1), 7)[0]) == hashed
    coded = pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), array)
    assert int(hash_values(coded, 7)[0]) == hashed


NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.booleans() | NUMBERS | st.sampled_from(TEXTS),
    lambda inner: st.lists(st.none() | inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner),
    max_leaves=6,
)


@settings(max_examples=examples(150))
@given(JSON)
def test_so_does_that_of_a_json_value_from_a_column_of_texts(value: Any) -> None:
    text = json.dumps(value)
    marked = mark_json(pa.array([text]))
    hashed = int(hash_values(marked, 7, splice_json)[0])
    means = meaning_of(f'{{"v":{text}}}')
    assert HASHES.setdefault(means, hashed) == hashed
    assert MEANINGS.setdefault(hashed, means) == means


# If one of these changes, so must the version in `snapshot_metadata`: all users would count as changed.
GOLDEN: list[tuple[list[Any], pa.DataType, list[int]]] = [
    (["a", "ä"], pa.string(), [0x767AF53B69E26B18, 0xEF539F3C700AFAFD]),
    ([5, -1, 2**60], pa.int64(), [0xD377FD826AAC4601, 0xDE9E56EC4F084601, 0x2F9E38CCCE11A22F]),
    ([0.1, -0.0], pa.float64(), [0x7AA9F2318F1F18B1, 0xC4B0AA2063584601]),
    ([0.1], pa.float32(), [0x7AA9F2318F1F18B1]),
    ([True], pa.bool_(), [0x7B2425B2D49BFBB6]),
    ([Decimal("1.10")], pa.decimal128(5, 2), [0xE5B7940FAFB718B1]),
    ([date(2024, 1, 15)], pa.date32(), [0x2A88C1DDC1105569]),
    ([datetime(2024, 1, 15, 10, 30)], pa.timestamp("s"), [0xE171E8DA9B279FEB]),
    ([["a", "b"], []], pa.list_(pa.string()), [0xF9593D11EC97F739, 0xA2E6EA241CCB26F4]),
    ([{"a": 1, "b": None}], pa.struct([("a", pa.int64()), ("b", pa.int64())]), [0xE89506FB3D46B6EE]),
    ([[("a", 1)]], pa.map_(pa.string(), pa.int64()), [0xE89506FB3D46B6EE]),
]


@pytest.mark.parametrize(("own", "kind", "hashed"), GOLDEN, ids=[str(kind) for _, kind, _ in GOLDEN])
def test_a_hash_is_what_it_was(own: list[Any], kind: pa.DataType, hashed: list[int]) -> None:
    assert hash_values(pa.array(own, kind), 7).tolist() == hashed
