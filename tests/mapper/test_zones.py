"""Several date formats, time zones and numbers since 1970, compared with Python's own zones and numbers."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.arrow.json_type import json_column
from etl.job.spec import ColumnSpec, Identification, Step
from etl.mapper import Mapper
from tests.mapper.mapping import USER, outcomes, sent, with_users

BERLIN = "Europe/Berlin"
UTC = dt.UTC
FORMATS = ("%d.%m.%Y", "%Y-%m-%d", "%d/%m/%y")


def formats(*given: str) -> tuple[Step, ...]:
    return (Step("date_format", formats=given) if len(given) > 1 else Step("date_format", given[0]),)


def test_the_first_format_that_fits_counts() -> None:
    texts = ["08.01.2021", "2022-10-22", "05/03/19", "31.02.2021", "soon", "", "8.1.2021"]
    expected = ["2021-01-08", "2022-10-22", "2019-03-05", "<bad_date>", "<bad_date>", None, "2021-01-08"]
    assert outcomes(texts, transform=formats(*FORMATS), type="date") == expected
    assert outcomes(["01/02/2024"], transform=formats("%d/%m/%Y", "%m/%d/%Y")) == ["2024-02-01"]
    assert outcomes(["01/02/2024"], transform=formats("%m/%d/%Y", "%d/%m/%Y")) == ["2024-01-02"]
    assert outcomes(["13/02/2024"], transform=formats("%m/%d/%Y", "%d/%m/%Y")) == ["2024-02-13"]


def test_where_one_format_has_a_time_all_become_times() -> None:
    texts = ["2024-01-15 10:30", "15 Jan 2024"]
    steps = formats("%Y-%m-%d %H:%M", "%d %b %Y")
    assert outcomes(texts, transform=steps) == ["2024-01-15T10:30:00", "2024-01-15T00:00:00"]
    assert outcomes(texts, transform=steps, type="date") == ["2024-01-15", "2024-01-15"]


@given(st.lists(st.dates(dt.date(1970, 1, 1), dt.date(2060, 1, 1)), max_size=20), st.data())
def test_each_text_is_read_as_by_strptime(days: list[dt.date], data: st.DataObject) -> None:
    known = ("%d.%m.%Y", "%Y-%m-%d", "%d/%m/%y", "%d %b %Y", "%m/%d/%y")
    chosen = data.draw(st.permutations(known))[: data.draw(st.integers(1, 5))]
    texts = [day.strftime(data.draw(st.sampled_from(known))) for day in days]

    def by_hand(text: str) -> str:
        for one in chosen:
            try:
                return dt.datetime.strptime(text, one).date().isoformat()
            except ValueError:
                continue
        return "<bad_date>"

    assert outcomes([*texts], transform=formats(*chosen), type="date") == [by_hand(text) for text in texts]


@pytest.mark.parametrize("zone", ["UTC", " UTC", "GMT", " GMT", " utc", "Z", " Z", "+00:00", " +0000"])
def test_utc_by_any_name(zone: str) -> None:
    texts = [f"2024-01-15 10:30:00{zone}", f"2024-01-15T10:30:00.123{zone}"]
    assert outcomes([*texts], type="datetime") == ["2024-01-15T10:30:00"] * 2
    assert outcomes([*texts], type="datetime", timezone=BERLIN) == ["2024-01-15T10:30:00"] * 2
    assert outcomes([*texts], type="date") == ["2024-01-15"] * 2
    written = formats("%Y-%m-%d %H:%M:%S%z" if zone[0] != " " else "%Y-%m-%d %H:%M:%S %z")
    assert outcomes(texts[:1], transform=written) == ["2024-01-15T10:30:00"]


@pytest.mark.parametrize("text", ["2024-01-15 10:30:00 CET", "2024-01-15 10:30:00 UTC+1", "2024-01-15 UTC"])
def test_other_names_of_zones_are_not_taken_for_utc(text: str) -> None:
    assert outcomes([text], type="datetime") == ["<bad_datetime>"]


@pytest.mark.parametrize(
    ("text", "moment", "day"),
    [
        ("2024-01-15 00:30:00", "2024-01-14T23:30:00", "2024-01-15"),
        ("2024-07-15T00:30", "2024-07-14T22:30:00", "2024-07-15"),
        ("2024-07-15T23:30:00Z", "2024-07-15T23:30:00", "2024-07-16"),
        ("2024-07-15T23:30:00-05:00", "2024-07-16T04:30:00", "2024-07-16"),
        ("2024-07-15", "2024-07-14T22:00:00", "2024-07-15"),
        ("2024-10-27T02:30:00", "2024-10-27T00:30:00", "2024-10-27"),
        ("2024-03-31T02:30:00", "<bad_datetime>", "2024-03-31"),
        ("soon", "<bad_datetime>", "<bad_date>"),
        ("", None, None),
    ],
)
def test_times_in_a_zone(text: str, moment: str | None, day: str | None) -> None:
    assert outcomes([text], type="datetime", timezone=BERLIN) == [moment]
    assert outcomes([text], type="date", timezone=BERLIN) == [day]


def test_a_day_that_begins_with_a_time_clocks_leave_out() -> None:
    assert outcomes(["2018-11-04"], type="datetime", timezone="America/Sao_Paulo") == ["2018-11-04T03:00:00"]
    assert outcomes(
        ["04.11.2018"],
        transform=formats("%d.%m.%Y", "%d.%m.%Y %H:%M"),
        type="date",
        timezone="America/Sao_Paulo",
    ) == ["2018-11-04"]


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Asia/Kolkata", "Pacific/Apia", "UTC"])
@given(st.lists(st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2037, 1, 1)), min_size=1, max_size=20))
def test_zones_are_those_of_python(zone: str, times: list[dt.datetime]) -> None:
    there = ZoneInfo(zone)
    whole = [time.replace(microsecond=0) for time in times]
    moments = [time.replace(tzinfo=there).astimezone(UTC) for time in whole]
    real = [
        moment.astimezone(there).replace(tzinfo=None) == time
        for moment, time in zip(moments, whole, strict=True)
    ]
    expected = [
        f"{moment:%Y-%m-%dT%H:%M:%S}"
        if ok or not (time.hour or time.minute or time.second)
        else "<bad_datetime>"
        for moment, time, ok in zip(moments, whole, real, strict=True)
    ]
    texts: list[str | None] = [time.isoformat() for time in whole]
    assert outcomes(texts, type="datetime", timezone=zone) == expected
    assert outcomes(pa.array(whole), type="datetime", timezone=zone) == expected
    step = outcomes(texts, transform=formats("%Y-%m-%dT%H:%M:%S"), type="datetime", timezone=zone)
    assert step == [one.replace("bad_datetime", "bad_date") for one in expected]
    aware = pa.array([time.replace(tzinfo=UTC) for time in whole], pa.timestamp("us", "UTC"))
    days = [time.replace(tzinfo=UTC).astimezone(there).date().isoformat() for time in whole]
    assert outcomes(aware, type="date", timezone=zone) == days
    assert outcomes([f"{text}Z" for text in texts], type="date", timezone=zone) == days
    assert outcomes(pa.array(whole), type="date", timezone=zone) == [
        time.date().isoformat() for time in whole
    ]


# --- numbers since 1970 ----------------------------------------------------------------------------------

MOMENT = "2024-01-15T10:00:00"
SECONDS = 1_705_312_800


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_numbers_of_every_unit_and_type(unit: str, factor: int) -> None:
    count = SECONDS * factor
    for values in (
        [str(count), f"{count}.5", f"+{count}", f"00{count}"],
        pa.array([count]),
        pa.array([count], pa.uint64()),
        pa.array([float(count)]),
        pa.array([Decimal(count)], pa.decimal128(30, 2)),
        json_column([str(count), f'"{count}"', f"{count}.0"]),
    ):
        assert outcomes(values, type="datetime", unit=unit) == [MOMENT] * len(values)
        assert outcomes(values, type="date", unit=unit) == ["2024-01-15"] * len(values)
    late = (SECONDS + 13 * 3600 + 1800) * factor
    assert outcomes([str(late)], type="date", unit=unit, timezone=BERLIN) == ["2024-01-16"]


@pytest.mark.parametrize(
    "text",
    [
        "1.705E+12",
        "soon",
        "2024-01-15",
        "1,5",
        "9" * 19,
        "9" * 30,
        "-99999999999999999",
        "0x10",
        "1 0",
        "--1",
    ],
)
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_what_is_no_such_number(text: str, unit: str) -> None:
    assert outcomes([text], type="datetime", unit=unit) == ["<bad_datetime>"]


@pytest.mark.parametrize(
    "values", [pa.array([True]), pa.array([2**64 - 1], pa.uint64()), pa.array([float("inf")])]
)
def test_values_that_count_nothing(values: pa.Array) -> None:
    assert outcomes(values, type="datetime", unit="ms") == ["<bad_datetime>"]


def test_times_of_the_source_stay_what_they_are() -> None:
    assert outcomes(pa.array([dt.datetime(2024, 1, 15, 10)]), type="datetime", unit="ms") == [MOMENT]
    assert outcomes(pa.array([float("nan"), None]), type="datetime", unit="ms") == [None, None]


@given(st.lists(st.integers(-(2**60), 2**60), max_size=20), st.sampled_from(["s", "ms", "us", "ns"]))
def test_counts_are_floored_to_seconds(counts: list[int], unit: str) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    epoch = dt.datetime(1970, 1, 1)

    def by_hand(count: int) -> str:
        try:
            return (epoch + dt.timedelta(seconds=count // per_second)).isoformat(timespec="seconds")
        except OverflowError:
            return "<bad_datetime>"

    expected = [by_hand(count) for count in counts]
    assert outcomes([str(count) for count in counts], type="datetime", unit=unit) == expected
    assert outcomes(pa.array(counts, pa.int64()), type="datetime", unit=unit) == expected


def test_the_time_of_an_event() -> None:
    def moments(values: Any, **spec: Any) -> list[int]:
        identification = Identification(
            USER | {"time": ColumnSpec(column="v", **spec)}, operators={"$set": {"p": ColumnSpec(column="u")}}
        )
        return [one["time"] for one in sent(Mapper(identification).map(with_users(pa.array(values))))]

    milliseconds = SECONDS * 1000
    assert moments(["2024-01-15 11:00:00.250"], timezone=BERLIN) == [milliseconds + 250]
    assert moments([dt.datetime(2024, 1, 15, 11, 0, 0, 250_000)], timezone=BERLIN) == [milliseconds + 250]
    assert moments([dt.date(2024, 1, 15)], timezone=BERLIN) == [milliseconds - 11 * 3_600_000]
    assert moments([str(SECONDS * 10**6 + 250_999)], unit="us") == [milliseconds + 250]
    assert moments([f"{SECONDS}.2509"], unit="s") == [milliseconds + 250]
    assert moments([SECONDS + 0.29], unit="s") == [milliseconds + 290]
    assert moments(["2024-01-15 10:00:00 UTC"]) == [milliseconds]
    assert moments(["2024-01-15 11:00:00"], timezone=BERLIN, type="datetime") == [milliseconds]
