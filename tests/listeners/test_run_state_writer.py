"""How far a run is, as another process sees it."""

from __future__ import annotations

import stat
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etl.checkpoint.run_records import RunState
from etl.cli.commands.status import state_lines
from etl.listeners.progress import RunClock, RunStateWriter
from etl.run_events import Ended, Paused, Progressed, Recovered, Started, not_begun
from etl.tally import Tally
from tests.commands import until


@dataclass
class Times(RunClock):
    """A clock that goes when it is told to."""

    at: float = 1000.0

    def __call__(self) -> float:
        return self.at

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def writer(tmp_path: Path, times: Times) -> RunStateWriter:
    return RunStateWriter(tmp_path / "progress.json", clock=times)


def started(rows: int | None = 1000, resumed: int = 0) -> Started:
    return Started("job", "http://127.0.0.1", 1, rows, 10, Tally(rows=resumed))


def end(writer: RunStateWriter) -> None:
    writer(Ended(not_begun("job")))


def text(found: RunState, now: float) -> str:
    return "\n".join(state_lines(found.as_dict(), now))


def test_rate_and_time_left(writer: RunStateWriter, times: Times) -> None:
    writer(started(resumed=100))
    times.at += 10
    writer(Progressed(Tally(rows=200)))
    times.at += 50
    writer(Progressed(Tally(rows=500)))
    found = writer.state()
    assert (found.state, found.rows, found.total_rows, found.since) == ("sending", 500, 1000, 1000.0)
    assert found.average_rows_per_second == pytest.approx(400 / 60)
    assert found.rows_per_second == pytest.approx(6.0)  # of the last half minute
    assert found.seconds_left == pytest.approx(500 / 6)
    assert found.as_dict()["percent"] == 50.0
    shown = text(found, times.at)
    assert "sending       500 of 1,000 rows, 50.0 %" in shown
    assert "rows/s        6 now, 7 on average" in shown
    assert "left          1 min 23 s, until " in shown
    end(writer)


def test_without_a_total_nothing_is_promised(writer: RunStateWriter, times: Times) -> None:
    writer(started(rows=None))
    found = writer.state()
    assert (found.seconds_left, found.as_dict()["percent"]) == (None, None)
    assert "left" not in text(found, times.at)
    times.at += 1
    writer(Progressed(Tally(rows=10), expected_rows=40))
    found = writer.state()
    assert (found.total_rows, found.estimated, found.seconds_left) == (40, True, 3.0)
    assert "10 of about 40 rows, 25.0 %" in text(found, times.at)
    end(writer)


@pytest.mark.parametrize(("status", "state"), [(429, "paused"), (503, "outage"), (None, "outage")])
def test_pauses_and_outages(writer: RunStateWriter, times: Times, status: int | None, state: str) -> None:
    writer(started())
    times.at += 5
    writer(Paused("slow\ndown", 20.0, 2.0, 1, status, 1800.0))
    times.at += 15
    writer(Paused("slow\ndown", 20.0, 17.0, 2, status, 1785.0))
    found = writer.state()
    assert (found.state, found.since, found.next_try) == (state, 1003.0, 1040.0)
    shown = text(found, times.at + 1)
    assert f"  {state:<14}0 of 1,000 rows" in shown
    assert "(18 s): slow" in shown
    assert "next try in 19 s" in shown
    writer(Progressed(Tally(rows=1)))  # of what was in flight
    assert writer.state().state == state
    times.at += 30
    writer(Progressed(Tally(rows=2)))
    assert writer.state().state == "sending"
    writer(Paused("slow", 20.0, 0.0, 1, status, 1800.0))
    writer(Recovered(1.0))
    assert (writer.state().state, writer.state().since) == ("sending", times.at)
    end(writer)


def test_the_file_is_there_while_the_run_sends(writer: RunStateWriter, tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    writer(started())
    writer(started())  # once more does no harm
    until(path.exists)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert RunState.load(path) is not None
    end(writer)
    end(writer)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_can_t_begin_leaves_the_file_of_the_active_one(
    writer: RunStateWriter, tmp_path: Path
) -> None:
    path = tmp_path / "progress.json"
    writer.state().save(path)
    end(writer)
    assert path.exists()


def test_no_run_fails_for_its_status(tmp_path: Path, times: Times) -> None:
    writer = RunStateWriter(tmp_path / "gone" / "progress.json", clock=times)
    writer(started())
    end(writer)


def test_a_file_of_another_version_is_none(tmp_path: Path, writer: RunStateWriter) -> None:
    path = tmp_path / "progress.json"
    assert RunState.load(path) is None
    for content in ("", "[]", "{}", '{"state": "sending"}'):
        path.write_text(content)
        assert RunState.load(path) is None
    whole = replace(writer.state(), rows=3)
    whole.save(path)
    assert RunState.load(path) == whole


def test_before_the_first_request_a_run_prepares() -> None:
    found: dict[str, Any] = {"state": "preparing"}
    assert "nothing is sent yet" in "".join(state_lines(found, 0.0))
