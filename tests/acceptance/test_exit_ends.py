"""Exit codes 0, 3 and 4: the run came to an end of its own, and says which."""

from __future__ import annotations

from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import holds_the_law, send
from tests.commands import Propsync


def test_0_when_every_row_arrived(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    assert send(propsync, sandbox, job).code == 0


def test_3_when_rows_were_handed_back(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 20, bad=(7, 8))
    finished = send(propsync, sandbox, job)
    assert finished.code == 3
    assert "rejects: " + str(tmp_path / ".propsync" / "job" / "rejects.ndjson") in finished.err


def test_3_when_the_server_refused_rows(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(poison_users=["user-000100"], poison_status=403)
    finished = send(propsync, sandbox, job, "--json")
    assert finished.code == 3
    assert finished.summary["accepted"] == len(sandbox.profiles) == 199


@pytest.mark.parametrize("content", ["", "id,plan,score\n"])
def test_0_when_there_is_nothing_to_send(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, content: str
) -> None:
    (tmp_path / "users.csv").write_text(content)
    finished = send(propsync, sandbox, job, "--json")
    assert finished.code == 0
    assert finished.summary["rows"] == sandbox.stats.requests == 0


@pytest.mark.parametrize(("limit", "bad", "code"), [("0", 1, 4), ("1", 1, 3), ("1%", 11, 4), ("1%", 10, 3)])
def test_4_for_more_rejects_than_allowed(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path, limit: str, bad: int, code: int
) -> None:
    exports.write_csv(tmp_path / "users.csv", 1_000, bad=tuple(range(1, bad + 1)))
    finished = send(propsync, sandbox, job, "--max-rejects", limit, "--json")
    assert finished.code == code
    assert holds_the_law(finished.summary)
    assert finished.summary["status"] == ("stopped" if code == 4 else "finished")
    assert ("--max-rejects" in finished.err.split("propsync: ")[-1]) == (code == 4)


def test_4_is_taken_up_with_a_higher_limit(
    propsync: Propsync, sandbox: Sandbox, job: Path, tmp_path: Path
) -> None:
    exports.write_csv(tmp_path / "users.csv", 200, bad=(3, 180))
    assert send(propsync, sandbox, job, "--max-rejects", "0").code == 4
    finished = send(propsync, sandbox, job, "--max-rejects", "2", "--json")
    assert finished.code == 3
    assert finished.summary["rows"] == 200
    assert len(sandbox.profiles) == 198
