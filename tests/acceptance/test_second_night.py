"""The second night in processes that are killed: what changed arrives, and nothing else."""

from __future__ import annotations

import csv
import json
import os
import pkgutil
import shutil
import signal
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from etl.sandbox import Sandbox
from tests.acceptance import exports
from tests.acceptance.sending import holds_the_law
from tests.acceptance.test_killed import kill_after, run
from tests.commands import KEY, Propsync
from tests.forking import forks

ROWS, MANY = 1_000, 8_000


def edit(path: Path, places: range, **values: object) -> dict[str, dict[str, object]]:
    """Give some rows of a CSV file other values; these, by user."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for place in places:
        rows[place] |= {name: str(value) for name, value in values.items()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return {rows[place]["id"]: dict(values) for place in places}


def arrived(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    return {user: profile.properties for user, profile in sandbox.profiles.users.items()}


@pytest.fixture
def recorded(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> Path:
    """A job whose export lies beside it as users.csv, and is known by now."""
    return record(propsync, sandbox, tmp_path, ROWS)


@pytest.fixture
def many_recorded(propsync: Propsync, sandbox: Sandbox, tmp_path: Path) -> Path:
    """The same with so many rows that a run of them can be killed halfway."""
    return record(propsync, sandbox, tmp_path, MANY)


def record(propsync: Propsync, sandbox: Sandbox, folder: Path, rows: int) -> Path:
    exports.write_csv(folder / "users.csv", rows)
    job = exports.write_job(folder, source="users.csv")
    finished = propsync("baseline", job, "--endpoint", sandbox.url, "--json")
    assert finished.code == 0
    assert finished.summary["entries"] == rows
    return job


# --- kill -9 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [pytest.param("1", marks=pytest.mark.soak), "2"])
def test_killed_again_and_again_exactly_what_changed_arrives(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, many_recorded: Path, processes: str
) -> None:
    expected = edit(tmp_path / "users.csv", range(0, MANY, 2), plan="other")
    sandbox.change(latency="20ms")
    for requests in (2, 8):
        kill_after(propsync, sandbox, many_recorded, requests, processes)
    sandbox.change(latency="0ms")
    finished = propsync.process(*run(sandbox, many_recorded), "--processes", processes)
    assert finished.code == 0
    assert finished.summary["accepted"] == finished.summary["unchanged"] == MANY // 2
    assert 0 < finished.summary["resumed_rows"] < MANY
    assert holds_the_law(finished.summary)
    assert arrived(sandbox) == expected
    # What came twice came as it was: all bodies that ever came have each user once.
    bodies = {entry.sha256: entry.identifications for entry in sandbox.requests}
    assert sum(bodies.values()) == MANY // 2
    again = propsync(*run(sandbox, many_recorded))
    assert (again.summary["unchanged"], again.summary["requests"]) == (MANY, 0)


END = {
    "the rejects are written": "etl.pipeline.run.publish_rejects",
    "the snapshot is begun": "etl.snapshot.file.SnapshotWriter.__enter__",
    "the snapshot is renamed": "pathlib.Path.replace",
    "the snapshot is written": "etl.snapshot.file.SnapshotWriter.finish",
    "the run is finished": "etl.checkpoint.store.Checkpoint.finish",
}


# Between the end of one and the beginning of the next, hardly anything is done.
@pytest.mark.parametrize(
    ("point", "after"),
    [
        *((point, False) for point in END),
        ("the run is finished", True),
        *(pytest.param(point, True, marks=pytest.mark.soak) for point in list(END)[:-1]),
    ],
)
def test_killed_at_its_end_it_ends_all_the_same(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, recorded: Path, point: str, after: bool
) -> None:
    expected = edit(tmp_path / "users.csv", range(100), plan="other")
    expected |= edit(tmp_path / "users.csv", range(100, 101), score="much")
    process = forks().Process(target=_die, args=(run(sandbox, recorded), tmp_path, point, after))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    requests = sandbox.stats.requests
    finished = propsync(*run(sandbox, recorded))
    if not (after and point == "the run is finished"):
        assert finished.summary["resumed_rows"] == ROWS
        assert sandbox.stats.requests == requests
    assert finished.code == 3
    rejects = (tmp_path / ".propsync" / "job" / "rejects.ndjson").read_text().splitlines()
    assert [json.loads(line)["code"] for line in rejects] == ["bad_number"]
    del expected["user-000101"]
    assert arrived(sandbox) == expected
    assert propsync(*run(sandbox, recorded)).summary["requests"] == 0
    assert not list((tmp_path / ".propsync" / "job").glob("*.new"))


def _die(arguments: tuple[object, ...], folder: Path, point: str, after: bool) -> None:
    """Run the command in this process until it is killed before or after a call."""
    from etl.__main__ import run_command_line

    os.environ["AMPLITUDE_API_KEY"] = KEY
    os.chdir(folder)
    whole = pkgutil.resolve_name(END[point])

    def dying(*given: Any, **named: Any) -> Any:
        state = Path(folder, ".propsync", "job")
        begins = given[:1] in {
            (state / f"{name}.new",)
            for name in ("checkpoint.sqlite", "in_flight", "job.json", "progress.json")
        }
        found = whole(*given, **named) if after or begins else None
        if not begins:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    with patch(END[point], dying):
        run_command_line([str(argument) for argument in arguments])


# --- the state folder ------------------------------------------------------------------------------------


def state(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / ".propsync" / "job").iterdir()}


def test_7_for_a_snapshot_that_is_gone_while_a_run_is_unfinished(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, many_recorded: Path
) -> None:
    edit(tmp_path / "users.csv", range(0, MANY, 2), plan="other")
    sandbox.change(latency="20ms")
    kill_after(propsync, sandbox, many_recorded, 3)
    sandbox.change(latency="0ms")
    snapshot = tmp_path / ".propsync" / "job" / "snapshot.arrow"
    shutil.move(snapshot, tmp_path / "elsewhere")
    finished = propsync(*run(sandbox, many_recorded))
    assert finished.code == 7
    assert "another snapshot" in finished.err
    assert "--restart" in finished.err
    # Brought back, it is taken up.
    shutil.move(tmp_path / "elsewhere", snapshot)
    assert propsync(*run(sandbox, many_recorded)).summary["accepted"] == MANY // 2


def test_7_for_a_damaged_snapshot(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, recorded: Path
) -> None:
    snapshot = tmp_path / ".propsync" / "job" / "snapshot.arrow"
    snapshot.write_bytes(snapshot.read_bytes()[:1000])
    for command in (run(sandbox, recorded), ("check", recorded, "--endpoint", sandbox.url)):
        finished = propsync(*command)
        assert finished.code == 7
        assert "snapshot.arrow is damaged" in finished.err
        assert "delete the file" in finished.err
    assert sandbox.stats.requests == 0


def test_check_and_dry_run_say_what_changes_and_touch_nothing(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, recorded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(tmp_path / "users.csv", range(3, 8), plan="other")
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    before = state(tmp_path)
    told = [
        propsync(*words, recorded, "--endpoint", sandbox.url, "--json")
        for words in (("check",), ("run", "--dry-run"))
    ]
    assert state(tmp_path) == before
    assert [finished.code for finished in told] == [0, 0]
    # Both say when a run would end if it began now, and a second may pass between the two.
    first, second = (finished.out.replace(finished.summary["ends_at"], "", 1) for finished in told)
    assert first == second
    changes = told[0].summary["changes"]
    assert [changes[name] for name in ("new", "changed", "unchanged")] == [0, 5, ROWS - 5]
    assert changes["by_property"] == {
        "$set.plan": {
            "changed": 5,
            "new": 0,
            "examples": [{"user": f"user-{n:06}", "old": "unknown", "new": "other"} for n in (4, 5, 6)],
        }
    }
    assert told[0].summary["requests"] == 1
    assert sandbox.stats.requests == 0


def test_4_before_anything_is_sent_when_too_many_changed(
    propsync: Propsync, sandbox: Sandbox, tmp_path: Path, recorded: Path
) -> None:
    edit(tmp_path / "users.csv", range(ROWS), plan="other")
    finished = propsync(*run(sandbox, recorded))
    assert finished.code == 4
    assert f"{ROWS:,} of {ROWS:,} known users changed" in finished.err
    assert "--max-changes 100%" in finished.err
    assert sandbox.stats.requests == 0
    assert propsync(*run(sandbox, recorded), "--max-changes", "100%").summary["accepted"] == ROWS


def test_a_baseline_needs_no_key(
    propsync: Propsync, sandbox: Sandbox, job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AMPLITUDE_API_KEY")
    assert "200 users in the snapshot" in propsync("baseline", job, "--endpoint", sandbox.url).out
