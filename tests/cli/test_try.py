"""`propsync try`: a source becomes a job, a run into a sandbox of its own, and a page; nothing is left."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.commands import Propsync, until

USERS = """customer_id,email,plan,mrr_usd
user-1001,ada@example.com,pro,49.00
user-1002,grace@example.com,free,
user-1001,ada@example.com,team,99.00
"""


@pytest.fixture(autouse=True)
def temp_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("temp")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def users(tmp_path: Path) -> Path:
    (tmp_path / "users.csv").write_text(USERS, encoding="utf-8")
    return tmp_path / "users.csv"


def test_it_shows_before_and_after_and_leaves_nothing(
    propsync: Propsync, users: Path, temp_folder: Path
) -> None:
    finished = propsync("try", "users.csv")
    assert finished.code == 0, finished.err
    assert "3 rows: 2 accepted, 0 unchanged, 1 merged, 0 rejected" in finished.out
    assert ["mrr_usd", "mrr_usd", "49.00", "99.0"] in [line.split() for line in finished.out.splitlines()]
    assert "propsync init users.csv -o job.yml\n  AMPLITUDE_API_KEY=... propsync run job.yml" in finished.out
    assert "127.0.0.1" not in finished.out  # it has ended
    assert [path.name for path in users.parent.iterdir()] == ["users.csv"]
    assert not list(temp_folder.iterdir())


def test_its_commands_work_for_a_file_whose_name_begins_with_a_dash(propsync: Propsync, users: Path) -> None:
    users.rename(users.with_name("-a file.csv"))
    finished = propsync("try", "--", "-a file.csv")
    assert finished.code == 0, finished.err
    command = next(line for line in finished.out.splitlines() if "propsync init" in line)
    assert propsync(*shlex.split(command)[1:]).code == 0
    assert propsync("check", "job.yml").code == 0


def test_the_job_file_is_kept_if_asked_for_and_runs(propsync: Propsync, users: Path) -> None:
    finished = propsync("try", "users.csv", "-o", "job.yml", "--limit", "1")
    assert finished.code == 0, finished.err
    assert "1 row (more are in the source; see --limit)" in finished.out
    assert "user-1002" not in finished.out  # it is beyond the limit, and not lost
    assert "for the real thing:\n  AMPLITUDE_API_KEY=... propsync run job.yml" in finished.out
    assert sorted(path.name for path in users.parent.iterdir()) == ["job.yml", "users.csv"]
    assert propsync("check", "job.yml").code == 0
    assert "exists already" in propsync("try", "users.csv", "-o", "job.yml").err


def test_on_a_terminal_the_page_stays_until_ctrl_c(
    propsync: Propsync, users: Path, temp_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[str] = []

    def visit(url: str) -> None:
        for path in ("/", "/user?id=user-1001"):
            with urllib.request.urlopen(url + path, timeout=10) as answer:
                pages.append(answer.read().decode())
        pages.append(url)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("webbrowser.open", visit)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    finished = propsync("try", "users.csv")
    assert finished.code == 0, finished.err
    overview, profile, url = pages
    assert "3 rows: 2 accepted" in overview
    assert "propsync run job.yml" in overview
    assert "49.00" in profile
    assert "99.0<" in profile
    assert f"{url} until Ctrl-C" in finished.out
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=10)
    assert not list(temp_folder.iterdir())


def test_a_file_that_is_not_there_is_told(propsync: Propsync, temp_folder: Path) -> None:
    finished = propsync("try", "nothing.csv")
    assert finished.code == 7
    assert "nothing.csv" in finished.err
    assert not list(temp_folder.iterdir())


def test_rejects_are_counted_and_decide_the_exit_code(propsync: Propsync, users: Path) -> None:
    rows = "".join(f"user-{number},pro\n" for number in range(50))
    users.write_text(f"customer_id,plan\n{rows},pro\n", encoding="utf-8")
    finished = propsync("try", "users.csv")
    assert "rejected: 1 missing_id" in finished.out
    assert finished.code == 3


def test_if_nothing_arrives_there_is_no_table(propsync: Propsync, users: Path) -> None:
    users.write_text("customer_id,plan\n1.23E+15,pro\n")
    finished = propsync("try", "users.csv")
    assert finished.code == 3
    assert "rejected: 1 mangled_id; `propsync check` shows them\n\nfor the real thing:" in finished.out


def test_stopped_while_it_sends_it_says_so_and_leaves_nothing(
    propsync: Propsync, users: Path, temp_folder: Path
) -> None:
    rows = (f"user-{number},a@example.com,free,{number}" for number in range(60_000))
    users.write_text("\n".join(["customer_id,email,plan,mrr_usd", *rows, ""]))
    with propsync.begin("try", "users.csv", environment={"TMPDIR": str(temp_folder)}) as running:
        until(lambda: any(temp_folder.glob("*/state/checkpoint.sqlite")))
        running.send(signal.SIGTERM)
        stopped = running.wait()
    assert (stopped.code, stopped.err.splitlines()[-1]) == (130, "propsync: interrupted")
    assert "Traceback" not in stopped.err
    assert not list(temp_folder.glob("propsync-*"))
