"""Who is told of a run, of what, and that telling never changes the run; judged by what arrived."""

from __future__ import annotations

import builtins
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import send
from tests.acceptance.test_every_end import ENDS, Night
from tests.acceptance.test_every_end import night as night
from tests.commands import Propsync
from tests.serving import Receiver, running_receiver

TOKEN = "/hooks/T0123/verySecretToken"
PASSED = {0, 3}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.mark.parametrize("end", [name for name, end in ENDS.items() if "option" not in name])
def test_a_monitor_is_told_of_every_end(night: Night, receiver: Receiver, end: str) -> None:
    prepare, code, _, _ = ENDS[end]
    finished = night(*prepare(night), "--notify", f"{receiver.url}{TOKEN}?k=1")
    *before, last = receiver.requests
    assert [request.path for request in before] in ([], [f"{TOKEN}/start?k=1"])
    assert last.path == (f"{TOKEN}?k=1" if code in PASSED else f"{TOKEN}/fail?k=1")
    assert last.data == finished.summary
    assert finished.code == code
    assert TOKEN not in finished.out + finished.err
    holders = [
        path for path in night.folder.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    assert holders == []


@pytest.mark.parametrize("words", [("--rate", "fast"), ("--rtae", "5")])
def test_a_wrong_command_line_is_told(night: Night, receiver: Receiver, words: tuple[str, ...]) -> None:
    finished = night("--notify", receiver.url + TOKEN, *words)
    assert receiver.paths == [f"{TOKEN}/fail"]
    assert receiver.requests[0].data == finished.summary
    assert TOKEN not in finished.out + finished.err


def test_the_start_is_told_first(night: Night, receiver: Receiver) -> None:
    night("--notify", f"{receiver.url}/check/")
    assert receiver.paths == ["/check/start", "/check"]
    start = receiver.requests[0]
    assert start.headers["content-type"] == "application/json"
    assert start.data == {
        "status": "started",
        "job": "job",
        "endpoint": night.sandbox.url,
        "total_rows": None,
        "resumed_rows": 0,
    }


NIGHTS = ("good", "good", "away", "active", "away", "good", "good")


@pytest.mark.parametrize(
    ("when", "told"),
    [
        (None, ["stopped", "finished"]),
        ("change", ["stopped", "finished"]),
        ("failure", ["stopped", "stopped", "stopped"]),
        ("always", ["finished", "finished", "stopped", "stopped", "stopped", "finished", "finished"]),
    ],
)
def test_nights_are_told_as_asked(
    propsync: Propsync, sandbox: Sandbox, job: Path, receiver: Receiver, when: str | None, told: list[str]
) -> None:
    from etl.checkpoint import StateDir

    exports.write_csv(job.parent / "users.csv", 5)
    asked = (
        "--notify",
        f"webhook+{receiver.url}{TOKEN}",
        *(("--notify-when", when) if when else ()),
        "--full",
    )
    for number, night_ in enumerate(NIGHTS):
        for record in (job.parent / ".propsync" / "job" / "runs").glob("*[0-9]T??????-*.json"):
            # Several nights in one second, and of one process, have a record each.
            if "T000000-" not in record.name:
                record.rename(record.with_name(f"{record.name[:8]}T000000-{number}.json"))
        if night_ == "active":
            with StateDir(job.parent / ".propsync" / "job").hold():
                assert send(propsync, sandbox, job, *asked).code == 6
        else:
            sandbox.change(outage="503" if night_ == "away" else None)
            code = send(propsync, sandbox, job, *asked, "--max-outage", "0.1s").code
            assert code == (5 if night_ == "away" else 0)
    assert [request.data["summary"]["status"] for request in receiver.requests] == told
    assert set(receiver.paths) == {TOKEN}
    texts = [request.data["text"] for request in receiver.requests]
    if when in {None, "change"}:
        assert texts[0].startswith("job: stopped, exit code 5\n")
        assert texts[0].count("\n") >= 2  # the reason and the hint
        assert texts[1] == (
            "job: finished\n5 rows, 5 accepted, 0 unchanged, 0 merged, 0 rejected\nThe run before had failed."
        )


def test_a_job_file_and_a_variable_name_it(
    propsync: Propsync, sandbox: Sandbox, job: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports.write_csv(job.parent / "users.csv", 5)
    job.write_text(f"{job.read_text()}run: {{notify: '{receiver.url}/file', notify_when: always}}\n")
    assert propsync("check", job, "--endpoint", sandbox.url).code == 0
    assert send(propsync, sandbox, job).code == 0
    monkeypatch.setenv("PROPSYNC_NOTIFY", f"{receiver.url}/variable")
    assert send(propsync, sandbox, job).code == 0
    assert receiver.paths == ["/file/start", "/file", "/variable/start", "/variable"]
    assert send(propsync, sandbox, job, "--dry-run").code == 0
    assert len(receiver.paths) == 4


def test_a_second_try_is_enough(night: Night, receiver: Receiver) -> None:
    receiver.statuses = [500, 200, 503]
    finished = night("--notify", f"{receiver.url}/check")
    assert receiver.paths == ["/check/start", "/check/start", "/check", "/check"]
    assert "not delivered" not in finished.err


@pytest.mark.parametrize("statuses", [[404, 404], [200, 301, 301]])
def test_a_failure_is_a_warning(night: Night, receiver: Receiver, statuses: list[int]) -> None:
    receiver.statuses = [*statuses]
    finished = night("--notify", receiver.url + TOKEN)
    assert finished.code == 3
    (warning,) = [json.loads(line) for line in finished.err.splitlines() if "listener_failed" in line]
    assert warning["message"] == f"a notification was not delivered: 127.0.0.1 answered {statuses[-1]}"
    assert TOKEN not in finished.err


def test_nobody_listens(night: Night) -> None:
    with running_receiver() as gone:
        pass
    finished = night("--notify", gone.url + TOKEN)
    assert finished.code == 3
    assert "a notification was not delivered: no connection to 127.0.0.1: connection refused" in finished.err


def test_a_run_waits_for_nobody_for_long(
    night: Night, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("etl.listeners.notifier._SECONDS", 1.0)
    monkeypatch.setattr("etl.listeners.notifier._START_SECONDS", 0.4)
    receiver.delay, began = 30.0, time.monotonic()
    finished = night("--notify", receiver.url)
    assert finished.code == 3
    assert time.monotonic() - began < 25  # how long it takes says most of all how busy the machine is
    assert "a notification was not delivered: no answer from 127.0.0.1" in finished.err


@pytest.mark.parametrize(
    "url", ["https://", "http://host:port/secretPath", "http://ho st/secretPath", "nonsense-secretPath"]
)
@pytest.mark.parametrize("where", ["option", "file"])
def test_a_url_that_is_none_is_refused_and_not_shown(
    propsync: Propsync, sandbox: Sandbox, job: Path, url: str, where: str
) -> None:
    if where == "file":
        job.write_text(f"{job.read_text()}run: {{notify: '{url}'}}\n")
    finished = send(propsync, sandbox, job, *(("--notify", url) if where == "option" else ()))
    assert finished.code == 2
    assert "the URL to notify" in finished.err
    assert "secretPath" not in finished.out + finished.err
    assert not sandbox.profiles.users


def test_the_command_to_resume_does_not_show_it(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(outage="503")
    with running_receiver() as receiver:
        url = f"{receiver.url}{TOKEN}"
        finished = send(propsync, sandbox, job, "--notify", url, "--max-outage", "0.1s")
    assert "to resume it: propsync run" in finished.err
    assert TOKEN not in finished.out + finished.err


def test_other_kinds_go_through_apprise(
    propsync: Propsync, sandbox: Sandbox, job: Path, receiver: Receiver
) -> None:
    pytest.importorskip("apprise")
    url = receiver.url.replace("http://", "json://") + TOKEN
    gone = send(propsync, sandbox, job, "gone.csv", "--notify", url)
    assert gone.code == 7
    (request,) = receiver.requests
    assert request.data["title"] == "job: stopped, exit code 7"
    assert "gone.csv is not there" in request.data["message"]
    receiver.statuses = [500, 500]
    failed = send(propsync, sandbox, job, "gone.csv", "--notify", url, "--notify-when", "always")
    assert failed.code == 7
    assert "a notification was not delivered: Apprise could not deliver it" in failed.err
    assert TOKEN not in gone.err + failed.err


def test_without_apprise_nothing_is_sent(
    propsync: Propsync, sandbox: Sandbox, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imports = builtins.__import__

    def without(name: str, *others: Any, **more: Any) -> Any:
        if name == "apprise":
            raise ImportError(name)
        return imports(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    finished = send(propsync, sandbox, job, "--notify", "tgram://botSecret/chat")
    assert finished.code == 2
    assert "pip install 'propsync[notify]'" in finished.err
    assert "botSecret" not in finished.err
    assert not sandbox.profiles.users
