"""A failed night is not an obstacle to the next one, which sends what changed since the last good one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from etl.amplitude.responses import Verdict
from etl.checkpoint import database, in_flight_file, store
from etl.checkpoint.in_flight_file import InFlightFile
from etl.errors import DestinationError, StaleCheckpointError, TooManyRejectsError
from etl.job.spec import Job
from etl.model import Body
from etl.pipeline import diff_base, resume, run_inputs, status
from etl.pipeline import run as run_module
from etl.pipeline.run import no_listener, run_job
from etl.pipeline.settings import RejectLimit, Settings
from etl.reader import open_source
from etl.run_events import Event, Listener, Noted, Started, Summary, Warned
from etl.sandbox import Sandbox, SandboxOptions, running_sandbox
from etl.sender.transports import HttpTransport
from etl.snapshot import KnownIds
from tests.examples import combinations
from tests.pipeline.making import KEY, QUICK
from tests.pipeline.nights import (
    KilledError,
    arrived,
    held,
    job_in,
    killed,
    night,
    quiet,
    send,
    users,
    write,
)

KNOWN = 200
COUNTING = {"user_id": "id", "user_properties": {"$set": {"plan": "plan"}, "$add": {"points": "score"}}}


@pytest.fixture
def strict() -> Iterator[Sandbox]:
    """A sandbox that takes one key only."""
    with running_sandbox(SandboxOptions(record=True, api_keys=frozenset([KEY]))) as sandbox:
        yield sandbox


@contextmanager
def no_farewell() -> Iterator[None]:
    """Processes that end as by `kill -9`: what is in flight isn't tidied up."""

    def gone(self: InFlightFile, *_: object) -> None:
        os.close(self._file)

    with patch.object(InFlightFile, "__exit__", gone):
        yield


@contextmanager
def dying_after(requests: int) -> Iterator[None]:
    """Die as by `kill -9` when so many requests were applied, before the last one's answer is heard."""
    whole, left = HttpTransport.post, [requests]

    async def post(self: HttpTransport, request: Body) -> Verdict:
        verdict = await whole(self, request)
        left[0] -= 1
        if left[0] == 0:
            raise KilledError
        return verdict

    with no_farewell(), patch.object(HttpTransport, "post", post):
        yield


@contextmanager
def dying_at(step: str) -> Iterator[None]:
    """Die as by `kill -9` at a step of the beginning."""

    def before(*arguments: Any, **named: Any) -> Any:
        raise KilledError

    def after(whole: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            whole(*arguments, **named)
            raise KilledError

        return call

    keep = diff_base.keep_accepted
    name, owner, other = {
        "keep": ("keep_accepted", resume, before),
        "kept": ("keep_accepted", resume, after(keep)),
        "create": ("create_database", store, before),
        "created": ("create_database", store, after(database.create_database)),
        "begin": ("__init__", InFlightFile, before),
    }[step]
    with patch.object(owner, name, other):
        yield


def known_ids(job: Job) -> list[str]:
    with KnownIds.open(job.state_dir / "ids.arrow") or pytest.fail("no ids") as known:
        return list(known.between(0, 2**64).column("id").to_pylist())


def second(job: Job) -> list[dict[str, Any]]:
    """The export of a second night, in which a tenth changed."""
    return [*users(range(40), plan="second"), *users(range(40, KNOWN))]


def third(job: Job) -> list[dict[str, Any]]:
    """That of a third night: it changed others, and has what the second changed as it was before."""
    return [*users(range(160)), *users(range(160, KNOWN), plan="third")]


def wrong_key(job: Job, sandbox: Sandbox) -> None:
    with patch("tests.pipeline.nights.KEY", "another"), pytest.raises(DestinationError, match="API key"):
        night(job, sandbox, second(job))


def away(job: Job, sandbox: Sandbox) -> None:
    sandbox.begin_outage("503")
    with pytest.raises(DestinationError, match="took nothing"):
        night(job, sandbox, second(job), max_outage=0.05)
    sandbox.end_outage()


def too_many_rejects(job: Job, sandbox: Sandbox) -> None:
    export = users(range(KNOWN), score="much")
    with pytest.raises(TooManyRejectsError):
        night(job, sandbox, export, max_rejects=RejectLimit(count=0))


def elsewhere_finished(job: Job, sandbox: Sandbox) -> None:
    with running_sandbox() as other:
        assert night(job, other, second(job)).tally.accepted == KNOWN


def elsewhere_away(job: Job, sandbox: Sandbox) -> None:
    with running_sandbox() as gone:
        url = gone.url
    with pytest.raises(DestinationError, match="no connection"):
        night(job, sandbox, second(job), endpoint=url, max_outage=0.05)


def elsewhere_killed(job: Job, sandbox: Sandbox) -> None:
    with running_sandbox() as other, killed("told", 2) as listener, pytest.raises(KilledError):
        night(job, other, second(job), listener=listener, concurrency=1)


def killed_before_sending(job: Job, sandbox: Sandbox) -> None:
    with patch.object(run_module, "run_async", side_effect=KilledError), pytest.raises(KilledError):
        night(job, sandbox, second(job))


FAILURES = [
    wrong_key,
    away,
    too_many_rejects,
    elsewhere_finished,
    elsewhere_away,
    elsewhere_killed,
    killed_before_sending,
]


@pytest.mark.parametrize(
    ("fails", "identification"),
    combinations(FAILURES, [None, COUNTING], also=[(elsewhere_killed, None)]),
)
def test_the_next_night_sends_what_changed_since_the_first(
    tmp_path: Path, strict: Sandbox, fails: Callable[[Job, Sandbox], None], identification: Any
) -> None:
    job, heard = job_in(tmp_path / "job", identification), list[Event]()
    night(job, strict, users(range(KNOWN)))
    if identification is COUNTING and fails is elsewhere_killed:
        fails(job, strict)
        arrived(strict)
        with pytest.raises(StaleCheckpointError, match="another destination"):
            night(job, strict, third(job))
        night(job, strict, third(job), on_source_change="restart")
    else:
        fails(job, strict)
        fails(job, strict)  # as often as it likes
        arrived(strict)
        summary = night(job, strict, third(job), listener=heard.append)
        assert summary.tally.accepted == (40 if identification is None else KNOWN)
    plans = {name: row["plan"] for name, row in arrived(strict).items() if "plan" in row}
    assert plans == {f"user-{n:05}": "third" for n in range(160, KNOWN)}
    if fails in {wrong_key, away, killed_before_sending, too_many_rejects}:
        assert [event.code for event in heard if isinstance(event, Noted)] == ["dropped"]
    codes = {event.code for event in heard if isinstance(event, Warned)} - {"unrepeatable"}
    assert codes == ({"restarted"} if fails is elsewhere_killed and heard else set())


@pytest.mark.parametrize("fault", [None, "500-after", "reset-after"])
def test_who_may_have_been_sent_something_is_sent_again(
    tmp_path: Path, sandbox: Sandbox, fault: str | None
) -> None:
    """Killed before the first answer, or given up after answers that were lost: that isn't nothing."""
    job, heard = job_in(tmp_path / "job"), list[Event]()
    night(job, sandbox, users(range(KNOWN)))
    if fault is None:
        with dying_after(1), pytest.raises(KilledError):
            night(job, sandbox, second(job))
    else:
        sandbox.change(faults=[f"{fault}:1.0"])
        with pytest.raises(DestinationError, match="took nothing"):
            night(job, sandbox, second(job), max_outage=0.05)
        sandbox.change(faults=[])
    assert [row["plan"] for row in held(sandbox).values()].count("second") == 40
    summary = night(job, sandbox, third(job), listener=heard.append)
    assert summary.tally.accepted == 80  # 40 that changed since the first night, 40 who were in flight
    assert [event.code for event in heard if isinstance(event, Warned)] == ["restarted"]
    assert {name: row["plan"] for name, row in held(sandbox).items()} == {
        row["id"]: row["plan"] for row in third(job)
    }
    assert night(job, sandbox, third(job)).tally.accepted == 0


@pytest.mark.parametrize("requests", [1, 3, 6])
def test_what_was_accepted_is_known_and_only_who_was_in_flight_is_in_doubt(
    tmp_path: Path, sandbox: Sandbox, requests: int
) -> None:
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(KNOWN)))
    arrived(sandbox)
    changed = users(range(160), plan="second") + users(range(160, KNOWN))
    with dying_after(requests), pytest.raises(KilledError):
        night(job, sandbox, changed, batch_size=20, concurrency=2)
    reached = set(arrived(sandbox))
    # The same export by another name, so that the run can't be resumed.
    (job.folder / "users.ndjson").rename(job.folder / "renamed.ndjson")
    summary = send(job, sandbox, [job.folder / "renamed.ndjson"], batch_size=20)
    again = reached & set(arrived(sandbox))
    assert len(again) <= 2 * 20
    assert summary.tally.accepted <= 160 - len(reached) + 2 * 20
    assert send(job, sandbox, [job.folder / "renamed.ndjson"]).tally.accepted == 0


def test_accepted_and_then_in_flight_is_in_doubt(tmp_path: Path, sandbox: Sandbox) -> None:
    """A user's first row was accepted and committed, a second one is on its way when the process dies."""
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(3)))
    export = [*users([0], plan="a"), *users([1], plan="a"), *users([0], plan="b")]
    with dying_after(3), pytest.raises(KilledError):
        night(job, sandbox, export, batch_size=1, concurrency=1)
    assert held(sandbox)["user-00000"]["plan"] == "b"
    night(job, sandbox, users(range(3), plan="a"))
    assert {row["plan"] for row in held(sandbox).values()} == {"a"}


@pytest.mark.parametrize("power_cut", [False, True])
def test_in_flight_and_then_refused_is_in_doubt(tmp_path: Path, sandbox: Sandbox, power_cut: bool) -> None:
    """What a process that died sent may have arrived, although the server refuses it from the next one.

    After a power cut nobody knows what that was.
    """
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(3)))
    with dying_after(1), pytest.raises(KilledError):
        night(job, sandbox, users(range(3), plan="x"), batch_size=1, concurrency=1)
    sandbox.change(poison_users=["user-00000"])
    with patch.object(in_flight_file, "_boot_id", lambda: "another boot") if power_cut else nullcontext():
        assert night(job, sandbox, users(range(3), plan="x"), batch_size=1).tally.rejected == 1
    sandbox.change(poison_users=[])
    night(job, sandbox, users(range(3)))
    assert held(sandbox)["user-00000"]["plan"] == "plan 0"


STEPS = ["keep", "kept", "create", "created", "begin"]


@pytest.mark.parametrize(("step", "restart"), combinations(STEPS, [False, True]))
def test_killed_while_it_begins_anew_it_begins_anew_all_the_same(
    tmp_path: Path, sandbox: Sandbox, step: str, restart: bool
) -> None:
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(KNOWN)))
    with dying_after(3), pytest.raises(KilledError):
        night(job, sandbox, second(job), batch_size=10, concurrency=1)
    arrived(sandbox)
    export = third(job) if not restart else second(job)
    with dying_at(step), pytest.raises(KilledError):
        night(job, sandbox, export, restart=restart)
    assert arrived(sandbox) == {}
    night(job, sandbox, export)
    # 20 were accepted, 10 in flight, and all of these have other values now or must be sent again.
    got = arrived(sandbox)
    assert len(got) == (40 + 30 if not restart else 20)
    assert night(job, sandbox, export).tally.accepted == 0


def test_after_a_power_cut_everybody_is_in_doubt(tmp_path: Path, sandbox: Sandbox) -> None:
    job, heard = job_in(tmp_path / "job"), list[Event]()
    night(job, sandbox, users(range(KNOWN)))
    with dying_after(2), pytest.raises(KilledError):
        night(job, sandbox, second(job), batch_size=10, concurrency=1)
    with patch.object(in_flight_file, "_boot_id", lambda: "another boot"):
        summary = night(job, sandbox, third(job), listener=heard.append)
    assert summary.tally.accepted == KNOWN
    assert ["all users are sent" in event.message for event in heard if isinstance(event, Warned)] == [True]


@pytest.mark.parametrize("first", [True, False])
def test_who_leaves_after_a_power_cut_is_unset_too(tmp_path: Path, sandbox: Sandbox, first: bool) -> None:
    """Though nobody knows who was in flight: their ids were written down before anything was sent."""
    job = job_in(tmp_path / "job", absent="unset")
    if not first:
        night(job, sandbox, users(range(5, 20)))
    with dying_after(2), pytest.raises(KilledError):
        night(job, sandbox, users(range(20)), batch_size=2, concurrency=1)
    quiet(sandbox)
    with patch.object(in_flight_file, "_boot_id", lambda: "another boot"):
        night(job, sandbox, users(range(2, 20)), max_absent=100.0)
    plans = {name: row.get("plan") for name, row in held(sandbox).items()}
    assert plans == {f"user-{n:05}": f"plan {n % 3}" if n >= 2 else None for n in range(20)}


def test_a_run_of_which_only_the_end_is_missing_is_ended_without_its_source(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    job = job_in(tmp_path / "job", absent="unset")
    night(job, sandbox, users(range(20)))
    with killed("renewing") as listener, pytest.raises(KilledError):
        night(job, sandbox, users(range(1, 20), plan="second"), listener=listener)
    quiet(sandbox)
    arrived(sandbox)
    night(job, sandbox, users(range(2, 20), plan="second"))
    # Nobody is sent what the run before sent; who left since loses it.
    assert list(arrived(sandbox)) == ["user-00001"]
    assert sorted(known_ids(job)) == [f"user-{n:05}" for n in range(2, 20)]


def test_and_so_are_increments_that_may_not_be_given_up(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job", COUNTING)
    with killed("renewing") as listener, pytest.raises(KilledError):
        night(job, sandbox, users(range(1, 20)), listener=listener)
    quiet(sandbox)
    night(job, sandbox, users(range(1, 20), plan="second"))
    assert held(sandbox)["user-00007"] == {"plan": "second", "points": 14}


def test_stop_is_for_those_who_want_to_decide(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    with killed("told", 2) as listener, pytest.raises(KilledError):
        night(job, sandbox, users(range(40)), listener=listener, batch_size=2, concurrency=1)
    requests = sandbox.stats.requests
    with pytest.raises(StaleCheckpointError, match=r"users\.ndjson has changed") as caught:
        night(job, sandbox, users(range(50)), on_source_change="stop", batch_size=2)
    assert caught.value.exit_code == 7
    assert sandbox.stats.requests == requests


# --- destinations ----------------------------------------------------------------------------------------


def test_each_destination_has_a_snapshot_of_its_own(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job", absent="unset")
    export = users(range(20))
    with running_sandbox(SandboxOptions(record=True)) as other:
        for _ in range(2):
            assert night(job, sandbox, export).tally.accepted in {20, 0}
            assert night(job, other, export[:19]).tally.accepted in {19, 0}
        assert (sandbox.stats.identifications, other.stats.identifications) == (20, 19)
        # And ids of its own: who isn't in the one's export has not left the other.
        assert night(job, other, export[:18]).tally.accepted == 1
        assert night(job, sandbox, export).tally.rows == 20
    found = sorted(path.name.partition(".")[0].partition("-")[0] for path in job.state_dir.glob("*.arrow"))
    assert found == ["ids", "ids", "snapshot", "snapshot"]


def test_an_unfinished_run_to_one_destination_is_kept_there_when_another_comes(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(KNOWN)))
    with dying_after(3), pytest.raises(KilledError):
        night(job, sandbox, second(job), batch_size=10, concurrency=1)
    with running_sandbox() as other:
        assert night(job, other, second(job)).tally.accepted == KNOWN
    arrived(sandbox)
    assert night(job, sandbox, second(job)).tally.accepted == 20  # 20 of 40 were accepted before


def test_destinations_that_come_and_go_leave_no_more_than_a_few_files(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    job = job_in(tmp_path / "job")
    night(job, sandbox, users(range(3)))
    with patch.object(status, "_MOST_DESTINATIONS", 2):
        for _ in range(4):
            with running_sandbox() as other:
                night(job, other, users(range(3)))
    assert len(list(job.state_dir.glob("snapshot*.arrow"))) == 3
    assert night(job, sandbox, users(range(3))).tally.accepted == 0


# --- the content decides, not the time -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "identification"), combinations(["csv", "ndjson", "parquet"], [None, COUNTING])
)
def test_a_touch_is_no_change(tmp_path: Path, sandbox: Sandbox, kind: str, identification: Any) -> None:
    job = job_in(tmp_path / "job", identification)
    path = job.folder / f"users.{kind}"
    export = users(range(60))
    pq.write_table(pa.Table.from_pylist(export), path) if kind == "parquet" else write(path, export)
    with killed("told", 3) as listener, pytest.raises(KilledError):
        send(job, sandbox, [path], listener=listener, batch_size=5, concurrency=1)
    quiet(sandbox)
    os.utime(path, ns=(1, 1))
    summary = send(job, sandbox, [path], batch_size=5, on_source_change="stop")
    assert summary.resumed_rows >= 10
    assert sandbox.stats.identifications <= 60 + 5


def test_a_change_in_the_middle_is_one_whatever_the_time(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    export = users(range(6_000))
    path = write(job.folder / "users.ndjson", export)
    size = path.stat().st_size
    with killed("told", 2) as listener, pytest.raises(KilledError):
        send(job, sandbox, [path], listener=listener)
    export[3_000]["plan"] = "plan X"
    write(path, export)
    assert path.stat().st_size == size > 200_000
    with pytest.raises(StaleCheckpointError, match="has changed"):
        send(job, sandbox, [path], on_source_change="stop")
    send(job, sandbox, [path])
    assert held(sandbox)["user-03000"]["plan"] == "plan X"


def test_a_large_file_gets_its_digest_while_it_is_sent(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    path = write(job.folder / "users.ndjson", users(range(2_000)))
    sandbox.change(latency="5ms")
    with (
        patch.object(run_inputs, "_QUICK_BYTES", 0),
        killed("told", 20) as listener,
        pytest.raises(KilledError),
    ):
        send(job, sandbox, [path], listener=listener, concurrency=1)
    os.utime(path, ns=(1, 1))
    assert send(job, sandbox, [path], on_source_change="stop").resumed_rows > 0


def test_a_touch_while_it_is_sent_is_no_change_either(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    path = write(job.folder / "users.ndjson", users(range(200)))

    def touch(event: Event) -> None:
        if isinstance(event, Started):
            os.utime(path, ns=(1, 1))

    assert send(job, sandbox, [path], listener=touch).tally.accepted == 200


def test_a_table_with_another_middle_is_another_one(tmp_path: Path, sandbox: Sandbox) -> None:
    job = job_in(tmp_path / "job")
    tables = [pa.Table.from_pylist(users(range(100))) for _ in range(2)]
    tables += [pa.Table.from_pylist([*users(range(50)), *users([50], plan="x"), *users(range(51, 100))])]

    def run(table: pa.Table, listener: Listener = no_listener, **more: Any) -> Summary:
        usual: dict[str, Any] = {"rate": None, "backoff": QUICK, "batch_size": 10, "progress_every": 0.0}
        chosen = Settings(endpoint=sandbox.url, **(usual | more))
        return run_job(job, open_source([table]), KEY, settings=chosen, listener=listener)

    with killed("told", 3) as listener, pytest.raises(KilledError):
        run(tables[0], listener, concurrency=1)
    with pytest.raises(StaleCheckpointError, match="table has changed"):
        run(tables[2], on_source_change="stop")
    assert run(tables[1], on_source_change="stop").resumed_rows > 0
