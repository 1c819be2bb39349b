"""Values of typed sources keep their types, no kind of array fails, bytes become text, and steps apply."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any, get_args

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.amplitude.requests import STRING_FIELDS
from etl.arrow.originals import original_values
from etl.job.column_spec import ColumnSpec, Step
from etl.job.identification_spec import Identification
from etl.job.scalars import ValueType
from etl.mapper import Mapper
from tests.examples import examples
from tests.mapper.arrow_samples import ARROW_SAMPLES
from tests.mapper.mapping import USER, batch_of, outcomes, sent, with_users

# A reader gives no strings that are none.
KINDS = [kind for kind in ARROW_SAMPLES if kind != "string that is none"]
SPECS = {str(type_): ColumnSpec(column="v", type=type_) for type_ in (None, *get_args(ValueType))}
SINGLE = {name: spec for name, spec in SPECS.items() if name not in {"list", "json"}}
LISTED = {name: SPECS[name] for name in ("None", "number", "list", "json")}
# What holds the values in types of their own, and what holds them as text.
TYPED = Identification(USER, groups=SPECS, operators={"$set": SPECS, "$append": LISTED})
AS_TEXT = Identification({**USER, **dict(zip(STRING_FIELDS, SINGLE.values(), strict=False))})
AS_IDS = [Identification({"device_id": spec}, unset=("x",)) for spec in SINGLE.values()]


@pytest.mark.parametrize("kind", KINDS)
def test_values_keep_their_type_in_slices_too(kind: str) -> None:
    array, expected = ARROW_SAMPLES[kind]
    assert outcomes(array) == expected
    if not pa.types.is_union(array.type):
        array, expected = pa.concat_arrays([array, array]), expected * 2
    assert outcomes(array.slice(1)) == expected[1:]


@pytest.mark.parametrize("kind", KINDS)
def test_no_kind_of_array_fails_anywhere_and_the_type_never_depends_on_the_values(kind: str) -> None:
    whole = with_users(ARROW_SAMPLES[kind][0])
    nothing = with_users(ARROW_SAMPLES[kind][0].slice(0, 0))
    # As an id each kind has a few of the types, in turns; in a soak, all.
    first = KINDS.index(kind) % len(AS_IDS)
    ids = (AS_IDS * 2)[first:][: examples(len(AS_IDS), 2)]
    for identification in (TYPED, AS_TEXT, *ids):
        mapped = Mapper(identification).map(whole)
        rejected = [reject.row for reject in mapped.rejects]
        assert len(mapped.kept) == len(sent(mapped))
        assert len({*(mapped.kept + 1).tolist(), *rejected}) == len(mapped.kept) + len(rejected)
        if identification is TYPED:
            assert Mapper(TYPED).map(nothing).identifications.schema == mapped.identifications.schema


def test_numbers_arrive_digit_by_digit() -> None:
    found: list[Any] = outcomes(pa.array([2**53 + 1, -(2**63)]))
    assert found == [2**53 + 1, -(2**63)]


HEX, UUID = (Step("hex"),), (Step("uuid"),)
BYTES = [bytes.fromhex("0f8fad5bd9cb469fa16570867728950e"), None, b"\x00" * 15 + b"\xff"]
DIGITS = ["0f8fad5bd9cb469fa16570867728950e", None, "000000000000000000000000000000ff"]
UUIDS = ["0f8fad5b-d9cb-469f-a165-70867728950e", None, "00000000-0000-0000-0000-0000000000ff"]

FIXED = {
    "fixed": pa.array(BYTES, pa.binary(16)),
    "a slice": pa.array([b"x" * 16, *BYTES, b"y" * 16], pa.binary(16)).slice(1, 3),
    "dictionary": pa.array(BYTES, pa.binary(16)).dictionary_encode(),
}
ANY = {
    **FIXED,
    "run ends": pc.run_end_encode(pa.array(BYTES, pa.binary())),
    "binary": pa.array(BYTES, pa.binary()),
    "large": pa.array(BYTES, pa.large_binary()),
    "view": pa.array(BYTES, pa.binary_view()),
    "a slice of binary": pa.array([b"x", *BYTES, None], pa.binary()).slice(1, 3),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(BYTES, pa.binary(16))),
}


def ids(values: pa.Array, steps: tuple[Step, ...] = ()) -> list[str | None]:
    spec = ColumnSpec(column="u", transform=steps)
    job = Identification({"user_id": spec}, operators={"$set": {"p": ColumnSpec(constant='"x"')}})
    mapped = Mapper(job).map(batch_of({"u": values}))
    found: list[str | None] = [None] * len(values)
    for place, one in zip(mapped.kept.tolist(), sent(mapped), strict=True):
        found[place] = one["user_id"]
    return found


def test_ids_of_bytes_of_one_length_are_their_digits() -> None:
    assert [ids(values) for values in FIXED.values()] == [DIGITS] * len(FIXED)


def test_ids_of_arrows_own_type_are_uuids() -> None:
    assert ids(ANY["uuid"]) == UUIDS


def test_texts_that_old_writers_call_binary_stay_texts() -> None:
    assert ids(pa.array([b"user-1", b"user-2"], pa.binary())) == ["user-1", "user-2"]


def test_a_job_says_how_bytes_are_written() -> None:
    for name, values in ANY.items():
        for steps, expected in ((HEX, DIGITS), (UUID, UUIDS)):
            assert ids(values, steps) == expected, name
            assert outcomes(values, transform=steps) == expected, name


def test_later_steps_see_the_text() -> None:
    steps = (*HEX, Step("upper"), Step("prefix", "u-"))
    assert ids(pa.array([b"\xab\xcd"], pa.binary(2)), steps) == ["u-ABCD"]


@given(st.lists(st.none() | st.binary(min_size=1, max_size=40)))
def test_digits_are_those_that_python_writes(values: list[bytes | None]) -> None:
    expected = [None if value is None else value.hex() for value in values]
    assert outcomes(pa.array(values, pa.binary()), transform=HEX) == expected


@given(st.lists(st.none() | st.uuids()))
def test_uuids_are_those_that_python_writes(values: list[uuid.UUID | None]) -> None:
    expected = [None if value is None else str(value) for value in values]
    assert outcomes(pa.array([v and v.bytes for v in values], pa.binary(16)), transform=UUID) == expected
    forms = (str, lambda v: f"{{{v}}}".upper(), lambda v: v.hex, lambda v: v.urn, lambda v: rf"\x{v.hex}")
    texts = [None if value is None else form(value) for form in forms for value in values]
    assert outcomes(texts, transform=UUID) == expected * len(forms)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0F8f", "0f8f"), (r"\x0f8f", "0f8f"), ("0x0F", "0f"), ("0f8", "<bad_bytes>"), ("user", "<bad_bytes>")],
)
def test_text_has_digits_or_is_a_reject(text: str, expected: str) -> None:
    assert outcomes([text], transform=HEX) == [expected]


@pytest.mark.parametrize("value", [b"\xff" * 15, b"\xff" * 17])
def test_a_uuid_has_16_bytes(value: bytes) -> None:
    assert outcomes(pa.array([value], pa.binary()), transform=UUID) == ["<bad_bytes>"]


def test_a_reject_has_the_digits_that_would_have_been_sent() -> None:
    (values,) = original_values(batch_of({"u": FIXED["fixed"]}).rows, [0])
    assert json.loads(values) == {"u": DIGITS[0]}
    assert ids(pa.array([json.loads(values)["u"]])) == DIGITS[:1]


# --- steps: in order, before the type, on the value's text -----------------------------------------------


TRIM, LOWER, UPPER, SHA256 = (Step(word) for word in ("trim", "lower", "upper", "sha256"))


def dated(format_: str, *texts: str | None, **spec: Any) -> list[Any]:
    return outcomes(list(texts), transform=(Step("date_format", formats=(format_,)),), **spec)


STEPS: list[tuple[tuple[Step, ...], str, str | None]] = [
    ((TRIM,), "\u3000 a b\u00a0\n", "a b"),
    ((LOWER,), "ÄB", "äb"),
    ((UPPER,), "äb", "ÄB"),
    ((TRIM, LOWER, SHA256), " A@b.c ", hashlib.sha256(b"a@b.c").hexdigest()),
    ((SHA256,), "é", hashlib.sha256("é".encode()).hexdigest()),
    ((Step("prefix", "crm-"), UPPER), "a", "CRM-A"),
    ((UPPER, Step("prefix", "crm-")), "a", "crm-A"),
    ((Step("replace", pairs=(("a.", "b"), ("b", "c"))),), "a.ab", "cac"),
    ((Step("replace", pairs=(("", "x"), ("a", "b"))),), "a", "b"),
    ((TRIM, SHA256), "  ", None),
    ((Step("replace", pairs=(("-", ""),)), Step("prefix", "p")), "-", None),
]


def test_steps_are_applied_in_order() -> None:
    for steps, text, expected in STEPS:
        assert outcomes([text, None], transform=steps) == [expected, None], steps


def test_the_type_is_read_after_the_steps() -> None:
    steps = (Step("replace", pairs=((",", "."), ("$", ""))), TRIM)
    assert outcomes(["$ 12,5", "x"], transform=steps, type="number") == [12.5, "<bad_number>"]


def test_values_of_typed_sources_are_made_text_first() -> None:
    prefix = (Step("prefix", "n"),)
    assert outcomes(pa.array([17, None]), transform=prefix) == ["n17", None]
    assert outcomes(pa.array([17.0, 0.5, float("nan")]), transform=prefix) == ["n17", "n0.5", None]
    assert outcomes(pa.array([True]), transform=prefix) == ["ntrue"]


FORMATS = [
    ("%m/%d/%Y", "3/8/1971", "1971-03-08"),
    ("%d.%m.%Y", "29.02.2024", "2024-02-29"),
    ("%d.%m.%Y", "30.02.2024", "<bad_date>"),
    ("%d.%m.%Y", "29.02.2024 ", "<bad_date>"),
    ("%d.%m.%Y", "", None),
    ("%d%m%Y", "01022024", "2024-02-01"),
    ("%d/%m/%y", "01/02/68", "2068-02-01"),
    ("%d/%m/%y", "01/02/69", "1969-02-01"),
    ("%d %b %Y", "1 Feb 2024", "2024-02-01"),
    ("%d %b %Y", "1 Foo 2024", "<bad_date>"),
    ("%Y-%m-%d %I:%M %p", "2024-02-01 01:05 PM", "2024-02-01T13:05:00"),
    ("%Y-%m-%dT%H:%M:%S.%f%z", "2024-02-01T00:05:06.789+01:00", "2024-01-31T23:05:06"),
    ("%Y-%m-%d %H:%M", "1969-12-31 23:59", "1969-12-31T23:59:00"),
    ("%Y-%m-%d", "now", "<bad_date>"),
    ("%Y-%m-%d", "0001-01-01", "0001-01-01"),
    ("%A, %d %B %Y %H:%M:%S %z", "Monday, 01 January 0001 00:00:00 +0100", "<bad_date>"),
    ("%d.%m.%Y 100%%", "01.02.2024 100%", "2024-02-01"),
    ("%Y %Y", "2024 2024", "<bad_date>"),
]


def test_dates_are_read_in_the_format_of_the_source() -> None:
    for format_, text, expected in FORMATS:
        assert dated(format_, text, None) == [expected, None], (format_, text)


def test_a_date_format_fits_both_types() -> None:
    assert dated("%d/%m/%Y", "03/08/1971", type="date") == ["1971-08-03"]
    assert dated("%d/%m/%Y", "03/08/1971", type="datetime") == ["1971-08-03T00:00:00"]
    assert dated("%d/%m/%Y %H:%M", "03/08/1971 10:11", type="date") == ["1971-08-03"]
    assert dated("%d/%m/%Y", "03/08/1971", type="string") == ["1971-08-03"]


def test_a_step_after_a_date_format_works_on_its_text() -> None:
    steps = (Step("date_format", formats=("%d/%m/%Y",)), Step("prefix", "born "))
    assert outcomes(["03/08/1971"], transform=steps) == ["born 1971-08-03"]
