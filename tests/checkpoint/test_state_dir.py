"""One run at a time; a dead one holds up nobody."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from etl.checkpoint import StateDir, publish_rejects, reject_lines
from etl.errors import ActiveRunError, StateError
from etl.model import Reject
from tests.checkpoint.builders import reject
from tests.examples import each_row

HOLD = """
import sys
from pathlib import Path
from etl.checkpoint import StateDir
folder = StateDir(Path(sys.argv[1]))
folder.prepare()
with folder.hold():
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str], number: int) -> None:
    os.kill(process.pid, number)
    process.wait()


def test_a_second_run_is_told_who_holds_it_since_when(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    folder = StateDir(tmp_path / "state")
    with pytest.raises(ActiveRunError, match=rf"process {holder.pid} on .* since 20"), folder.hold():
        pass
    assert f"process {holder.pid}" in str(folder.holder())
    end(holder, signal.SIGKILL)
    assert folder.holder() is None
    with folder.hold():
        assert f"process {os.getpid()}" in folder.lock.read_text().replace('"pid": ', "process ")


def test_who_only_looks_is_in_nobody_s_way(tmp_path: Path) -> None:
    """`status` takes the lock for a moment, and a run that begins just then waits for that moment."""
    folder = StateDir(tmp_path)
    folder.lock.touch()
    with ThreadPoolExecutor(1) as pool, folder.lock.open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        begun = pool.submit(lambda: folder.hold().__enter__())
        time.sleep(0.02)
        fcntl.flock(looking, fcntl.LOCK_UN)
        assert begun.result(10) > 0


def test_holding_ends_with_the_block(tmp_path: Path) -> None:
    folder = StateDir(tmp_path)
    for _ in range(2):
        with folder.hold():
            pass


def test_prepared_is_private_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = StateDir(tmp_path / "deep" / "state")
    folder.prepare()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert list(folder.path.iterdir()) == []
    with folder.hold():
        assert stat.S_IMODE(folder.lock.stat().st_mode) == 0o600


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match=r"can't be written.*file") as caught:
        StateDir(tmp_path / "file" / "state").prepare()
    assert "--state-dir" in str(caught.value)


@each_row("mode", [0o777, 0o770, 0o1777, 0o722, 0o755, 0o700])
def test_a_folder_that_others_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a state"
    path.mkdir()
    path.chmod(mode)
    if mode & 0o022:
        with pytest.raises(StateError, match="others can write to the state folder") as caught:
            StateDir(path).prepare()
        assert f"chmod go-w '{path}'" in str(caught.value.hint)
        assert list(path.iterdir()) == []
        path.chmod(mode & ~0o022)
    StateDir(path).prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused_unless_by_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    os.chown(path, 12345, -1)
    StateDir(path).prepare()
    monkeypatch.setattr(os, "geteuid", lambda: 23456)
    with pytest.raises(StateError, match=r"belongs to another user \(uid 12345\); this is uid 23456"):
        StateDir(path).prepare()


def test_the_lock_is_opened_without_following_a_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    folder = StateDir(tmp_path / "state")
    folder.prepare()
    folder.lock.symlink_to(precious)
    with pytest.raises(StateError, match="is a link"), folder.hold():
        pass
    assert folder.holder() is None
    assert precious.read_text() == "keep me"
    folder.lock.unlink()
    os.mkfifo(folder.lock)
    with pytest.raises(StateError, match="is not a file"), folder.hold():
        pass


def test_what_a_killed_process_was_writing_goes_and_nothing_else(tmp_path: Path) -> None:
    folder = StateDir(tmp_path)
    drafts = ["rejects.ndjson.new", "snapshot.arrow.new", "ids.arrow.new", "progress.json", "in_flight.new"]
    drafts += [f"checkpoint.sqlite.new{suffix}" for suffix in ("", "-wal", "-shm", "-journal")]
    drafts += ["snapshot-0123456789ab.arrow.new", "ids-0123456789ab.arrow.new"]  # of another destination
    kept = [
        *("rejects.ndjson", "snapshot.arrow", "rejects.ndjson.bak", "rejects.ndjsonab1_x9zq"),
        *("rejects.ndjson20240501", "fixed.new", "rejects.ndjson-fixed", "checkpoint.sqlite-wal"),
        "ids-0123456789ab.arrow",
    ]
    for name in (*drafts, *kept):
        (tmp_path / name).touch()
    with folder.hold():
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "lock"])


def test_a_line_has_the_six_keys_and_the_row_as_it_stood(tmp_path: Path) -> None:
    values = '{"id":"","note":"line\\u2028 \\"quoted\\"","n":1.50}'
    publish_rejects(tmp_path / "rejects.ndjson", [reject(7, values=values)], run=3)
    [line] = (tmp_path / "rejects.ndjson").read_text().split("\n")[:-1]
    assert list(json.loads(line)) == ["source", "row", "code", "reason", "values", "run"]
    assert line.endswith(f'"values":{values},"run":3}}')


def test_the_origin_of_a_row_that_was_rejected_before_is_in_its_line() -> None:
    (line,) = reject_lines([replace(reject(7), origin="users.csv:3")], run=3)
    assert json.loads(line)["origin"] == "users.csv:3"


def test_none_make_an_empty_file(tmp_path: Path) -> None:
    publish_rejects(tmp_path / "rejects.ndjson", [], run=3)
    assert (tmp_path / "rejects.ndjson").read_bytes() == b""


def test_a_failure_half_way_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rejects.ndjson"
    publish_rejects(path, [reject(1)], run=3)
    before = path.read_bytes()

    def breaking() -> Iterator[Reject]:
        yield reject(1)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        publish_rejects(path, breaking(), run=3)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    publish_rejects(tmp_path / "rejects.ndjson", [reject(1)], run=3)
    assert stat.S_IMODE((tmp_path / "rejects.ndjson").stat().st_mode) == 0o600


KILLED = """
import os, signal, sys
from pathlib import Path
from etl.checkpoint import publish_rejects
from etl.model import Reject
def rejects():
    yield Reject("users.csv", 1, "bad_number", "", '{"mail":"ada@example.com"}')
    os.kill(os.getpid(), signal.SIGKILL)
publish_rejects(Path(sys.argv[1]), rejects(), run=1)
"""


def test_a_kill_leaves_one_unfinished_file_and_the_next_run_removes_it(tmp_path: Path) -> None:
    folder = StateDir(tmp_path)
    (tmp_path / "rejects.ndjson.new").write_text("what an earlier kill left")
    subprocess.run([sys.executable, "-c", KILLED, str(folder.rejects)], check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["rejects.ndjson.new"]
    with folder.hold():
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    for name in ("rejects.ndjson", "rejects.ndjson.new"):
        (tmp_path / name).symlink_to(precious)
    publish_rejects(tmp_path / "rejects.ndjson", [reject(1)], run=3)
    assert precious.read_text() == "keep me"
    assert not (tmp_path / "rejects.ndjson").is_symlink()
