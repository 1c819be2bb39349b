"""A record of a run comes back from its file as it was, and the oldest ones go."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from etl.checkpoint.run_records import KEPT_RUNS, keep_run, past_runs
from etl.listeners.report import report_page
from etl.listeners.run_record import (
    RECORD_BYTES,
    HistoryListener,
    RunRecord,
    RunRecorder,
    past_records,
    readable_runs,
)
from etl.run_events import Detailed, Ended, Paused, Progressed, Recovered, Warned
from etl.tally import Tally
from etl.text import one_line

from .events import HOSTILE, TIMING, Clock, started, summary

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def recorded(steps: int = 6) -> RunRecord:
    clock = Clock()
    recorder = RunRecorder(clock=clock)
    recorder.note(started())
    for number in range(steps):
        clock.forward(10)
        recorder.note(Progressed(Tally(rows=number * 1000, accepted=number * 1000)))
    recorder.note(Recovered(5.0))
    recorder.note(Warned("code", HOSTILE))
    recorder.note(Warned("code", HOSTILE))
    tally = Tally(rows=steps * 1000, accepted=steps * 1000)
    return recorder.record(replace(summary(tally=tally), timing=TIMING))


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
    assert again.warnings == ((one_line(HOSTILE), 2),)


def test_a_long_run_has_few_points() -> None:
    record = recorded(2000)
    assert 60 <= len(record.series) <= 121
    steps = [now[0] - before[0] for before, now in pairwise(record.series[:-1])]
    assert max(steps) < 3 * min(steps)
    assert record.series[-1][1] >= 1_990_000


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
    keep_run(tmp_path, {"summary": {}}, NOW + timedelta(hours=1))
    keep_run(tmp_path, {**recorded().as_dict(), "pauses": 5}, NOW + timedelta(hours=2))
    assert len(past_records(tmp_path)) == len(list(readable_runs(tmp_path))) == 1


def test_a_record_without_the_keys_of_a_later_version_is_read(tmp_path: Path) -> None:
    data = recorded().as_dict()
    for key in ("uncounted", "skipped_values"):
        del data["summary"][key]
    del data["summary"]["seconds_by"]["commit"]
    keep_run(tmp_path, data, NOW)
    (found,) = past_records(tmp_path)
    assert (found.summary.tally.rows, found.summary.tally.uncounted) == (5000 + 1000, 0)


@pytest.mark.parametrize(
    ("code", "reason", "left"),
    [
        (5, "the destination refuses everything: 25 rows were answered 400 no user ada", "everything"),
        (5, "the key was refused by 401 ada", "by 401"),
        (7, "the job's transform a:b failed: ValueError: ada (users.csv, rows 1 to 9)", "a:b failed"),
        (4, "3 of 9 rows were rejected; the limit is 1", "the limit is 1"),
    ],
)
def test_masked_it_has_no_words_that_may_quote_rows(code: int, reason: str, left: str) -> None:
    recorder = RunRecorder(mask=True)
    recorder.note(started())
    recorder.note(Paused("503 busy with ada", 1.0, 0.0))
    ended = replace(summary(), status="stopped", exit_code=code, reason=reason)
    record = recorder.record(ended)
    assert str(record.summary.reason).endswith(left)
    assert record.paused_for == (("503", 1),)
    assert "ada" not in json.dumps(record.as_dict())
    unmasked = replace(record, summary=ended, paused_for=(("503 busy with carol", 1),))
    assert "carol" in report_page(unmasked)
    assert "carol" not in report_page(unmasked.masked())
    assert (" ada" in report_page(unmasked)) is (" ada" in reason)
    assert "ada" not in report_page(unmasked.masked())


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
    assert "Rows a second over 1 min 00 s: between 0 and 200" in page
    assert "shaded: the destination took no requests" in page
    assert page.count("<polyline") == 1
    assert page.count("2026-03-0") == 2 + 3
    assert "<script" not in page
    assert "The runs before it" not in report_page(record)
    assert "<polyline" not in report_page(recorded(2))


def test_latencies_of_points_that_go_count_for_those_that_stay() -> None:
    clock = Clock()
    recorder = RunRecorder(clock=clock)
    recorder.note(started())
    for number in range(1000):
        clock.forward(2)
        recorder.note(Progressed(Tally(rows=number), latencies={0.1: 10, (0.5 if number < 500 else 3.0): 9}))
    series = recorder.record(summary()).series
    assert {point[4] for point in series[1:]} == {0.1}
    assert [point[5] for point in series[1:]] == sorted(0.5 if at <= 1001 else 3.0 for at, *_ in series[1:])


def test_pauses_are_bounded_and_the_last_may_be_open() -> None:
    clock = Clock()
    recorder = RunRecorder(clock=clock)
    recorder.note(started())
    for number in range(500):
        clock.forward(10 if number % 50 else 100)
        recorder.note(Paused("429", 1.0, 0.0, status=429))
        clock.forward(2)
        recorder.note(Recovered(2.0))
    recorder.note(Paused("gone", 1.0, 0.0))
    clock.forward(50)
    found = recorder.record(summary(status="stopped"))
    assert len(found.pauses) <= 61
    assert found.pauses[-1][1] >= 50
    assert found.paused_for == (("429", 500), ("gone", 1))
    assert all(now[0] >= sum(before) for before, now in pairwise(found.pauses))


def detailed(size: int, text: str) -> Detailed:
    return Detailed(
        files=tuple((f"{n} {text}", n, f"crc32 {text}") for n in range(size)),
        mapping=tuple((f"{n} {text}", text if n % 2 else None, {"type": text}) for n in range(size)),
        changes={f"{n} {text}": (n, 2, 3) for n in range(size)},
        examples=tuple((f"code-{n // 3}", text, n, text) for n in range(size)),
        rejects_path=text,
    )


@pytest.mark.parametrize("text", ["a", HOSTILE, "\u05d0" * 2_000])
def test_a_record_stays_small_and_says_what_it_leaves_out(tmp_path: Path, text: str) -> None:
    recorder = RunRecorder()
    recorder.note(started())
    for number in range(500):
        recorder.note(Warned("code", f"{number} {text}"))
        recorder.note(Progressed(Tally(rows=number), latencies={0.1: 1}))
    recorder.note(detailed(1000, text))
    record = recorder.record(summary())
    keep_run(tmp_path, record.as_dict(), NOW)
    assert len(json.dumps(record.as_dict())) < RECORD_BYTES + 10_000
    (again,) = past_records(tmp_path)
    assert again.details == record.details
    assert again.details is not None
    assert len(again.details.files) + again.left_out["files"] == 1000
    assert again.details.changes is not None
    assert next(iter(again.details.changes.values())) == (999, 2, 3)
    assert len(report_page(again)) < 150_000


def test_masked_no_example_is_kept() -> None:
    recorder = RunRecorder(mask=True)
    recorder.note(detailed(5, "secret"))
    found = recorder.record(summary())
    assert found.details is not None
    assert (found.details.examples, len(found.details.files)) == ((), 5)
