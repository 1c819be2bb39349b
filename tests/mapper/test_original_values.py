"""The original values of rejected rows: JSON that can be fixed and run again."""

from __future__ import annotations

import datetime as dt

import numpy as np
import orjson
import pyarrow as pa

from etl.arrow.originals import original_values
from tests.examples import each_row
from tests.mapper.arrow_samples import ARROW_SAMPLES
from tests.mapper.mapping import batch_of


def test_values_are_those_of_the_source() -> None:
    rows = batch_of(
        {
            "a": pa.array(["x", None, " y"]),
            "b": pa.array([1, 2, None]),
            "c": pa.array([float("nan"), float("inf"), 0.5]),
            "d": pa.array([dt.datetime(2024, 1, 2, 3, 4, 5, 6)] * 3),
            "e": pa.array([b"\xff", b"ok", None]),
        }
    ).rows
    texts = original_values(rows, np.array([0, 2]))
    assert [orjson.loads(text) for text in texts] == [
        {"a": "x", "b": 1, "c": None, "d": "2024-01-02T03:04:05.000006", "e": "\\xff"},
        {"a": " y", "b": None, "c": 0.5, "d": "2024-01-02T03:04:05.000006", "e": None},
    ]
    assert orjson.loads(original_values(rows, [1])[0])["c"] == "inf"


def test_empty_fields_of_text_are_null_unless_they_are_values() -> None:
    rows = batch_of({"a": pa.array(["", "x"]), "b": pa.array(["", ""])}).rows
    assert original_values(rows, [0, 1]) == ['{"a":"","b":""}', '{"a":"x","b":""}']
    assert original_values(rows, [0, 1], text=True) == ['{"a":null,"b":null}', '{"a":"x","b":null}']
    assert original_values(rows, [0], text=True, keep_empty={"b"}) == ['{"a":null,"b":""}']


@each_row("kind", ARROW_SAMPLES)
def test_no_kind_of_array_fails(kind: str) -> None:
    array, _ = ARROW_SAMPLES[kind]
    rows = batch_of({"u": pa.array(["user"] * len(array)), "v": array}).rows
    texts = original_values(rows, np.arange(len(array)))
    assert [orjson.loads(text)["u"] for text in texts] == ["user"] * len(array)
    assert all("\n" not in text for text in texts)
    assert texts == [original_values(rows, [at])[0] for at in range(len(array))]


def test_a_row_is_shown_as_it_is_beside_any_others() -> None:
    """How long a reject is decides where a chunk ends, so it must not depend on what was read with it."""
    rows = batch_of({"a": pa.array([0.5, float("inf"), 1e20, None]), "b": pa.array([1, 2, 3, 4])}).rows
    texts = original_values(rows, [0, 1, 2, 3])
    assert texts == [original_values(rows, [at])[0] for at in range(4)]
    assert [orjson.loads(text)["a"] for text in texts] == [0.5, "inf", 1e20, None]


def test_nothing_is_made_of_no_rows() -> None:
    assert original_values(batch_of({"a": pa.array(["x"])}).rows, []) == []
