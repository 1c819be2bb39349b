"""A propsync job under Airflow 3, twice: as a command, and as a call with typed errors. Keep one of them."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

JOB = os.environ.get("PROPSYNC_JOB", "/srv/propsync/nightly.yml")
NIGHTLY: dict[str, Any] = {
    "schedule": "15 2 * * *",
    "start_date": datetime(2026, 1, 1),
    "catchup": False,
    "max_active_runs": 1,
    "default_args": {"retries": 3, "retry_delay": timedelta(minutes=10)},
}


@dag(**NIGHTLY)
def propsync_command() -> None:
    """The last line of the output is the summary as JSON; it becomes the task's XCom."""
    BashOperator(
        task_id="run",
        bash_command=(
            f"summary=$(propsync run {JOB} --json --max-rejects 1% --accept-rejects); code=$?; "
            'echo "$summary"; exit $code'
        ),
        skip_on_exit_code=[6],  # another run of the job is active
        output_processor=json.loads,
    )


@dag(**NIGHTLY)
def propsync_call() -> None:
    """For a propsync that is installed beside Airflow: errors that a retry can't help fail at once."""

    @task
    def run() -> dict[str, Any]:
        import propsync

        try:
            limit = propsync.RejectLimit(percent=1)
            summary = propsync.run(propsync.Job.load(Path(JOB)), max_rejects=limit)
        except propsync.EtlError as error:
            if error.exit_code == 6:
                raise AirflowSkipException(str(error)) from error
            if error.exit_code in {2, 4, 7}:  # usage, a guard, the source
                raise AirflowFailException(str(error)) from error
            raise  # 5, 8 and 130: the destination, the disk, an interruption
        return {"status": summary.status, "exit_code": summary.exit_code, **asdict(summary.tally)}

    run()


propsync_command()
propsync_call()
