"""`--processes 2`: one process reads, another sends; to the user it is one run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import holds_the_law
from tests.commands import QUICK, Propsync, until
from tests.examples import combinations, rarely
from tests.reader.web_server import Behaviour, serving

ROWS = 5_000
LIMITS = ("--batch-size", "100", "--concurrency", "4")


def run(sandbox: Sandbox, job: Path, processes: str = "2") -> tuple[str | Path, ...]:
    return ("run", job, "--endpoint", sandbox.url, *QUICK, *LIMITS, "--json", "--processes", processes)


def children(parent: int) -> list[int]:
    """The processes below one."""
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def job(tmp_path: Path) -> Path:
    exports.write_csv(tmp_path / "users.csv", ROWS, bad=(7, 3_000))
    return exports.write_job(tmp_path, source="users.csv")


def test_two_send_what_one_sends(propsync: Propsync, sandbox: Sandbox, job: Path) -> None:
    sandbox.change(poison_users=["user-000123"])
    two = propsync.process(*run(sandbox, job))
    bodies = sorted(entry.sha256 for entry in sandbox.requests)
    rejects = (job.parent / ".propsync" / "job" / "rejects.ndjson").read_bytes()
    one = propsync.process(*run(sandbox, job, "1"), "--state-dir", "one")
    assert sorted([*bodies, *bodies]) == sorted(entry.sha256 for entry in sandbox.requests)
    assert (two.code, one.code) == (3, 3)
    times = {"seconds": 0, "seconds_by": {}, "answer_seconds": {}, "time_spent": None}
    assert two.summary | times == one.summary | times
    assert rejects == (job.parent / "one" / "rejects.ndjson").read_bytes()
    assert rejects.count(b"\n") == 3


def test_the_second_ends_with_the_first_and_holds_no_lock(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    sandbox.change(outage="stall")
    with propsync.begin(*run(sandbox, job)) as running:
        until(lambda: sandbox.stats.requests >= 1)
        (child,) = children(running.process.pid)
        running.kill()
        sandbox.end_outage()
        finished = propsync(*run(sandbox, job))
    until(lambda: not alive(child))
    assert finished.code == 3
    assert finished.summary["accepted"] == len(sandbox.profiles) == ROWS - 2


def test_a_reader_that_dies_is_told_and_the_run_taken_up(
    propsync: Propsync, sandbox: Sandbox, job: Path
) -> None:
    sandbox.change(latency="100ms")
    with propsync.begin(*run(sandbox, job)) as running:
        until(lambda: sandbox.stats.requests >= 1)
        for child in children(running.process.pid):
            os.kill(child, signal.SIGKILL)
        died = running.wait()
    sandbox.change(latency="0ms")
    finished = propsync.process(*run(sandbox, job))
    # Whether it had handed over everything by then is chance; it never ends in silence.
    assert died.code == 3 or (died.code == 7 and "ended early" in died.err)
    assert finished.code == 3
    assert finished.summary["accepted"] + finished.summary["unchanged"] == ROWS - 2
    assert len(sandbox.profiles) == ROWS - 2
    assert holds_the_law(finished.summary)


def test_what_it_meets_in_the_source_is_told_as_ever(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    path = exports.write_parquet(tmp_path / "users.parquet", ROWS, group_rows=500)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2_000] = os.urandom(2_000)
    path.write_bytes(data)
    job = exports.write_job(tmp_path, source=path.name)
    found = {count: propsync.process(*run(sandbox, job, count), "--restart") for count in ("1", "2")}
    assert found["2"].code == found["1"].code == 7
    one, two = ([line for line in found[n].err.splitlines() if "can't be read" in line] for n in "12")
    assert one == two != []


@pytest.mark.parametrize("number", [signal.SIGINT, *rarely(signal.SIGTERM)])
def test_ctrl_c_is_for_both(propsync: Propsync, sandbox: Sandbox, job: Path, number: signal.Signals) -> None:
    sandbox.change(latency="100ms")
    with propsync.begin(*run(sandbox, job), before=os.setsid) as running:
        until(lambda: sandbox.stats.requests >= 6)
        (child,) = children(running.process.pid)
        os.killpg(running.process.pid, number)  # as a terminal does
        stopped = running.wait()
    assert stopped.code == 130
    assert not alive(child)
    assert stopped.summary["accepted"] == len(sandbox.profiles)


TRANSFORM = """
import sys, threading

class Unlike(BaseException):
    def __init__(self, one, other):
        super().__init__(one)
        self.lock = threading.Lock()

def ranked(frame):
    return frame.assign(rank=frame["plan"].rank(method="first").astype("int64"), rows=len(frame))

def leaving(frame):
    sys.exit("enough")

def unlike(frame):
    raise Unlike("enough", 2)
"""


def transforming(tmp_path: Path, function: str) -> Path:
    (tmp_path / "functions_of_ours.py").write_text(TRANSFORM)
    lines = "".join(f"user-{number:06d},plan {number % 7}\n" for number in range(9_000))
    (tmp_path / "users.csv").write_text(f"id,plan\n{lines}")
    job = tmp_path / "job.yml"
    job.write_text(
        f"source: users.csv\ntransform: functions_of_ours:{function}\n"
        "identification: {user_id: id, user_properties: {rank: rank, rows: rows}}\n"
    )
    return job


def test_the_second_gives_a_transform_the_frames_that_the_first_would(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    job = transforming(tmp_path, "ranked")
    two = propsync.process(*run(sandbox, job), "--batch-size", "1000")
    bodies = sorted(entry.sha256 for entry in sandbox.requests)
    one = propsync(*run(sandbox, job, "1"), "--batch-size", "1000", "--state-dir", "one")
    assert sorted([*bodies, *bodies]) == sorted(entry.sha256 for entry in sandbox.requests)
    assert (two.code, one.code) == (0, 0)
    assert two.summary["accepted"] == 9_000


@pytest.mark.parametrize(
    ("processes", "left"), combinations(["1", "2"], [("leaving", "SystemExit"), ("unlike", "Unlike")])
)
def test_a_transform_that_leaves_is_one_error(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, left: tuple[str, str], processes: str
) -> None:
    function, error = left
    command = propsync.process if processes == "2" else propsync
    ended = command(*run(sandbox, transforming(tmp_path, function), processes))
    assert ended.code == 7
    assert ended.err.count("the job's transform") == 1
    assert f"{function} failed: {error}: enough (users.csv, rows 1 to 8192)" in ended.err
    assert ended.summary["status"] == "stopped"  # told once, by one process
    assert sandbox.stats.requests == 0


def test_a_source_from_the_web_can_be_read_by_the_second(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path
) -> None:
    data = exports.write_csv(tmp_path / "users.csv", ROWS).read_bytes()
    with serving(Behaviour(data, breaks=[70_000])) as address:
        job = exports.write_job(tmp_path, source=address)
        sandbox.change(latency="50ms")
        with propsync.begin(*run(sandbox, job)) as running:
            until(lambda: sandbox.stats.requests >= 1)
            assert len(children(running.process.pid)) == 1
            finished = running.wait()
    assert finished.code == 0
    assert len(sandbox.profiles) == ROWS
