"""Options of `run` in the job file and in variables; --rejects, --accept-rejects and --limit."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import click
import pytest

from etl.cli.app import propsync as commands
from etl.job import run_options
from etl.job.run_options import RUN_OPTIONS
from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.commands import QUICK, Propsync


@pytest.fixture
def job(tmp_path: Path) -> Path:
    folder = tmp_path / "jobs"
    folder.mkdir()
    exports.write_csv(folder / "users.csv", 40, bad=(7, 9))
    return exports.write_job(folder, source="users.csv")


def with_run(job: Path, **options: object) -> Path:
    job.write_text(job.read_text() + f"run: {json.dumps(options)}\n")
    return job


def run(sandbox: Sandbox, job: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return ("run", job, "--endpoint", sandbox.url, *QUICK, *more)


def test_a_job_file_may_have_every_option() -> None:
    options = [p.opts[0] for p in commands.commands["run"].params if isinstance(p, click.Option)]
    keys = {option.removeprefix("--").replace("-", "_") for option in options}
    assert keys == set(RUN_OPTIONS)


@pytest.mark.parametrize(
    ("flag", "variable", "key", "size"),
    [
        (None, None, None, 38),
        (None, None, 20, 20),
        (None, "10", 20, 10),
        ("5", "10", 20, 5),
        ("5", None, 20, 5),
    ],
)
def test_the_command_line_wins_then_the_variable_then_the_file(
    propsync: Propsync, sandbox: Sandbox, job: Path, monkeypatch: pytest.MonkeyPatch,
    flag: str | None, variable: str | None, key: int | None, size: int,
) -> None:  # fmt: skip
    if key:
        with_run(job, batch_size=key)
    if variable:
        monkeypatch.setenv("PROPSYNC_BATCH_SIZE", variable)
    more = ("--batch-size", flag) if flag else ()
    propsync(*run(sandbox, job, *more))
    assert max(entry.identifications for entry in sandbox.requests) == size


def test_paths_are_beside_the_job_file_and_outputs_are_those_of_run(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    with_run(
        job,
        report="night.html",
        rejects="night.csv",
        metrics_file="night.prom",
        state_dir="state",
        log_format="json",
        json=True,
        min_rows="1000",
    )
    checked = propsync("check", job)
    assert checked.code == 4  # it honours `min_rows`, and writes nothing
    assert {path.name for path in job.parent.iterdir()} == {"job.yml", "users.csv"}
    assert checked.out.startswith("job: ")
    finished = propsync(*run(sandbox, job, "--min-rows", "1"))
    assert (finished.code, finished.summary["rejected"]) == (3, 2)
    assert json.loads(finished.err.splitlines()[0])["event"] == "started"
    written = {path.name for path in job.parent.iterdir()}
    assert written == {"job.yml", "users.csv", "night.html", "night.csv", "night.prom", "state"}
    assert propsync("status", job, "--json").summary["rows"] == 40


@pytest.mark.parametrize("by_variable", [True, False])
def test_commands_about_past_runs_look_where_run_wrote(
    propsync: Propsync, sandbox: Sandbox, job: Path, monkeypatch: pytest.MonkeyPatch, by_variable: bool
) -> None:
    if by_variable:
        monkeypatch.setenv("PROPSYNC_ENDPOINT", sandbox.url)
        monkeypatch.setenv("PROPSYNC_STATE_DIR", "elsewhere")
    else:
        with_run(job, endpoint=sandbox.url, state_dir="elsewhere")
    user = json.loads(propsync("preview", job, "-n", "1").out)["user_id"]
    assert propsync("run", job, *QUICK).code == 3
    assert "next run sends nothing" in propsync("explain", job, "--user", user).out
    assert f"snapshot of {sandbox.url} knows" in propsync("explain", job, "--user", user).out
    assert propsync("status", job, "--json").summary["rows"] == 40
    (record,) = json.loads(propsync("runs", job, "--json").out)
    assert record["summary"]["rows"] == 40
    assert propsync("report", job).code == 0
    plan = propsync("check", job, "--json").summary
    assert (plan["endpoint"], plan["unchanged"]) == (sandbox.url, 38)


def test_a_fault_is_told_with_its_line(propsync: Propsync, job: Path) -> None:
    text = job.read_text()
    for key, value, message in (
        ("rat", "5", "unknown key `rat`; did you mean `rate`?"),
        ("rate", "0", "`rate` must be a number above 0, or `max`"),
        ("max_changes", "101%", "must be a share such as 50%"),
        ("max_rejects", "lots", "must be rows such as 100, or a share such as 1%"),
        ("max_outage", "long", "must be a duration such as 90s, 30m or 2h"),
        ("batch_size", "5000", "`run.batch_size`: 5000 is not in the range"),
        ("rejects", "r.xls", "must be the name of a file that ends in .csv or .ndjson"),
        ("log_format", "xml", "must be `text` or `json`"),
        ("endpoint", "amplitude.com", "must be `us`, `eu` or a base URL"),
        ("full", "sometimes", "must be true or false"),
    ):
        job.write_text(f"{text}run:\n  {key}: {value}\n")
        finished = propsync("run", job)
        assert finished.code == 2
        assert message in finished.err
        assert f"job.yml:{text.count(chr(10)) + 2}: " in finished.err


def test_a_wrong_variable_is_named(propsync: Propsync, job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROPSYNC_RATE", "fast")
    assert "Invalid value for PROPSYNC_RATE: 'fast' is not a rate" in propsync("check", job).err


def test_a_second_job_file_is_no_source(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    other = job.with_name("other.json")
    other.write_text('{\n "source": "users.csv",\n "identification": {"user_id": "id"}\n}\n')
    for place in (job, other):
        finished = propsync("run", job, place)
        assert finished.code == 2
        assert f"{place} is a job file" in finished.err
        assert "propsync run" in finished.err
    rows = tmp_path / "rows.json"
    rows.write_text('{"id": "user-1", "plan": "a", "score": 1}\n{"id": "user-2", "plan": "a", "score": 1}\n')
    assert propsync("check", job, rows).code == 0


def test_every_option_has_its_help_in_the_order_of_the_table() -> None:
    assert [name for name, one in RUN_OPTIONS.items() if one.text] == list(RUN_OPTIONS)
    assert re.findall(r"^- (\w+): ", run_options.__doc__ or "", re.MULTILINE) == list(RUN_OPTIONS)


def test_a_page_goes_to_the_standard_output_if_asked(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    propsync(*run(sandbox, job))
    for command in (("check", job, "--report", "-"), ("report", job, "--output", "-")):
        printed = propsync(*command)
        assert printed.code in {0, 3}, printed.err
        assert printed.out.startswith("<!DOCTYPE html>")
        assert printed.out.endswith("</html>\n")
    assert "both go to the standard output" in propsync("check", job, "--report", "-", "--json").err
    for more in (("--metrics-file", "-"), ("--report", "-"), ("--report", "-", "--rate", "fast")):
        assert propsync(*run(sandbox, job, *more)).code == 2
    for refused in (("check", job, "--save", "-"), run(sandbox, job, "--report", "-")):
        assert "is the standard output, which has other results" in propsync(*refused).err
    assert not Path("-").exists()


# --- rejects ---------------------------------------------------------------------------------------------


def test_rejects_are_written_for_a_spreadsheet(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    found = []
    for command in (run(sandbox, job), ("check", job), run(sandbox, job, "--dry-run")):
        path = tmp_path / "rejects.csv"
        assert propsync(*command, "--rejects", path).code == 3
        with path.open(encoding="utf-8-sig", newline="") as file:
            found.append(list(csv.DictReader(file)))
        path.unlink()
    assert [(row["row"], row["code"], row["score"]) for row in found[0]] == [
        ("7", "bad_number", "much"),
        ("9", "bad_number", "much"),
    ]
    assert found[0] == found[1] == found[2]
    assert propsync(*run(sandbox, job, "--rejects", "gone/rejects.csv")).code == 2
    assert "must end in .csv or .ndjson" in propsync("check", job, "--rejects", "rejects.txt").err


def test_a_run_that_can_t_begin_leaves_the_rejects_alone(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    path = tmp_path / "rejects.ndjson"
    assert propsync(*run(sandbox, job, "--rejects", path)).code == 3
    before = path.read_text()
    assert before == (job.parent / ".propsync" / "job" / "rejects.ndjson").read_text()
    assert propsync(*run(sandbox, job, "gone.csv", "--rejects", path)).code == 7
    assert path.read_text() == before


def test_a_list_for_a_spreadsheet_is_no_source(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    propsync("check", job, "--rejects", tmp_path / "rejects.csv")
    finished = propsync("check", job, tmp_path / "rejects.csv")
    assert finished.code == 7
    assert "rejects.ndjson" in finished.err


def test_status_counts_rejects_by_column_and_value(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    propsync(*run(sandbox, job))
    assert '2  column score: "much" is not a number' in propsync("status", job).out
    assert propsync("status", job, "--json").summary["rejects_by_reason"] == [
        {"code": "bad_number", "reason": 'column score: "much" is not a number', "count": 2}
    ]


def test_accepted_rejects_are_a_success_within_the_limit(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    finished = propsync(*run(sandbox, job, "--accept-rejects", "--json"))
    assert finished.code == finished.summary["exit_code"] == 0
    assert (finished.summary["reason"], finished.summary["rejected"]) == (None, 2)
    assert "rejects: " in finished.err
    assert propsync(*run(sandbox, job, "--accept-rejects", "--max-rejects", "1", "--full")).code == 4
    assert propsync(*run(sandbox, job, "--accept-rejects", "--dry-run")).code == 0


# --- a limit ---------------------------------------------------------------------------------------------


def test_a_limited_run_says_how_to_send_the_rest(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    finished = propsync(*run(sandbox, job, "--limit", "5", "--json"))
    assert (finished.code, finished.summary["status"], finished.summary["rows"]) == (0, "limited", 5)
    (line,) = (line for line in finished.err.splitlines() if line.startswith("to send the rest: "))
    assert line == f"to send the rest: propsync run {job} --endpoint {sandbox.url} {' '.join(QUICK)} --json"
    assert len(sandbox.profiles) == 5
    assert propsync(*run(sandbox, job, "--json")).summary["resumed_rows"] == 5
    assert len(sandbox.profiles) == 38
    assert "no meaning" in propsync(*run(sandbox, job, "--limit", "5", "--dry-run")).err


@pytest.mark.parametrize(
    "location",
    [
        "s3://AKIA:SEC/RET@bucket/a.csv",
        "S3://AKIA%3ASECRET@bucket/a.csv",
        "s3://bucket/a.csv?region=x&secret_key=SECRET",
        "abfss://c@account.dfs.core.windows.net/a.csv?sig=SECRET",
    ],
)
def test_credentials_in_an_address_are_written_nowhere(propsync: Propsync, location: str) -> None:
    (propsync.folder / "job.yml").write_text("source: x\nidentification: {user_id: id}\n")
    finished = propsync("run", "job.yml", location, "--json", "--report", "r.html", "--log-format", "json")
    assert finished.code == 7
    written = [path.read_text() for path in propsync.folder.rglob("*") if path.suffix in {".html", ".json"}]
    assert "propsync run job.yml" in "".join(written)
    for text in (*written, finished.out, finished.err):
        assert "SECRET" not in text.replace("SEC/RET", "SECRET")


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("run", "--report"),
        ("run", "--rejects"),
        ("run", "--metrics-file"),
        ("check", "--report"),
        ("check", "--save"),
        ("check", "--rejects"),
        ("report", "--output"),
    ],
)
def test_no_output_replaces_the_export_or_the_job(
    propsync: Propsync, job: Path, sandbox: Sandbox, command: str, flag: str, tmp_path: Path
) -> None:
    export = job.parent / "users.csv"
    (tmp_path / "link.csv").symlink_to(export)
    assert propsync(*run(sandbox, job)).code == 3
    sandbox.reset()
    before = export.read_bytes(), job.read_bytes()
    for target, what in (
        (export, "a file of the source"),
        (tmp_path / "link.csv", "a file of the source"),
        (job, "the job file"),
    ):
        ended = propsync(command, job, flag, target)
        assert ended.code == 2, ended.err
        assert f"{flag} would replace {what}" in ended.err or (flag, target) == ("--rejects", job)
    assert (export.read_bytes(), job.read_bytes()) == before
    assert not sandbox.requests
