"""One grammar for dates: a value of the job file means what the same text means in a column."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl.dates import has_time, normalized, read_formats, read_iso, to_local, to_utc
from tests.mapper import reference
from tests.mapper.mapping import outcomes

BERLIN = "Europe/Berlin"
TEXTS = (
    "2024-12-31", "2024-12-31T23:59:59Z", "2024-12-31 23:59", "2024-12-31t23:59:59,5 GMT", "2024-02-29",
    "2024-12-31T23:59:59.999+05:30", "2024-07-15T10:00-0700", "0001-01-01", "9999-12-31T23:59:59",
)  # fmt: skip
NOT_DATES = (
    "", "soon", "2024-02-31", "2023-02-29", "20241231", "2024-W01-1", "31.12.2024", "2024-12-31T24:00",
    "2024-1-2", "0000-01-01", "0001-01-01T00:00+01:00", "9999-12-31T23:59:59-01:00", " 2024-12-31",
    "2024-12-31 10:00 CET",
)  # fmt: skip


def test_a_value_of_the_job_file_is_read_as_in_a_column() -> None:
    for text in TEXTS:
        assert [normalized(text, day=True)] == outcomes([text], type="date")
        assert [normalized(text, day=False)] == outcomes([text], type="datetime")
        seconds, valid = read_iso(pa.array([text]), BERLIN)
        assert valid == [text != "0001-01-01"]  # in Berlin it begins in the year 0
        if valid:
            found = outcomes([text], type="datetime", timezone=BERLIN)
            assert seconds.astype("datetime64[s]").astype(str).tolist() == found


def test_what_is_not_a_date_is_refused() -> None:
    for text in NOT_DATES:
        with pytest.raises(ValueError, match="not a date or time"):
            normalized(text, day=False)
        if reference.date(text) == "<bad_date>":
            with pytest.raises(ValueError, match="not a date or time"):
                normalized(text, day=True)
    assert not read_iso(pa.array(["2024-03-31T02:30:00"]), BERLIN)[1]  # clocks skip it


def test_a_time_of_day_makes_a_format_one_of_times() -> None:
    assert [has_time(one) for one in ("%d.%m.%Y", "%d %b %y", "%%H %Y", "%Y %H", "%Y %p")] == [
        False, False, False, True, True,
    ]  # fmt: skip


def test_nulls_and_no_texts() -> None:
    for texts in (pa.array([None, None], pa.string()), pa.array([], pa.string())):
        for seconds, valid in (
            read_iso(texts),
            read_iso(texts, BERLIN),
            read_formats(texts, ["%Y %b %d"], BERLIN),
        ):
            assert (len(seconds), valid.tolist()) == (len(texts), [False] * len(texts))


@given(st.lists(st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)), min_size=1, max_size=20))
def test_seconds_are_those_of_python(times: list[dt.datetime]) -> None:
    whole = [time.replace(microsecond=0) for time in times]
    seconds, valid = read_iso(pa.array([time.isoformat() for time in whole]))
    assert valid.all()
    assert seconds.astype("datetime64[s]").tolist() == whole


def test_clocks_that_are_put_back_show_a_time_twice() -> None:
    local = np.array([1_729_994_400, 1_729_996_200])  # 2024-10-27 02:00 and 02:30
    seconds, exist = to_utc(local, BERLIN)
    assert exist.all()
    assert to_local(seconds, BERLIN).tolist() == local.tolist()
    assert to_local(seconds + 3600, BERLIN).tolist() == local.tolist()
