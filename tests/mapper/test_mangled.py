"""Ids that were spoilt on their way never become users, unless a job says so."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from etl.arrow.json_type import json_column
from etl.job.spec import ColumnSpec, Identification, Step
from etl.mapper import Mapper
from tests.mapper.mapping import batch_of, reasons, sent
from tests.mapper.test_ids import ids_of

NUMBERS = [
    "1.5E+14", "2.75e+09", "-4.2E+11", "+1.5E10", "3E+15", "7e5", "1,25E+12", "4.E3", ".5e-7", "12345E+4",
    "-12345e10", "250000.0", "250000.", "250000,0", "-3.25", "+3.25", ".75", "1,5", "12,345", "1,234,567",
    "1,234.50", "1.234.567,89", "0.00012", "100000.0000000000", "12345.6789012345678901",
]  # fmt: skip
SHEETS = ["'00123456", '="00123456"', "=00123456", "'abcdef", '=T("00123")']
UNSEEN = ["user\u200b-1", "user\ufeff-1", "us\u2060er-1", "us\u00ader-1", "user\u202e-1", "us\ter1",
          "us\ner1", "us\x00er", "user\x7f-1", "user\x85-1", "user\u2028-1"]  # fmt: skip
SOUND = [
    "123456", "00123456", "+491701234567", "-123456", "0x1F4A2", "1.2.3", "12.34.56.78", "1.234.567",
    "2024-01-01", "ada.lovelace", "ada@example.com", "O'Brien", "12345e10", "00000e12", "1e2345", "5f3e8a12",
    "123e4567", "123e4567-e89b-12d3-a456-426614174000", "1033501218.1368477899", "12,34,56", "1.5kg-box",
    "12 345",
    "a=00123", "1e5-7", "e12345", "12345e", "1_000_000", "١٢٣.٤٥", "user\u200d-1", "1,2345,678",
]  # fmt: skip


@pytest.mark.parametrize("text", [*NUMBERS, *SHEETS, *UNSEEN])
def test_what_was_spoilt_is_a_reject(text: str) -> None:
    assert ids_of(pa.array([f"\ufeff {text}\u00a0", "sound-id"])) == ["<mangled_id>", "sound-id"]


@pytest.mark.parametrize("text", SOUND)
def test_what_only_looks_like_a_number_is_an_id(text: str) -> None:
    assert ids_of(pa.array([f" {text}\u200b"])) == [text]


@pytest.mark.parametrize("text", [*NUMBERS, *SHEETS, *UNSEEN])
def test_a_job_may_keep_them(text: str) -> None:
    assert ids_of(pa.array([f" {text} "]), mangled="keep") == [text if len(text) >= 5 else "<short_id>"]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64(), pa.uint64(), pa.int32(), pa.decimal128(38, 10),
                                  pa.decimal256(60, 2), pa.decimal128(20, 0)])  # fmt: skip
def test_whole_numbers_of_any_type_have_no_fraction(kind: pa.DataType) -> None:
    values = pa.array([100000, 1234567, None]).cast(kind)
    assert ids_of(values) == ["100000", "1234567", "<missing_id>"]
    assert ids_of(values, mangled="keep") == ["100000", "1234567", "<missing_id>"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([2.0**53, 2.0**53 + 2, 1e300, 100000.5]), ["9007199254740992", *["<mangled_id>"] * 3]),
        (pa.array([2.0**24, 2.0**24 + 2, 0.5], pa.float32()), ["16777216", *["<mangled_id>"] * 2]),
        (pa.array([2**64 - 1], pa.uint64()), [str(2**64 - 1)]),
        (pa.array([Decimal("123456.5000000000")], pa.decimal128(38, 10)), ["<mangled_id>"]),
        (pa.array([10**37], pa.decimal128(38, 0)), [str(10**37)]),
        (pa.array([{"$oid": "65a0c0ffee"}, None]), ["<mangled_id>", "<missing_id>"]),
        (pa.array([["user-1"], None]), ["<mangled_id>", "<missing_id>"]),
        (pa.array([float("inf"), float("nan")]), ["<not_finite>", "<missing_id>"]),
    ],
)
def test_typed_ids(values: pa.Array, expected: list[str]) -> None:
    assert ids_of(values) == expected


def test_numbers_of_json_are_numbers_and_its_text_is_text() -> None:
    column = json_column(
        ["100000.0", '"100000.0"', "1e5", '"1e5"', "1.5", "9007199254740993", "18446744073709551616",
         "1e30", '{"$oid": "x"}', '["user-1"]', '[1, "x"]', None]
    )  # fmt: skip
    found = ids_of(column)
    assert found == [
        "100000", "<mangled_id>", "100000", "<mangled_id>", "<mangled_id>", "9007199254740993",
        "18446744073709551616", *["<mangled_id>"] * 4, "<missing_id>",
    ]  # fmt: skip
    assert ids_of(column, mangled="keep")[:2] == ["100000", "100000.0"]


def test_a_device_id_is_an_id() -> None:
    mapper = Mapper(Identification({"device_id": ColumnSpec(column="id")}, unset=("x",)))
    mapped = mapper.map(batch_of({"id": pa.array(["1.5E+14", "device-1"])}))
    assert [line["device_id"] for line in sent(mapped)] == ["device-1"]
    assert [reject.code for reject in mapped.rejects] == ["mangled_id"]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([Step("replace", pairs=((".0", ""),))], "250000"),
        ([Step("replace", pairs=((".0", ""),)), Step("prefix", "crm-")], "crm-250000"),
        ([Step("prefix", "crm-")], "<mangled_id>"),
        ([Step("prefix", "crm-"), Step("replace", pairs=((".0", ""),))], "<mangled_id>"),
        ([Step("sha256")], "<mangled_id>"),
        ([Step("lower"), Step("trim")], "<mangled_id>"),
    ],
)
def test_steps_may_set_an_id_right_but_not_hide_what_is_wrong(steps: list[Step], expected: str) -> None:
    assert ids_of(pa.array(["250000.0"]), transform=tuple(steps)) == [expected]


@pytest.mark.parametrize("type_", ["number", "integer"])
def test_a_type_hides_nothing(type_: Any) -> None:
    assert ids_of(pa.array(["1.5E+14", "250000.0", "123456"]), type=type_) == [
        "<mangled_id>", "<mangled_id>", "123456",
    ]  # fmt: skip
    assert ids_of(pa.array([123456.0]), type=type_) == ["123456"]


def test_a_reason_says_what_is_wrong_and_what_to_do() -> None:
    texts = ["1.5E+14", "250000.0", "'0012345", "us\u200ber-1"]
    mapper = Mapper(Identification({"user_id": ColumnSpec(column="id")}, unset=("x",)))
    told = reasons(mapper.map(batch_of({"id": pa.array(texts)})))
    assert "scientific notation" in told[1]
    assert "point or comma" in told[2]
    assert "spreadsheet" in told[3]
    assert 'us\\u200ber-1" has an invisible' in told[4]
    assert all("ids: {mangled: keep}" in told[row] for row in (1, 2, 3))
    assert all(reason.startswith("column id: ") for reason in told.values())


def test_any_uuid_is_an_id() -> None:
    texts = [
        str(uuid.UUID(int=number * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)) for number in range(1, 2000)
    ]
    assert ids_of(pa.array(texts)) == texts
