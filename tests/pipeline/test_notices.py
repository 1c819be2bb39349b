"""What a run says besides the counts."""

from __future__ import annotations

import os
from pathlib import Path

from etl.model import Event, Warned
from etl.sandbox import Sandbox
from tests.pipeline.making import counting_job_in, run_once


def codes(heard: list[Event]) -> list[str]:
    return [event.code for event in heard if isinstance(event, Warned)]


def test_counters_sent_twice_from_the_same_file_are_told(tmp_path: Path, sandbox: Sandbox) -> None:
    job = counting_job_in(tmp_path)
    users = tmp_path / "users.csv"
    users.write_text("id,plan,score\nuser-1,pro,5\n")
    told: list[list[str]] = []
    for touched in (False, False, True):
        heard: list[Event] = []
        if touched:
            os.utime(users, ns=(1, 1))
        run_once(tmp_path, sandbox, users, job=job, listener=heard.append)
        told.append(codes(heard))
    assert told == [[], ["again"], []]
    assert sandbox.profiles.users["user-1"].properties["points"] == 15
