"""One array of every kind that Arrow has, each with what a reader of JSON should see of it."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NAN, INF = float("nan"), float("inf")
UNION = [pa.array([1, 2]), pa.array(["a", "b"])]
UUID = pa.array([b"0123456789abcdef", None], pa.binary(16))
NOT_UTF8 = pa.array([b"a\xff", b"z"])


def nested_structs(levels: int) -> pa.Array:
    """One object inside another, so many times."""
    array = pa.array([1])
    for _ in range(levels):
        array = pa.StructArray.from_arrays([array], names=["x"])
    return array


def nested_dicts(levels: int) -> Any:
    return {"x": nested_dicts(levels - 1)} if levels else 1


ARROW_SAMPLES: dict[str, tuple[pa.Array, list[Any]]] = {
    "bool": (pa.array([True, None]), [True, None]),
    "int64": (pa.array([2**63 - 1, None, -5]), [2**63 - 1, None, -5]),
    "uint64": (pa.array([2**64 - 1], pa.uint64()), [2**64 - 1]),
    "float16": (pa.array([1.5, None], pa.float16()), [1.5, None]),
    "float32": (pa.array([0.1, NAN, INF], pa.float32()), [0.1, None, "<not_finite>"]),
    "float64": (pa.array([0.1, None, NAN, -INF]), [0.1, None, None, "<not_finite>"]),
    "decimal128": (pa.array([Decimal("1.50"), None]), [1.5, None]),
    "decimal256": (pa.array([Decimal("1.50")], pa.decimal256(50, 2)), [1.5]),
    "decimal of hundreds": (
        pa.array([Decimal(1500), Decimal(0), None], pa.decimal128(5, -2)),
        [1500, 0, None],
    ),
    "decimal of 76 digits": (pa.array([Decimal(10**75), Decimal(0)], pa.decimal256(38, -38)), [1e75, 0]),
    "decimal of 77 digits": (pa.array([Decimal(10**76), Decimal(0)], pa.decimal256(39, -38)), [1e76, 0]),
    "decimal of thousands": (pa.array([Decimal(1500), Decimal(0)], pa.decimal128(5, -2)), [1500, 0]),
    "list of decimals of thousands": (
        pa.array([[Decimal(0), Decimal(200)]], pa.list_(pa.decimal256(60, -2))),
        [[0, 200]],
    ),
    "decimal beyond 76 digits": (pa.array([Decimal(0), None], pa.decimal256(70, -20)), [0, None]),
    "null": (pa.nulls(2), [None, None]),
    "string": (pa.array(["a", "", "é😀", None]), ["a", "", "é😀", None]),
    "large_string": (pa.array(["a\x00b"], pa.large_string()), ["a\x00b"]),
    "string_view": (pa.array(["a", None], pa.string_view()), ["a", None]),
    "string that is none": (pa.Array.from_buffers(pa.string(), 2, NOT_UTF8.buffers()), ["<bad_text>", "z"]),
    "binary": (NOT_UTF8, ["<bad_text>", "z"]),
    "large_binary": (NOT_UTF8.cast(pa.large_binary()), ["<bad_text>", "z"]),
    "binary_view": (NOT_UTF8.cast(pa.binary_view()), ["<bad_text>", "z"]),
    "fixed_size_binary": (pa.array([b"ab", None], pa.binary(2)), ["ab", None]),
    "date32": (pa.array([dt.date(1960, 1, 2), None]), ["1960-01-02", None]),
    "date32 out of range": (
        pa.array([-800_000, 3_000_000], pa.int32()).cast(pa.date32()),
        ["<bad_date>"] * 2,
    ),
    "date64": (pa.array([dt.date(2020, 1, 1), None], pa.date64()), ["2020-01-01", None]),
    "timestamp[s]": (
        pa.array([253_402_300_799, 10**12], pa.timestamp("s")),
        ["9999-12-31T23:59:59", "<bad_datetime>"],
    ),
    "timestamp[ns]": (pa.array([-1, None], pa.timestamp("ns")), ["1969-12-31T23:59:59", None]),
    "timestamp with a zone": (pa.array([0], pa.timestamp("us", "Europe/Paris")), ["1970-01-01T00:00:00"]),
    "time": (pa.array([1], pa.time64("us")), ["00:00:00.000001"]),
    "duration": (pa.array([90, None], pa.duration("s")), ["PT90S", None]),
    "interval": (pa.array([(1, 2, 3)], pa.month_day_nano_interval()), ["1 mons 2 days 0.000000003 secs"]),
    "list": (pa.array([[1, None], None, []]), [[1], None, []]),
    "list of floats": (pa.array([[1.5, NAN], [INF]]), [[1.5], "<not_finite>"]),
    "list of strings": (pa.array([["a" * 1000, "b" * 25], ["c"]]), ["<too_long>", ["c"]]),
    "large_list": (pa.array([["a"], None], pa.large_list(pa.large_string())), [["a"], None]),
    "fixed_size_list": (pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int32(), 2)), [[1, 2], None, [3, 4]]),
    "list_view": (pa.array([[1, None], None], pa.list_view(pa.int32())), [[1], None]),
    "large_list_view": (pa.array([[1]], pa.large_list_view(pa.int32())), [[1]]),
    "list of lists": (pa.array([[[1]], None, [None], []]), ["<nested_list>", None, [], []]),
    "list of objects": (
        pa.array([[{"a": 1, "b": [dt.datetime(2020, 1, 1)]}, {"a": None, "b": None}]]),
        [[{"a": 1, "b": ["2020-01-01T00:00:00"]}]],
    ),
    "struct": (pa.array([{"a": 1, "b": None}, {"a": None, "b": None}, None]), [{"a": 1}, None, None]),
    "struct of bytes": (pa.array([{"a": b"\xff"}, {"a": b"x"}]), ["<bad_text>", {"a": "x"}]),
    "struct of long text": (pa.array([{"a": "x" * 1025}]), ["<too_long>"]),
    "struct of lists in lists": (pa.array([{"a": [[1]]}]), ["<nested_list>"]),
    "struct without members": (pa.array([{}], pa.struct([])), [None]),
    "struct of 40 levels": (nested_structs(40), [nested_dicts(40)]),
    "struct of 41 levels": (nested_structs(41), ["<too_deep>"]),
    "map": (
        pa.array([[("a", 1), ("b", None)], None, []], pa.map_(pa.string(), pa.int32())),
        [{"a": 1}, None, {}],
    ),
    "map with dates as keys": (
        pa.array([[(dt.date(2020, 1, 1), NAN)]], pa.map_(pa.date32(), pa.float32())),
        [{}],
    ),
    "map with names that are none": (
        pa.array([[(NAN, "a"), (1.0, "b")], [(INF, "a")]], pa.map_(pa.float32(), pa.string())),
        [{"1": "b"}, "<not_finite>"],
    ),
    "map with names that are no text": (
        pa.array([[(b"\xff", 1)], [(b"a", 1)]], pa.map_(pa.binary(), pa.int32())),
        ["<bad_text>", {"a": 1}],
    ),
    "map of maps of maps of nulls": (
        pa.array(
            [[("a", [("b", [(name, None) for name in "cdefgh"])])], None, [("a", [("b", []), ("e", [])])]],
            pa.map_(pa.string(), pa.map_(pa.string(), pa.map_(pa.string(), pa.null()))),
        ),
        [{"a": {"b": {}}}, None, {"a": {"b": {}, "e": {}}}],
    ),
    "struct of a map of fixed-size lists of nulls": (
        pa.array(
            [{"a": [("b", [None, None]), ("c", [None, None])]}, {"a": []}],
            pa.struct({"a": pa.map_(pa.string(), pa.list_(pa.null(), 2))}),
        ),
        [{"a": {"b": [], "c": []}}, {"a": {}}],
    ),
    "dictionary": (
        pa.DictionaryArray.from_arrays(pa.array([1, 0, None]), pa.array(["a", None])),
        [None, "a", None],
    ),
    "run_end_encoded": (pc.run_end_encode(pa.array([1, 1, None])), [1, 1, None]),
    "sparse_union": (pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), UNION), ["1", "b"]),
    "dense_union": (
        pa.UnionArray.from_dense(pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()), UNION),
        ["1", "a"],
    ),
    "uuid": (pa.ExtensionArray.from_storage(pa.uuid(), UUID), ["30313233-3435-3637-3839-616263646566", None]),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(["{}"])), ["{}"]),
    "tensor": (pa.FixedShapeTensorArray.from_numpy_ndarray(np.arange(4).reshape(2, 2)), [[0, 1], [2, 3]]),
}
