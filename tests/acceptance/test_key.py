"""The key leaves the process in request bodies and nowhere else.

That it is in no output and in no file, every test with the command asserts; here are the hard cases.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from tests.acceptance import exports
from tests.commands import KEY, QUICK, Propsync, until


@pytest.fixture
def job(tmp_path: Path) -> Path:
    exports.write_csv(tmp_path / "users.csv", 300, bad=(5,))
    return exports.write_job(tmp_path, source="users.csv")


def every_output(tmp_path: Path) -> tuple[str | Path, ...]:
    files = ("--report", tmp_path / "report.html", "--metrics-file", tmp_path / "run.prom")
    return ("--log-format", "json", *files)


def test_a_server_that_repeats_the_key_is_not_quoted(propsync: Propsync, job: Path, tmp_path: Path) -> None:
    options = SandboxOptions(api_keys=frozenset({"right"}), echo_key=True)
    with running_sandbox(options) as strict:
        finished = propsync("run", job, "--endpoint", strict.url, *QUICK, *every_output(tmp_path), "--json")
    assert finished.code == 5
    assert "Invalid API key: ***" in finished.err
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "run.prom").exists()
    assert (tmp_path / ".propsync" / "job" / "checkpoint.sqlite").exists()


def test_nothing_that_a_good_run_writes_holds_it(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    assert (
        propsync("run", job, "--endpoint", sandbox.url, *QUICK, *every_output(tmp_path), "--json").code == 3
    )
    for command in (("status", job), ("status", job, "--json"), ("check", job), ("preview", job)):
        propsync(*command)


@pytest.mark.parametrize("key", ["with&ampersand=1", "100%+plus/slash", '"quotes"and\\back'])
def test_a_key_of_strange_letters_arrives_as_it_is(
    propsync: Propsync, job: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMPLITUDE_API_KEY", key)
    with running_sandbox(SandboxOptions(api_keys=frozenset({key}))) as strict:
        finished = propsync("run", job, "--endpoint", strict.url, *QUICK)
    assert finished.code == 3
    assert key not in finished.out + finished.err


def test_a_key_of_strange_letters_is_not_quoted_either(
    propsync: Propsync, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = 'Strange"&%+Letters'
    monkeypatch.setenv("AMPLITUDE_API_KEY", key)
    with running_sandbox(SandboxOptions(api_keys=frozenset({"right"}), echo_key=True)) as strict:
        finished = propsync("run", job, "--endpoint", strict.url, *QUICK)
    assert finished.code == 5
    for shown in (key, key.replace('"', '\\"'), "Letters"):
        assert shown not in finished.out + finished.err


@pytest.mark.parametrize("place", ["variable", "file"])
def test_the_job_says_where_the_key_is(
    propsync: Propsync,
    job: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    if place == "file":
        path = tmp_path_factory.mktemp("keys") / "amplitude.key"
        path.write_text(f"  {KEY}\n")
        said = f"api_key_file: {path}\n"
    else:
        monkeypatch.setenv("OUR_AMPLITUDE", KEY)
        said = "api_key_env: OUR_AMPLITUDE\n"
    job.write_text(said + job.read_text())
    with running_sandbox(SandboxOptions(api_keys=frozenset({KEY}))) as strict:
        assert propsync("run", job, "--endpoint", strict.url, *QUICK).code == 3


def test_a_key_that_is_no_key_is_not_shown(
    propsync: Propsync, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMPLITUDE_API_KEY", f"{KEY} {KEY}")
    finished = propsync("run", job)
    assert finished.code == 2
    assert "AMPLITUDE_API_KEY" in finished.err


def test_an_endpoint_with_a_password_is_refused_and_not_shown(propsync: Propsync, job: Path) -> None:
    finished = propsync("run", job, "--endpoint", f"http://me:{KEY}@127.0.0.1:1")
    assert finished.code == 2
    assert "without a user or password" in finished.err


def test_it_is_in_no_argument_that_other_users_of_the_machine_could_read(
    propsync: Propsync, job: Path
) -> None:
    with (
        running_sandbox(SandboxOptions(latency=0.5)) as slow,
        propsync.begin("run", job, "--endpoint", slow.url, *QUICK, full=True) as running,
    ):
        until(lambda: slow.stats.requests > 0)
        assert KEY.encode() not in Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
        assert running.wait().code == 3


@pytest.mark.parametrize("command", ["run", "check", "preview", "baseline", "status"])
@pytest.mark.parametrize("where", ["source: ${{{}}}.csv", "destination: {{region: 'https://${{{}}}/'}}"])
def test_it_is_not_expanded_into_a_path_or_a_url(
    propsync: Propsync, job: Path, command: str, where: str
) -> None:
    job.write_text(f"{where.format('AMPLITUDE_API_KEY')}\n{exports.JOB}")
    finished = propsync(command, job)
    assert finished.code == 2
    assert "job.yml:1: " in finished.err
    assert "`${AMPLITUDE_API_KEY}`, which holds a secret" in finished.err


@pytest.mark.parametrize("place", ["variable", "file"])
def test_where_it_stands_in_a_name_all_the_same_it_is_blotted_out(
    propsync: Propsync,
    job: Path,
    tmp_path: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if place == "file":
        monkeypatch.delenv("AMPLITUDE_API_KEY")
        path = tmp_path_factory.mktemp("keys") / "amplitude.key"
        path.write_text(KEY)
        job.write_text(f"api_key_file: {path}\n{job.read_text()}")
    for more in (("--json",), ()):
        finished = propsync("run", job, f"{KEY}.csv", *every_output(tmp_path), *more)
        assert finished.code == 7
        assert "***.csv is not there" in finished.err
    assert "***.csv is not there" in (tmp_path / "report.html").read_text()
    assert propsync("check", job, f"{KEY}.csv").err.startswith("propsync: ***.csv is not there")
