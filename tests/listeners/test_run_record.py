"""A record of a run comes back from its file as it was, and the oldest ones go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from etl.checkpoint.history import KEPT_RUNS, keep_run, past_runs
from etl.listeners.report import report_page
from etl.listeners.run_record import HistoryListener, RunRecord, RunRecorder
from etl.model import Tally
from etl.run_events import Ended, Progressed, Recovered, Warned

from .events import HOSTILE, TIMING, Clock, started, summary

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def recorded(steps: int = 6) -> RunRecord:
    clock = Clock()
    recorder = RunRecorder(clock=clock, now=clock.now)
    recorder.note(started())
    for number in range(steps):
        clock.forward(10)
        recorder.note(Progressed(Tally(rows=number * 1000, accepted=number * 1000)))
    recorder.note(Recovered(5.0))
    recorder.note(Warned("code", HOSTILE))
    recorder.note(Warned("code", HOSTILE))
    return recorder.record(replace(summary(), timing=TIMING))


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    record = recorded()
    keep_run(tmp_path, record.as_dict(), NOW)
    (found,) = past_runs(tmp_path)
    again = RunRecord.of(found)
    assert again == replace(
        record,
        began=record.began.replace(microsecond=0),
        ended=record.ended.replace(microsecond=0),
        summary=again.summary,
    )
    assert again.as_dict()["summary"] == record.as_dict()["summary"]
    assert again.pauses == ((55.0, 5.0),)
    assert again.warnings == ((HOSTILE, 2),)


def test_a_long_run_has_few_points() -> None:
    record = recorded(2000)
    assert 100 <= len(record.series) <= 240
    assert record.series[-1][1] >= 1_900_000


def test_the_last_hundred_of_a_year_stay(tmp_path: Path) -> None:
    record = recorded().as_dict()
    for number in range(KEPT_RUNS + 5):
        keep_run(tmp_path, record, NOW + timedelta(hours=number))
    assert len(list(past_runs(tmp_path))) == KEPT_RUNS
    keep_run(tmp_path, record, NOW + timedelta(days=366 + 2))
    young = [
        n for n in range(KEPT_RUNS + 5) if n >= 5 and NOW + timedelta(hours=n) >= NOW + timedelta(days=3)
    ]
    assert len(list(past_runs(tmp_path))) == 1 + len(young)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in (tmp_path / "runs").iterdir())


def test_a_record_that_can_not_be_read_is_left_out(tmp_path: Path) -> None:
    keep_run(tmp_path, recorded().as_dict(), NOW)
    (tmp_path / "runs" / "20260101T000000-1.json").write_text("{")
    (tmp_path / "runs" / "20260101T000000-2.json").write_text("[]")
    assert len(list(past_runs(tmp_path))) == 1


def test_no_folder_is_made_for_a_run_that_did_not_begin(tmp_path: Path) -> None:
    HistoryListener(tmp_path / "state")(Ended(summary()))
    assert not (tmp_path / "state").exists()
    (tmp_path / "state").mkdir()
    HistoryListener(tmp_path / "state")(Ended(summary()))
    (found,) = past_runs(tmp_path / "state")
    assert found["started"] is None


def test_the_page_shows_speed_and_the_runs_before() -> None:
    record = recorded()
    page = report_page(record, past=[record] * 3)
    assert "At most 100 rows a second, over 1 min 00 s; shaded" in " ".join(page.split())
    assert page.count("<polyline") == 1
    assert page.count("2026-03-0") == 2 + 3
    assert "<script" not in page
    assert "The runs before it" not in report_page(record)
    assert "<polyline" not in report_page(recorded(2))
