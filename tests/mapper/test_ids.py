"""Ids: text, trimmed, checked as Amplitude would, and none that was mangled on its way."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.amplitude.requests import REFUSED_IDS
from etl.arrow.json_text import json_column
from etl.job.column_spec import ColumnSpec, Step
from etl.job.identification_spec import Identification
from etl.mapper import Mapper
from etl.mapper.ids import check_ids
from tests.examples import each_row
from tests.mapper.mapping import batch_of, reasons, sent


def ids_of(values: pa.Array, **spec: Any) -> list[str | None]:
    """For each value the user_id that is sent, or the code of the reject."""
    identification = Identification({"user_id": ColumnSpec(column="id", **spec)}, unset=("x",))
    mapped = Mapper(identification).map(batch_of({"id": values}))
    found: list[str | None] = [None] * len(values)
    for place, line in zip(mapped.kept.tolist(), sent(mapped), strict=True):
        found[place] = line["user_id"]
    for reject in mapped.rejects:
        found[reject.row - 1] = f"<{reject.code}>"
    return found


TRIMMED: list[tuple[str | None, str]] = [
    ("  user-1\u00a0\n", "user-1"),
    ("ünï😀1", "ünï😀1"),
    ("abcd", "<short_id>"),
    (" abcd ", "<short_id>"),
    ("😀" * 4, "<short_id>"),
    ("é" * 1024, "é" * 1024),
    ("é" * 1025, "<long_id>"),
    ("", "<missing_id>"),
    (" \t", "<missing_id>"),
    (None, "<missing_id>"),
    ("unknown1", "unknown1"),
]


def test_an_id_is_trimmed_and_measured_in_characters() -> None:
    values, expected = zip(*TRIMMED, strict=True)
    assert ids_of(pa.array(values, pa.string())) == list(expected)


def test_ids_that_stand_for_no_user_are_refused_whatever_their_case() -> None:
    for word in REFUSED_IDS:
        assert ids_of(pa.array([word, word.upper(), f" {word.title()} "])) == ["<refused_id>"] * 3


def test_ids_of_other_types_become_text() -> None:
    assert ids_of(pa.array([12345, None])) == ["12345", "<missing_id>"]
    assert ids_of(pa.array([12345.0, float("nan"), 1.5])) == ["12345", "<missing_id>", "<mangled_id>"]
    assert ids_of(pa.array([b"user-1", b"user-\xff"])) == ["user-1", "<bad_text>"]
    assert ids_of(pa.array(["user-1", None, "user-1"]).dictionary_encode()) == [
        "user-1",
        "<missing_id>",
        "user-1",
    ]
    assert ids_of(pa.array([2**63 - 1]), type="string") == [str(2**63 - 1)]
    one = uuid.uuid4()
    storage = pa.array([one.bytes], pa.binary(16))
    assert ids_of(pa.ExtensionArray.from_storage(pa.uuid(), storage)) == [str(one)]


def test_steps_see_trimmed_ids_and_the_result_is_what_counts() -> None:
    prefix = (Step("prefix", "crm-"),)
    assert ids_of(pa.array(["17", " 17 ", ""]), transform=prefix) == ["crm-17", "crm-17", "<missing_id>"]
    assert ids_of(pa.array([17.0, 18.0]), transform=prefix) == ["crm-17", "crm-18"]


def test_one_id_is_enough_but_a_bad_one_is_not_overlooked() -> None:
    fields = {"user_id": ColumnSpec(column="a"), "device_id": ColumnSpec(column="b")}
    batch = batch_of(
        {
            "a": pa.array(["user-1", None, "", "user-4", "null"]),
            "b": pa.array(["", "dev-2", "", "x", "dev-5"]),
        }
    )
    mapped = Mapper(Identification(fields, unset=("x",))).map(batch)
    unset = {"user_properties": {"$unset": {"x": "-"}}}
    assert sent(mapped) == [{"user_id": "user-1", **unset}, {"device_id": "dev-2", **unset}]
    assert reasons(mapped) == {
        3: "column a and column b: there is no user_id or device_id",
        4: 'column b: device_id "x" has fewer than 5 characters',
        5: 'column a: Amplitude refuses "null" as a user_id: it stands for no user',
    }


NUMBERS = [
    "1.5E+14", "2.75e+09", "-4.2E+11", "+1.5E10", "3E+15", "7e5", "1,25E+12", "4.E3", ".5e-7", "12345E+4",
    "-12345e10", "250000.0", "250000.", "250000,0", "-3.25", "+3.25", ".75", "1,5", "12,345", "1,234,567",
    "1,234.50", "1.234.567,89", "0.00012", "100000.0000000000", "12345.6789012345678901",
]  # fmt: skip
SHEETS = ["'00123456", '="00123456"', "=00123456", "'abcdef", '=T("00123")', "#NAME?", "#VALUE!", "#DIV/0!"]
UNSEEN = ["user\u200b-1", "user\ufeff-1", "us\u2060er-1", "us\u00ader-1", "user\u202e-1", "us\ter1",
          "us\ner1", "us\x00er", "user\x7f-1", "user\x85-1", "user\u2028-1"]  # fmt: skip
SIGNS = ["-----", "#####", "?????", ".....", "*** ***", "_____", "+-----+", "{[()]}"]
LOST = ["M\ufffdller", "\ufffd" * 5]
SOUND = [
    "123456", "00123456", "+491701234567", "-123456", "0x1F4A2", "1.2.3", "12.34.56.78", "1.234.567",
    "2024-01-01", "ada.lovelace", "ada@example.com", "O'Brien", "12345e10", "00000e12", "1e2345", "5f3e8a12",
    "123e4567", "123e4567-e89b-12d3-a456-426614174000", "1033501218.1368477899", "12,34,56", "1.5kg-box",
    "12 345",
    "a=00123", "#12345", "#NAME", "#REF!x",
    "1e5-7", "e12345", "12345e", "1_000_000", "١٢٣.٤٥", "user\u200d-1", "1,2345,678",
    "-----1", "(null)", "😀😀😀😀😀", "ééé--", "--é--",
]  # fmt: skip


def test_what_was_spoilt_is_a_reject() -> None:
    for text in (*NUMBERS, *SHEETS, *UNSEEN, *SIGNS, *LOST):
        found = ids_of(pa.array([f"\ufeff {text}\u00a0", "sound-id"]))
        assert found == ["<mangled_id>", "sound-id"], text


def test_what_only_looks_like_a_number_is_an_id() -> None:
    for text in SOUND:
        assert ids_of(pa.array([f" {text}\u200b"])) == [text]


def test_a_job_may_keep_them() -> None:
    texts = [*NUMBERS, *SHEETS, *UNSEEN, *SIGNS, *LOST]
    expected = [text if len(text) >= 5 else "<short_id>" for text in texts]
    assert ids_of(pa.array([f" {text} " for text in texts]), mangled="keep") == expected


@each_row("kind", [pa.float32(), pa.float64(), pa.uint64(), pa.int32(), pa.decimal128(38, 10),
                                  pa.decimal256(60, 2), pa.decimal128(20, 0)])  # fmt: skip
def test_whole_numbers_of_any_type_have_no_fraction(kind: pa.DataType) -> None:
    values = pa.array([100000, 1234567, None]).cast(kind)
    assert ids_of(values) == ["100000", "1234567", "<missing_id>"]
    assert ids_of(values, mangled="keep") == ["100000", "1234567", "<missing_id>"]


@each_row(
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


@each_row(
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


@pytest.mark.parametrize(
    ("format_", "expected"), [("%d.%m.%Y", "2024-12-31"), ("%d.%m.%Y %H:%M", "<bad_date>")]
)
def test_a_date_may_be_an_id(format_: str, expected: str) -> None:
    steps = (Step("date_format", formats=(format_,)),)
    assert ids_of(pa.array(["31.12.2024"]), transform=steps) == [expected]


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


@given(
    st.lists(
        st.text("anouskwNULKOW0-1{}/é\u212a", max_size=10) | st.sampled_from(sorted(REFUSED_IDS)) | st.none()
    )
)
def test_what_is_refused_depends_on_no_other_id(texts: list[str | None]) -> None:
    # An id outside ASCII makes it look at all of them.
    alone, beside = (
        check_ids(pa.array([*texts, other], pa.string()), "user_id") for other in ("user-1", "größer")
    )
    assert [(one.code, one.rows.tolist()) for one in alone.issues] == [
        (one.code, one.rows.tolist()) for one in beside.issues
    ]
