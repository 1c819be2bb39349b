"""A propsync job as a Dagster asset, with the counts of its rows as metadata."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

from dagster import Definitions, Failure, MaterializeResult, RetryPolicy, ScheduleDefinition, asset

import propsync

JOB = Path(os.environ.get("PROPSYNC_JOB", "/srv/propsync/nightly.yml"))
DELAY = float(os.environ.get("PROPSYNC_RETRY_SECONDS", "600"))


@asset(retry_policy=RetryPolicy(max_retries=3, delay=DELAY), kinds={"amplitude"})
def amplitude_user_properties() -> MaterializeResult:
    """The users of the export have their properties in Amplitude."""
    try:
        summary = propsync.run(propsync.Job.load(JOB), max_rejects=propsync.RejectLimit(percent=1))
    except propsync.EtlError as error:
        again = error.exit_code in {5, 6, 130}  # the destination, another run, an interruption
        metadata = {"exit_code": int(error.exit_code), "hint": error.hint or ""}
        raise Failure(error.message, metadata=metadata, allow_retries=again) from error
    return MaterializeResult(
        metadata={
            **asdict(summary.tally),
            "status": summary.status,
            "seconds": summary.seconds,
            "rejects_by_code": summary.rejects_by_code,
        }
    )


defs = Definitions(
    assets=[amplitude_user_properties],
    schedules=[
        ScheduleDefinition(name="nightly", target=amplitude_user_properties, cron_schedule="15 2 * * *")
    ],
)
