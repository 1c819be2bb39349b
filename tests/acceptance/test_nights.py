"""What nights bring: a failed one before, a touch, a broken export, a lost checkpoint, a repeat."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.acceptance import exports
from tests.acceptance.test_killed import kill_after
from tests.acceptance.test_second_night import edit
from tests.commands import KEY, QUICK, Finished, Propsync, until

ROWS = 200
POINTS = """\
source: users.csv
identification:
  user_id: id
  user_properties:
    $add: {points: {column: score, type: number}}
destination: {transport: batch}
"""


def run(propsync: Propsync, sandbox: Sandbox, job: Path, *more: str) -> Finished:
    return propsync("run", job, "--endpoint", sandbox.url, *QUICK, "--batch-size", "20", *more)


def sent(sandbox: Sandbox) -> int:
    """How many identifications came since the last call."""
    count = sandbox.stats.identifications
    sandbox.reset()
    return count


def points(sandbox: Sandbox) -> list[float]:
    found = [profile.properties["points"] for profile in sandbox.profiles.users.values()]
    return sorted(float(one) for one in found if isinstance(one, int | float))


def killed_before_the_first_answer(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(outage="stall")
    command = ("run", job, "--endpoint", sandbox.url, *QUICK, "--batch-size", "20", "--concurrency", "1")
    with propsync.begin(*command) as running:
        until(lambda: sandbox.stats.requests >= 1)
        running.kill()
    sandbox.end_outage()


def wrong_key(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AMPLITUDE_API_KEY", "another-key-altogether")
        assert run(propsync, sandbox, job).code == 5


@pytest.mark.parametrize(
    ("fails", "in_flight"),
    [(wrong_key, 0), (killed_before_the_first_answer, 20)],
)
def test_a_failed_night_is_no_obstacle(
    propsync: Propsync, job: Path, tmp_path: Path, fails: Callable[..., None], in_flight: int
) -> None:
    with running_sandbox(SandboxOptions(record=True, api_keys=frozenset([KEY]))) as sandbox:
        assert run(propsync, sandbox, job).code == 0
        assert sent(sandbox) == ROWS
        edit(tmp_path / "users.csv", range(40), plan="second")
        fails(propsync, sandbox, job)
        sandbox.reset()
        exports.write_csv(tmp_path / "users.csv", ROWS)
        edit(tmp_path / "users.csv", range(180, ROWS), plan="third")
        assert run(propsync, sandbox, job).code == 0
        assert sent(sandbox) == 20 + in_flight
        assert run(propsync, sandbox, job).code == 0
        assert sent(sandbox) == 0


def test_a_touch_between_a_kill_and_the_next_run_is_no_change(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 8_000)
    job = exports.write_job(tmp_path, source="users.csv")
    sandbox.change(latency="20ms")
    kill_after(propsync, sandbox, job, 8)
    sandbox.change(latency="0ms")
    os.utime(tmp_path / "users.csv")
    finished = propsync(
        "run", job, "--endpoint", sandbox.url, *QUICK, "--batch-size", "200", "--concurrency", "4", "--json"
    )
    assert finished.code == 0
    assert 0 < finished.summary["resumed_rows"] < 8_000
    assert len(sandbox.profiles) == 8_000


@pytest.mark.parametrize("content", ["", "id,plan,score\n"])
def test_4_for_an_export_without_rows(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, content: str
) -> None:
    job.write_text("absent: unset\n" + job.read_text())
    metrics = tmp_path / "job.prom"
    told = ("--metrics-file", str(metrics))
    assert run(propsync, sandbox, job, *told).code == 0
    before = metrics.read_text()
    sent(sandbox)
    (tmp_path / "users.csv").write_text(content)
    for command in (("run",), ("run", "--dry-run"), ("check",)):
        arguments = (*told, *QUICK) if command == ("run",) else ()
        finished = propsync(*command, job, "--endpoint", sandbox.url, *arguments)
        assert finished.code == 4
        assert "no rows, and the last finished run had 200" in finished.err
    success = [line for line in before.splitlines() if "last_success" in line]
    assert [line for line in metrics.read_text().splitlines() if "last_success" in line] == success
    assert sent(sandbox) == 0
    finished = run(propsync, sandbox, job, "--min-rows", "0", "--max-absent", "100%")
    assert finished.code == 0
    assert "nobody is unset" in finished.err
    assert sent(sandbox) == 0


@pytest.mark.parametrize(("minimum", "code"), [("90%", 4), ("179", 0)])
def test_4_for_too_few_rows(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, minimum: str, code: int
) -> None:
    assert run(propsync, sandbox, job).code == 0
    sent(sandbox)
    exports.write_csv(tmp_path / "users.csv", 179)
    assert propsync("check", job, "--endpoint", sandbox.url, "--min-rows", minimum).code == code
    assert run(propsync, sandbox, job, "--min-rows", minimum).code == code
    assert sent(sandbox) == 0


@pytest.mark.parametrize("value", ["many", "-1", "1.5", "%", ""])
def test_a_minimum_is_a_number_or_a_share(
    propsync: Propsync, sandbox: Sandbox, job: Path, value: str
) -> None:
    finished = run(propsync, sandbox, job, "--min-rows", value)
    assert finished.code == 2
    assert "90%" in finished.err


def test_a_counter_started_again_by_the_scheduler_counts_once(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 50)
    job = exports.write_job(tmp_path, POINTS)
    assert run(propsync, sandbox, job).code == 0
    os.utime(tmp_path / "users.csv")
    again = run(propsync, sandbox, job)
    assert again.code == 4
    assert "--again" in again.err
    checked = propsync("check", job, "--endpoint", sandbox.url)
    assert (checked.code, "--again" in checked.err) == (4, True)
    assert points(sandbox) == [number / 4 for number in range(1, 51)]
    assert run(propsync, sandbox, job, "--again").code == 0
    assert points(sandbox) == [number / 2 for number in range(1, 51)]


def test_7_for_increments_of_another_source_until_somebody_decides(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 5_000)
    job = exports.write_job(tmp_path, POINTS)
    sandbox.change(latency="20ms")
    kill_after(propsync, sandbox, job, 10)
    sandbox.change(latency="0ms")
    exports.write_csv(tmp_path / "users.csv", 10)
    stopped = run(propsync, sandbox, job)
    assert stopped.code == 7
    assert "--on-source-change restart" in stopped.err
    assert "finish that run" not in stopped.err
    assert run(propsync, sandbox, job, "--on-source-change", "restart").code == 0
    assert run(propsync, sandbox, job).code == 4
