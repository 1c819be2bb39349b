"""Numbers as people write them, and booleans."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from etl.job.column_spec import ColumnSpec
from etl.mapper import Mapper
from tests.mapper.mapping import outcomes, reasons, setting, with_users

GERMAN: dict[str, Any] = {"type": "number", "decimal": ",", "thousands": ".", "strip": "€ "}
BAD = "<bad_number>"


IN_GERMANY: list[tuple[str, object]] = [
    ("2.015,10 €", 2015.1),
    ("2.015,10\u00a0€", 2015.1),
    ("€ 59,45", 59.45),
    ("59,45", 59.45),
    ("1.234.567", 1234567),
    ("1234567,5", 1234567.5),
    ("-2.015,10 €", -2015.1),
    ("+3", 3),
    (",5", 0.5),
    ("5,", 5),
    ("1,5E3", 1500),
    ("0", 0),
    ("12.5", BAD),
    ("12.50 €", BAD),
    ("1.2345", BAD),
    ("1234.567", BAD),
    ("2,015.10", BAD),
    ("1.234,5,6", BAD),
    (".123", BAD),
    ("1..234", BAD),
    ("€ -5 $", BAD),
    ("5 EUR", BAD),
    ("5-", BAD),
    ("nan", BAD),
    ("1e400", "<not_finite>"),
    ("", None),
    (" € ", None),
]


def test_as_in_germany() -> None:
    for text, number in IN_GERMANY:
        assert outcomes([text], **GERMAN) == [number], text


IN_OTHER_COUNTRIES: list[tuple[str, dict[str, Any], object]] = [
    ("1,234.50", {"thousands": ","}, 1234.5),
    ("12,5", {"thousands": ","}, BAD),
    ("1 234,5", {"decimal": ",", "thousands": " "}, 1234.5),
    ("1\u202f234,5", {"decimal": ",", "thousands": " "}, 1234.5),
    ("1\u00a0234 567", {"thousands": "\u00a0"}, 1234567),
    ("1'234.5", {"thousands": "'"}, 1234.5),
    ("1\u2019234.5", {"thousands": "'"}, 1234.5),
    ("12 %", {"strip": "% "}, 12),
    ("12 %", {"strip": "%"}, BAD),
    ("CHF 1.5", {"strip": "CHF "}, 1.5),
    ("1·5", {"decimal": "·"}, 1.5),
    ("1,5", {"decimal": ","}, 1.5),
    ("1.5", {"decimal": ","}, BAD),
]


def test_in_other_countries() -> None:
    for text, spec, number in IN_OTHER_COUNTRIES:
        assert outcomes([text], type="number", **spec) == [number], text


WHOLE_NUMBERS: list[tuple[str, object]] = [
    ("1.234", 1234),
    ("1.234,00", 1234),
    ("1.234,", 1234),
    ("1.234,5", "<bad_integer>"),
    ("12.34", "<bad_integer>"),
    ("9.223.372.036.854.775.807", 2**63 - 1),
    ("9.223.372.036.854.775.808", "<bad_integer>"),
    ("1E3", "<bad_integer>"),
]


def test_whole_numbers() -> None:
    for text, number in WHOLE_NUMBERS:
        assert outcomes([text], type="integer", decimal=",", thousands=".") == [number], text


def test_numbers_that_are_no_text_are_what_they_are() -> None:
    assert outcomes(pa.array([1.5, 2.0]), **GERMAN) == [1.5, 2.0]
    assert outcomes(pa.array([1500]), **GERMAN) == [1500]
    assert outcomes(pa.array([Decimal("1.50")]), **GERMAN) == [1.5]


def test_the_reason_names_the_signs() -> None:
    spec = ColumnSpec(column="v", **GERMAN)
    told = reasons(Mapper(setting(spec)).map(with_users(pa.array(["12.5 €"]), text=True)))
    assert told == {
        1: 'column v: "12.5 €" is not a number with `,` before the fraction and `.` between thousands'
    }


@given(
    st.lists(st.decimals(-(10**9), 10**9, places=2, allow_nan=False), min_size=1, max_size=20),
    st.sampled_from([(",", "."), (".", ","), (",", " "), (".", "'"), (",", "")]),
    st.booleans(),
)
def test_whatever_is_written_so_is_read_back(
    numbers: list[Decimal], signs: tuple[str, str], grouped: bool
) -> None:
    decimal, thousands = signs

    def written(number: Decimal) -> str:
        text = f"{number:,.2f}" if grouped and thousands else f"{number:.2f}"
        return text.replace(",", "t").replace(".", decimal).replace("t", thousands) + " kr"

    texts: list[str | None] = [written(number) for number in numbers]
    spec: dict[str, Any] = {"type": "number", "decimal": decimal, "thousands": thousands, "strip": "kr "}
    assert outcomes(texts, **spec) == [float(number) for number in numbers]


@given(st.lists(st.text(alphabet="0123456789.,-+ e", max_size=8), max_size=20))
def test_nothing_else_is_taken_for_a_number(texts: list[str]) -> None:
    """What is read with the signs is what the plain notation has after the signs are exchanged."""
    found = outcomes([*texts], type="number", decimal=",")
    plain = outcomes([text.translate(str.maketrans(",.", ".!")) for text in texts], type="number")
    assert found == plain


# --- booleans and words ----------------------------------------------------------------------------------


def test_words_of_booleans() -> None:
    assert outcomes(["on", "ON", "1.0", "1", "yes", "T"], type="boolean") == [True] * 6
    assert outcomes(["off", "Off", "0.0", "0", "no", "F"], type="boolean") == [False] * 6
    neither = ["Ja", "1.5", "1.", "01", "10", "onn", "-1"]
    assert outcomes([*neither], type="boolean") == ["<bad_boolean>"] * len(neither)
