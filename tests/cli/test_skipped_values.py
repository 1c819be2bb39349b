"""Values that are left out are told by every command and in every file that a run leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.commands import QUICK, Propsync

JOB = """\
source: users.csv
nulls: ["k.A."]
identification:
  user_id: id
  user_properties:
    plan: plan
    fee: {column: fee, type: number, decimal: ",", invalid: skip}
"""
ROWS = "id;plan;fee\nacc-001;max;1,5\nacc-002;max;<b>viel</b>\nacc-003;k.A.;1.5\nacc-004;max;k.A.\n"
SKIPPED = {"fee": {"bad_number": 2}}


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "users.csv").write_text(ROWS)
    (tmp_path / "job.yml").write_text(JOB)
    return tmp_path / "job.yml"


def test_check_tells_them(propsync: Propsync, job: Path) -> None:
    found = propsync("check", job, "--json")
    assert (found.code, json.loads(found.out)["skipped_values"]) == (0, SKIPPED)
    lines = propsync("check", job).out.splitlines()
    assert '    fee: bad_number  2  "1.5" (1), "<b>viel</b>" (1)' in lines
    assert max(map(len, lines)) <= 80


def test_a_run_tells_them_in_its_summary_report_metrics_and_status(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    files = ("--report", "report.html", "--metrics-file", "run.prom")
    found = propsync("run", job, "--endpoint", sandbox.url, *QUICK, "--json", *files)
    assert found.code == 0
    assert found.summary["skipped_values"] == SKIPPED
    assert (found.summary["accepted"], found.summary["unchanged"], found.summary["rejected"]) == (3, 1, 0)
    assert "Values left out" in (tmp_path / "report.html").read_text()
    assert 'propsync_skipped_values_total{job="job",column="fee"} 2' in (tmp_path / "run.prom").read_text()
    assert "values left out of fee: 2" in propsync("status", job).out
    profiles = {user: profile.properties for user, profile in sandbox.profiles.users.items()}
    assert profiles == {
        "acc-001": {"plan": "max", "fee": 1.5},
        "acc-002": {"plan": "max"},
        "acc-004": {"plan": "max"},
    }


def test_every_fault_of_the_options_names_its_line(propsync: Propsync, job: Path) -> None:
    job.write_text(JOB.replace("type: number, ", "").replace('["k.A."]', "[]"))
    found = propsync("check", job)
    assert found.code == 2
    assert "job.yml:2: `nulls` is empty" in found.err
    assert "job.yml:7: `decimal` does nothing without `type: number`" in found.err
