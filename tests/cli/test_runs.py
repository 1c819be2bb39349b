"""`runs`: a line for each past run, and below it what an on-call engineer asks next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from etl.checkpoint.run_records import keep_run
from etl.listeners.summary import summary_dict
from etl.run_events import Summary, Timing
from etl.tally import Tally
from tests.acceptance import exports
from tests.commands import Propsync

TIMING = Timing(rate=610.0, request=390.0)
RUNS: tuple[tuple[Summary, list[list[float]]], ...] = (
    (Summary("job", Tally(9, 9), 1000.0, 0, "finished", timing=TIMING), [[10.0, 5.0], [20.0, 40.0]]),
    (Summary("job", Tally(9, 9), 5.0, 0, "finished", timing=TIMING), []),
    (Summary("job", Tally(), 61.0, 0, "stopped", {}, 7, "users.csv\nis not there", "look"), []),
)


def test_below_a_run_stand_its_reason_its_pauses_and_where_its_time_went(
    propsync: Propsync, tmp_path: Path
) -> None:
    state = tmp_path / ".propsync" / "job"
    state.mkdir(parents=True, mode=0o700)
    for hours, (summary, pauses) in enumerate(RUNS):
        ended = datetime.now(UTC) - timedelta(hours=hours)
        keep_run(state, {"summary": summary_dict(summary), "pauses": pauses}, ended)
    lines = propsync("runs", exports.write_job(tmp_path, source="users.csv")).out.splitlines()
    assert [line.split(maxsplit=1)[1].split() for line in lines[1:] if line[0] != " "] == [
        ["0", "9", "9", "0", "16", "min", "40", "s"],
        ["0", "9", "9", "0", "5.0", "s"],
        ["7", "0", "0", "0", "1", "min", "01", "s"],
    ]
    assert [line.strip() for line in lines if line[0] == " "] == [
        "2 pauses of the destination, 45 s",
        "61 % waiting for the rate limit, 39 % for answers",
        "users.csv",
    ]


def test_where_there_is_no_past_run_the_message_names_the_command_for_the_present_one(
    propsync: Propsync, tmp_path: Path
) -> None:
    told = propsync("runs", exports.write_job(tmp_path, source="users.csv"))
    assert told.code == 0
    assert "has no past runs" in told.err + told.out
    assert "`propsync status`" in told.err + told.out
