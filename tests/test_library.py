"""The library as its users write it; mypy checks this file as strictly as all others."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest

import etl
from etl import (
    EtlError,
    Job,
    Plan,
    RejectLimit,
    RowMinimum,
    Settings,
    Summary,
    baseline,
    plan,
    preview,
    run,
)
from etl.errors import ExitCode
from etl.pipeline.settings import Options
from etl.sandbox import Sandbox

IDENTIFICATION = {"user_id": "id", "user_properties": {"plan": "plan"}}
ROWS = [{"id": f"user-{number}", "plan": "pro"} for number in range(20)]


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job.of({"name": "library", "identification": IDENTIFICATION}, folder=tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "users.csv"
    path.write_text("id,plan\n" + "".join(f"{row['id']},{row['plan']}\n" for row in ROWS))
    return path


def test_calls_take_the_options_of_a_run_by_name(job: Job, source: Path, sandbox: Sandbox) -> None:
    found: Plan = plan(job, source, rate=3000, min_rows=RowMinimum(count=1))
    assert found.tally.accepted == 20
    summary: Summary = run(
        job, source, key="any-key", endpoint=sandbox.url, rate=None, max_rejects=RejectLimit(percent=1)
    )
    assert summary.status == "finished"
    assert summary.tally.accepted == 20
    assert baseline(job, source, endpoint=sandbox.url).entries == 20
    assert next(preview(job, source, count=1)).startswith('{"user_id":"user-0"')


def test_settings_may_be_made_once_and_changed_by_name(job: Job, source: Path, sandbox: Sandbox) -> None:
    usual = Settings(endpoint="http://127.0.0.1:9", rate=None, batch_size=5)
    summary = run(job, source, key="any-key", settings=usual, endpoint=sandbox.url)
    assert (summary.tally.accepted, summary.tally.requests) == (20, 4)


def test_what_goes_wrong_is_one_kind_of_error(job: Job, tmp_path: Path) -> None:
    with pytest.raises(EtlError) as caught:
        run(job, tmp_path / "nowhere.csv", key="any-key")
    assert caught.value.exit_code == ExitCode.SOURCE


def test_options_are_the_fields_of_settings() -> None:
    hints = get_type_hints(Settings)
    assert get_type_hints(Options) == {field.name: hints[field.name] for field in fields(Settings)}


def test_every_public_name_is_there() -> None:
    for name in etl.__all__:
        assert getattr(etl, name) is not None
    assert etl.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="nothing"):
        getattr(etl, "nothing")  # noqa: B009 - mypy would see it
