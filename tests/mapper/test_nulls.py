"""Texts that mean null: the same as nothing, wherever text comes from."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.job.spec import ColumnSpec, Identification
from etl.mapper import Mapper
from tests.mapper.mapping import batch_of, outcomes, reasons, sent

WORDS = ("", "-", "NULL", "\\N", "k.A.")


@pytest.mark.parametrize(
    "type_", [None, "string", "number", "integer", "boolean", "date", "datetime", "list", "json"]
)
@pytest.mark.parametrize("text", ["NULL", " NULL ", "\\N", "-", "\tk.A.", "\u00a0-"])
def test_words_for_null_are_null_under_every_type(type_: str | None, text: str) -> None:
    assert outcomes([text], type=type_, nulls=WORDS) == [None]
    assert outcomes([text], type=type_, nulls=WORDS, default='"x"' if type_ is None else None)[0] in (
        None,
        "x",
    )


def test_other_words_stay_what_they_are() -> None:
    texts = ["null", "NULLS", "K.A.", "--", "x"]
    assert outcomes(texts, nulls=WORDS) == texts


def test_they_are_compared_before_any_step() -> None:
    assert outcomes(["NULL", "free"], nulls=("NULL",), transform=()) == [None, "free"]
    assert outcomes(["null"], nulls=("NULL",)) == ["null"]


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["NULL", "pro"]).dictionary_encode(),
        pa.array(["NULL", "pro"], pa.large_string()),
        pa.array(["NULL", "pro"], pa.string_view()),
        pa.array([b"NULL", b"pro"]),
    ],
    ids=lambda array: str(array.type),
)
def test_text_of_any_kind_is_compared(array: pa.Array) -> None:
    assert outcomes(array, nulls=("NULL",)) == [None, "pro"]


def test_what_is_not_text_is_not_compared() -> None:
    assert outcomes(pa.array([-1, 1]), nulls=("-1",)) == [-1, 1]


def test_empty_text_can_be_a_word_for_null_where_it_is_a_value() -> None:
    assert outcomes(["", " ", "x"], empty="keep") == ["", " ", "x"]
    assert outcomes(["", " ", "x"], empty="keep", nulls=("",)) == [None, None, "x"]
    assert outcomes(pa.array(["", "x"]), nulls=("",)) == [None, "x"]


def test_an_id_that_means_null_is_missing() -> None:
    identification = Identification(
        {"user_id": ColumnSpec(column="u", nulls=("NULL",))},
        operators={"$set": {"p": ColumnSpec(column="v")}},
    )
    rows = batch_of({"u": pa.array(["user-1", " NULL"]), "v": pa.array(["a", "b"])}, text=True)
    mapped = Mapper(identification).map(rows)
    assert [one["user_id"] for one in sent(mapped)] == ["user-1"]
    assert [(reject.row, reject.code) for reject in mapped.rejects] == [(2, "missing_id")]
    assert "there is no user_id" in reasons(mapped)[2]


@given(st.lists(st.sampled_from(["NULL", " NULL", "-", "x", "", "NUL"]) | st.text(max_size=3), min_size=1))
def test_words_for_null_are_what_empty_fields_are(texts: list[str]) -> None:
    emptied = ["" if text.strip() in {"NULL", "-"} else text for text in texts]
    assert outcomes(texts, nulls=("NULL", "-")) == outcomes(emptied)
