"""Dates, time zones, numbers since 1970 and the time of an event, compared with Python's own."""

from __future__ import annotations

import datetime as dt
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl.arrow.json_text import json_column
from etl.job.column_spec import ColumnSpec, Step
from etl.job.identification_spec import Identification
from etl.mapper import Mapper
from tests.examples import each_row, examples
from tests.mapper.mapping import USER, outcomes, reasons, sent, setting, with_users

BERLIN = "Europe/Berlin"
FORMATS = ("%d.%m.%Y", "%Y-%m-%d", "%d/%m/%y")


def formats(*given: str) -> tuple[Step, ...]:
    return (Step("date_format", formats=given),)


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


UTC_NAMES = ["UTC", " UTC", "GMT", " GMT", " utc", "Z", " Z", "+00:00", " +0000"]


def test_utc_by_any_name() -> None:
    for zone in UTC_NAMES:
        texts = [f"2024-01-15 10:30:00{zone}", f"2024-01-15T10:30:00.123{zone}"]
        assert outcomes([*texts], type="datetime") == ["2024-01-15T10:30:00"] * 2
        assert outcomes([*texts], type="datetime", timezone=BERLIN) == ["2024-01-15T10:30:00"] * 2
        assert outcomes([*texts], type="date") == ["2024-01-15"] * 2
        written = formats("%Y-%m-%d %H:%M:%S%z" if zone[0] != " " else "%Y-%m-%d %H:%M:%S %z")
        assert outcomes(texts[:1], transform=written) == ["2024-01-15T10:30:00"]


def test_other_names_of_zones_are_not_taken_for_utc() -> None:
    texts = ["2024-01-15 10:30:00 CET", "2024-01-15 10:30:00 UTC+1", "2024-01-15 UTC"]
    assert outcomes([*texts], type="datetime") == ["<bad_datetime>"] * 3


IN_BERLIN: list[tuple[str, str | None, str | None]] = [
    ("2024-01-15 00:30:00", "2024-01-14T23:30:00", "2024-01-15"),
    ("2024-07-15T00:30", "2024-07-14T22:30:00", "2024-07-15"),
    ("2024-07-15T23:30:00Z", "2024-07-15T23:30:00", "2024-07-16"),
    ("2024-07-15T23:30:00-05:00", "2024-07-16T04:30:00", "2024-07-16"),
    ("2024-07-15", "2024-07-14T22:00:00", "2024-07-15"),
    ("2024-10-27T02:30:00", "2024-10-27T00:30:00", "2024-10-27"),
    ("2024-03-31T02:30:00", "<bad_datetime>", "2024-03-31"),
    ("soon", "<bad_datetime>", "<bad_date>"),
    ("", None, None),
]


def test_times_in_a_zone() -> None:
    for text, moment, day in IN_BERLIN:
        assert outcomes([text], type="datetime", timezone=BERLIN) == [moment], text
        assert outcomes([text], type="date", timezone=BERLIN) == [day], text


@each_row("values", [["2024-03-31 02:30:00"], pa.array([dt.datetime(2024, 3, 31, 2, 30)])])
@each_row("spec", [{"type": "datetime"}, {"transform": formats("%Y-%m-%d %H:%M:%S")}])
def test_the_reason_names_the_zone_in_which_a_time_does_not_exist(values: Any, spec: dict[str, Any]) -> None:
    column = pa.array(values, pa.string()) if isinstance(values, list) else values
    mapped = Mapper(setting(ColumnSpec(column="v", timezone=BERLIN, **spec))).map(with_users(column))
    assert reasons(mapped)[1].endswith("or clocks in Europe/Berlin skip it")


def test_a_day_that_begins_with_a_time_clocks_leave_out() -> None:
    assert outcomes(["2018-11-04"], type="datetime", timezone="America/Sao_Paulo") == ["2018-11-04T03:00:00"]
    assert outcomes(
        ["04.11.2018"],
        transform=formats("%d.%m.%Y", "%d.%m.%Y %H:%M"),
        type="date",
        timezone="America/Sao_Paulo",
    ) == ["2018-11-04"]


@settings(max_examples=examples(200, 20))
@given(
    st.sampled_from([BERLIN, "America/New_York", "Asia/Kolkata", "Pacific/Apia", "UTC"]),
    st.lists(st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2037, 1, 1)), min_size=1, max_size=20),
)
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


@each_row(
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
@each_row("unit", ["s", "ms"])
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


def test_the_smallest_integer_is_no_other_time() -> None:
    smallest = pa.array([-(2**63)])
    found = [outcomes(smallest, type="datetime", unit=unit) for unit in ("s", "ms", "us", "ns")]
    assert found == [*[["<bad_datetime>"]] * 3, ["1677-09-21T00:12:43"]]


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


NOON = 1_714_564_800_000  # 2024-05-01T12:00:00Z


def event_times(values: pa.Array, *, text: bool = False, **spec: Any) -> list[int | str | None]:
    """What each value becomes; None where no time is sent, a reject's code in angle brackets."""
    fields = USER | {"time": ColumnSpec(column="v", **spec), "language": ColumnSpec(constant='"en"')}
    mapped = Mapper(Identification(fields)).map(with_users(values, text=text))
    found: list[int | str | None] = [None] * len(values)
    for place, identification in zip(mapped.kept.tolist(), sent(mapped), strict=True):
        found[place] = identification.get("time")
    for reject in mapped.rejects:
        found[reject.row - 1] = f"<{reject.code}>"
    return found


EVENT_TEXTS: list[tuple[str, int | str | None]] = [
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
]


def test_texts_as_the_time_of_an_event() -> None:
    for text, moment in EVENT_TEXTS:
        assert event_times(pa.array([text]), text=True) == [moment], text
        together = pa.array(["2024-05-01T12:00:00Z", text, None, "1714564800"])
        assert event_times(together) == [NOON, moment, None, NOON], text


EVENT_VALUES: list[tuple[pa.Array, list[int | str | None]]] = [
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
]


def test_other_types_as_the_time_of_an_event() -> None:
    for values, moments in EVENT_VALUES:
        assert event_times(values) == moments


def test_a_job_may_say_how_its_times_are_written() -> None:
    german = pa.array(["01.05.2024 12:00", "", "2024"])
    steps = (Step("date_format", formats=("%d.%m.%Y %H:%M",)),)
    assert event_times(german, text=True, transform=steps) == [NOON, None, "<bad_date>"]
    assert event_times(pa.array(["1714564800", "2024-05-01"]), text=True, type="integer") == [
        NOON,
        "<bad_integer>",
    ]
    assert event_times(pa.array(["1714564800", "2024-05-01"]), text=True, type="date") == [
        "<bad_date>",
        NOON - 12 * 3600 * 1000,
    ]


def test_a_default_stands_for_a_time_that_is_missing() -> None:
    assert event_times(pa.array(["", "1714564800250"]), text=True, default='"2024-05-01T12:00:00"') == [
        NOON,
        NOON + 250,
    ]


def test_a_default_is_in_utc_whatever_the_zone_and_unit_of_the_source() -> None:
    default = '"2024-05-01T12:00:00"'
    for values in (pa.array(["", None]), json_column([None, None])):
        assert event_times(values, text=True, default=default, timezone=BERLIN) == [NOON, NOON]
        assert event_times(values, text=True, default=default, unit="s") == [NOON, NOON]
    nowhere = pa.array(['{"a":null}', "{}"])
    assert event_times(nowhere, text=True, path=("a",), default=default) == [NOON, NOON]


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
    assert event_times(pa.array([moment.isoformat(between)])) == [since // timedelta(milliseconds=1)]
