from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from etl.listeners.display import LogListener
from etl.listeners.summary import summary_dict
from etl.run_events import Ended, Event, Paused, Progressed, Recovered, Warned
from etl.tally import Tally

from .events import HOSTILE, TALLY, TIMING, Clock, started, summary

if TYPE_CHECKING:
    from typing import Literal


class Played:
    """A log listener, its clock, and what it wrote."""

    def __init__(self, log_format: Literal["text", "json"] = "json") -> None:
        self.clock = Clock()
        self.stream = io.StringIO()
        self.tell = LogListener(self.stream, as_json=log_format == "json", clock=self.clock)

    @property
    def lines(self) -> list[str]:
        text = self.stream.getvalue()
        assert text.endswith("\n") or not text
        return text.split("\n")[:-1]

    @property
    def data(self) -> list[dict[str, Any]]:
        return [json.loads(line, parse_constant=pytest.fail) for line in self.lines]

    def events(self) -> list[str]:
        return [line["event"] for line in self.data]


EVERY_EVENT: list[Event] = [
    started(),
    Progressed(TALLY),
    Paused("destination slows us down", 15.0, 0.0),
    Recovered(15.0),
    Warned("both_ids", "the job maps both ids"),
    Ended(summary()),
]


def test_every_line_has_time_level_event_and_job() -> None:
    played = Played()
    for event in EVERY_EVENT:
        played.clock.forward(31)
        played.tell(event)
    assert played.events() == ["started", "progressed", "paused", "recovered", "warned", "ended"]
    for line in played.data:
        assert datetime.fromisoformat(line["time"]).tzname() == "UTC"
        assert line["level"] in {"info", "warning", "error"}
        assert line["job"] == "nightly"


def test_progress_is_told_every_thirty_seconds_however_often_it_comes() -> None:
    played = Played()
    played.tell(started(resumed=Tally(rows=100, accepted=100)))
    for tenth in range(1, 1001):
        played.clock.forward(0.1)
        played.tell(Progressed(Tally(rows=100 + 5 * tenth, accepted=100 + 5 * tenth)))
    told = [line for line in played.data if line["event"] == "progressed"]
    assert len(told) == 3
    assert told[0]["rows_per_second"] == pytest.approx(50.0, rel=0.01)
    assert told[0]["seconds_left"] == pytest.approx((2_000_000 - 1_600) / 50, rel=0.01)
    assert told[0]["total_rows"] == 2_000_000


def test_progress_has_the_summary_s_keys() -> None:
    played = Played()
    played.tell(started())
    played.clock.forward(30)
    played.tell(Progressed(TALLY))
    counts = {key: value for key, value in summary_dict(summary()).items() if isinstance(value, int)}
    del counts["resumed_rows"], counts["exit_code"]
    assert counts.items() <= played.data[-1].items()


def test_an_unknown_total_promises_no_end() -> None:
    played = Played()
    played.tell(started(total_rows=None))
    played.clock.forward(30)
    played.tell(Progressed(TALLY))
    assert played.data[-1]["seconds_left"] is None
    assert played.data[-1]["total_rows"] is None


def test_an_estimate_of_the_total_gives_a_percentage_and_an_end() -> None:
    played = Played()
    played.tell(started(total_rows=None))
    played.clock.forward(50)
    played.tell(Progressed(TALLY, expected_rows=2_000_000))
    assert played.data[-1]["total_rows"] is None
    assert played.data[-1]["expected_rows"] == 2_000_000
    assert played.data[-1]["seconds_left"] == 50.0
    text = Played("text")
    text.tell(started(total_rows=None))
    text.clock.forward(50)
    text.tell(Progressed(TALLY, expected_rows=2_000_000))
    assert "1,000,000 of about 2,000,000 rows (50.0 %), 20,000 rows/s, about 50 s left" in text.lines[-1]


def test_an_outage_is_told_at_once_and_then_once_a_minute() -> None:
    played = Played()
    for second in range(0, 150, 5):
        played.tell(Paused("503", 5.0, float(second)))
        played.clock.forward(5)
    assert [line["outage_seconds"] for line in played.data] == [0.0, 60.0, 120.0]


def test_the_next_outage_is_told_at_once_again() -> None:
    played = Played()
    for _ in range(2):
        played.tell(Paused("503", 1.0, 0.0))
        played.tell(Paused("503", 2.0, 1.0))
        played.clock.forward(3)
        played.tell(Recovered(3.0))
    assert played.events() == ["paused", "recovered"] * 2


def test_the_end_has_the_whole_summary() -> None:
    played = Played()
    played.tell(Ended(summary()))
    assert summary_dict(summary()).items() <= played.data[0].items()


@pytest.mark.parametrize(
    ("status", "rejected", "level"),
    [
        ("finished", 0, "info"),
        ("finished", 1, "warning"),
        ("interrupted", 0, "warning"),
        ("stopped", 0, "error"),
    ],
)
def test_the_level_says_how_it_ended(
    status: Literal["finished", "stopped", "interrupted"], rejected: int, level: str
) -> None:
    played = Played()
    tally = Tally(rows=5, accepted=5 - rejected, rejected=rejected)
    played.tell(Ended(summary(tally=tally, status=status)))
    assert played.data[0]["level"] == level


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_hostile_words_never_make_a_second_line_nor_reach_the_terminal(
    log_format: Literal["text", "json"],
) -> None:
    played = Played(log_format)
    hostile: list[Event] = [
        started(HOSTILE),
        Paused(HOSTILE, 1.0, 0.0),
        Warned(HOSTILE, HOSTILE),
        Ended(summary(HOSTILE, rejects_by_code={HOSTILE: 1})),
    ]
    for event in hostile:
        played.tell(event)
    assert len(played.lines) == len(hostile)
    assert all(line.isprintable() for line in played.lines)
    if log_format == "json":
        assert [line["job"] for line in played.data] == [HOSTILE] * len(hostile)
        assert played.data[2]["message"] == HOSTILE


def test_numbers_without_a_value_are_null() -> None:
    played = Played()
    played.tell(Paused("503", math.inf, math.nan))
    assert played.data[0]["seconds"] is None
    assert played.data[0]["outage_seconds"] is None


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_the_last_line_says_where_the_time_went(log_format: Literal["text", "json"]) -> None:
    played = Played(log_format)
    played.tell(Ended(replace(summary(), timing=TIMING)))
    if log_format == "json":
        assert played.data[-1]["seconds_by"]["rate"] == 610.0
        assert played.data[-1]["answer_seconds"] == {"p50": 0.08, "p95": 0.2, "p99": 1.5}
        assert played.data[-1]["time_spent"].startswith("61 % waiting for the rate limit, 22 % for answers,")
    else:
        assert " Time: 61 % waiting for the rate limit, 22 % for answers, 10 % for " in played.lines[-1]


def test_text_lines_are_for_people() -> None:
    played = Played("text")
    played.tell(started(resumed=Tally(rows=500_000, accepted=500_000)))
    played.clock.forward(31)
    for event in [*EVERY_EVENT[1:5], Ended(summary(status="interrupted"))]:
        played.tell(event)
    assert played.lines == [
        "2026-03-01T23:59:30.000Z INFO nightly: started, to https://api2.amplitude.com: 3 files, "
        "2,000,000 rows, 123 MB; 500,000 rows committed before",
        "2026-03-02T00:00:01.000Z INFO nightly: 1,000,000 of 2,000,000 rows (50.0 %), 16,129 rows/s, "
        "about 1 min 02 s left, 1,000 rejected, 12 retries, 3 throttled",
        "2026-03-02T00:00:01.000Z WARNING nightly: destination slows us down, next try in 15 s",
        "2026-03-02T00:00:01.000Z INFO nightly: the destination takes requests again after 15 s",
        "2026-03-02T00:00:01.000Z WARNING nightly: the job maps both ids",
        "2026-03-02T00:00:01.000Z WARNING nightly: interrupted: 1,000,000 rows, 900,000 accepted, "
        "60,000 unchanged, 39,000 merged, 1,000 rejected, 2,000 requests, 346 MB sent, 12 retries, "
        "3 throttled, 4 min 10 s, 4,000 rows/s. 2 answers left open whether the request was applied; "
        "it was sent again. The server said it took 5 events that it did not count.",
    ]
