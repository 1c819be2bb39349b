"""The time of an event is in milliseconds since 1970, however it was written, or the row is handed back."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.job.spec import ColumnSpec, Identification, Step
from etl.mapper import Mapper
from tests.mapper.mapping import USER, sent, with_users

NOON = 1_714_564_800_000  # 2024-05-01T12:00:00Z


def times(values: pa.Array, *, text: bool = False, **spec: Any) -> list[int | str | None]:
    """What each value becomes; None where no time is sent, a reject's code in angle brackets."""
    fields = USER | {"time": ColumnSpec(column="v", **spec), "language": ColumnSpec(constant='"en"')}
    mapped = Mapper(Identification(fields)).map(with_users(values, text=text))
    found: list[int | str | None] = [None] * len(values)
    for place, identification in zip(mapped.kept.tolist(), sent(mapped), strict=True):
        found[place] = identification.get("time")
    for reject in mapped.rejects:
        found[reject.row - 1] = f"<{reject.code}>"
    return found


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01T12:00:00Z", NOON),
        ("2024-05-01 12:00:00", NOON),
        ("2024-05-01T14:00:00.250+02:00", NOON + 250),
        ("2024-05-01T12:00:00,5Z", NOON + 500),
        ("2024-05-01T12:00:00.123456789Z", NOON + 123),
        ("2024-05-01", NOON - 12 * 3600 * 1000),
        ("1714564800", NOON),
        ("1714564800.25", NOON + 250),
        ("1714564800250", NOON + 250),
        ("1970-01-01", 0),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
        ("", None),
        ("1969-12-31T23:59:59Z", "<bad_datetime>"),
        ("20240501", "<bad_datetime>"),
        ("202405011200", "<bad_datetime>"),
        ("20240501120000", "<bad_datetime>"),
        ("0", "<bad_datetime>"),
        ("-1714564800", "<bad_datetime>"),
        ("9" * 400, "<bad_datetime>"),
        ("noon", "<bad_datetime>"),
    ],
)
def test_texts(text: str, moment: int | str | None) -> None:
    assert times(pa.array([text]), text=True) == [moment]
    assert times(pa.array(["2024-05-01T12:00:00Z", text, None, "1714564800"])) == [NOON, moment, None, NOON]


@pytest.mark.parametrize(
    ("values", "moments"),
    [
        (
            pa.array([1_714_564_800, 1_714_564_800_250, None, 20_240_501]),
            [NOON, NOON + 250, None, "<bad_datetime>"],
        ),
        (pa.array([1_714_564_800.25, float("nan"), float("inf")]), [NOON + 250, None, "<bad_datetime>"]),
        (pa.array([Decimal("1714564800.250"), None]), [NOON + 250, None]),
        (pa.array([date(2024, 5, 1), date(1969, 1, 1)]), [NOON - 12 * 3600 * 1000, "<bad_datetime>"]),
        (pa.array([NOON * 10**6 + 250_999_999], pa.timestamp("ns")), [NOON + 250]),
        (pa.array([NOON // 1000, None], pa.timestamp("s", "Europe/Berlin")), [NOON, None]),
        (pa.array([2**62, -(2**62)], pa.timestamp("s")), ["<bad_datetime>"] * 2),
        (pa.array([True, None]), ["<bad_datetime>", None]),
        (pa.array([[1_714_564_800]]), ["<bad_datetime>"]),
        (pa.nulls(2), [None, None]),
        (pa.array([], pa.string()), []),
    ],
)
def test_other_types(values: pa.Array, moments: list[int | str | None]) -> None:
    assert times(values) == moments


def test_a_job_may_say_how_its_times_are_written() -> None:
    german = pa.array(["01.05.2024 12:00", "", "2024"])
    steps = (Step("date_format", "%d.%m.%Y %H:%M"),)
    assert times(german, text=True, transform=steps) == [NOON, None, "<bad_date>"]
    assert times(pa.array(["1714564800", "2024-05-01"]), text=True, type="integer") == [NOON, "<bad_integer>"]
    assert times(pa.array(["1714564800", "2024-05-01"]), text=True, type="date") == [
        "<bad_date>",
        NOON - 12 * 3600 * 1000,
    ]


def test_a_default_stands_for_a_time_that_is_missing() -> None:
    assert times(pa.array(["", "1714564800250"]), text=True, default='"2024-05-01T12:00:00"') == [
        NOON,
        NOON + 250,
    ]


def test_a_time_alone_is_no_update() -> None:
    fields = USER | {"time": ColumnSpec(column="v")}
    mapped = Mapper(Identification(fields)).map(with_users(pa.array([1_714_564_800])))
    assert (len(mapped.kept), mapped.rejects) == (0, ())


@given(
    st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30)),
    st.integers(-14 * 60, 14 * 60),
    st.sampled_from(["T", " "]),
)
def test_what_python_writes_is_read(naive: datetime, minutes: int, between: str) -> None:
    moment = naive.replace(tzinfo=timezone(timedelta(minutes=minutes)))
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert times(pa.array([moment.isoformat(between)])) == [since // timedelta(milliseconds=1)]
