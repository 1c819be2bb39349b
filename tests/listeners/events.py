"""Events of a made-up run, and a clock that goes when told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from etl.listeners.metrics import MetricValues
from etl.listeners.progress import RunClock
from etl.run_events import Started, Summary, Timing
from etl.tally import Tally

if TYPE_CHECKING:
    from typing import Literal

BEGAN = datetime(2026, 3, 1, 23, 59, 30, tzinfo=UTC)

# Hostile in every format that is written: HTML, Prometheus labels, JSON, log lines, rich markup, terminals.
HOSTILE = '"><script>alert(1)</script>\\ {x="y"} 1\n# HELP [bold red]&amp;\x1b[2J\r\u202e\ud800'

TALLY = Tally(
    rows=1_000_000,
    accepted=900_000,
    unchanged=60_000,
    merged=39_000,
    rejected=1_000,
    requests=2_000,
    retries=12,
    throttled=3,
    bytes=345_678_901,
    in_doubt=2,
    uncounted=5,
)

TIMING = Timing(
    source=11.0,
    map=12.0,
    diff=13.0,
    encode=14.0,
    slots=8,
    idle=100.0,
    user=30.0,
    rate=610.0,
    pause=0.0,
    request=220.0,
    commit=40.0,
    latency=(0.08, 0.2, 1.5),
)


class Clock(RunClock):
    """Seconds that pass only when told; `now` is the same instant as time of day."""

    def __init__(self) -> None:
        self.seconds = 5_000.0

    def __call__(self) -> float:
        return self.seconds

    def forward(self, seconds: float) -> None:
        self.seconds += seconds

    def now(self) -> datetime:
        return BEGAN + timedelta(seconds=self.seconds - 5_000.0)


def started(
    job: str = "nightly", *, total_rows: int | None = 2_000_000, resumed: Tally | None = None
) -> Started:
    return Started(
        job=job,
        endpoint="https://api2.amplitude.com",
        files=3,
        total_rows=total_rows,
        total_bytes=123_456_789,
        resumed=resumed or Tally(),
    )


def summary(
    job: str = "nightly",
    tally: Tally = TALLY,
    *,
    status: Literal["finished", "stopped", "interrupted"] = "finished",
    resumed_rows: int = 0,
    rejects_by_code: dict[str, int] | None = None,
    exit_code: int = 0,
    reason: str | None = None,
    hint: str | None = None,
) -> Summary:
    codes = {"missing_id": 200, "bad_number": 800} if rejects_by_code is None else rejects_by_code
    return Summary(job, tally, 250.0, resumed_rows, status, codes, exit_code, reason, hint)


def every_metric() -> MetricValues:
    """Values of which each is written."""
    summary = Summary(
        "nightly",
        Tally(),
        0.0,
        0,
        "finished",
        rejects_by_code={"bad_number": 1},
        skipped_values={"mrr_usd": {"bad_number": 1}},
        timing=TIMING,
    )
    successes = {"nightly": 1.0}
    return MetricValues(summary, source_rows=1, exit_code=0, last_run=1.0, successes=successes)
