"""What Amplitude may not have is never taken for known: whatever it answers, a good night sets all right."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from etl.checkpoint import Checkpoint
from etl.errors import DestinationError, EtlError, StaleCheckpointError, TooManyChangesError
from etl.job.spec import Job
from etl.pipeline.diff_base import record_baseline
from etl.pipeline.run import run_job
from etl.pipeline.settings import RejectLimit, Settings
from etl.reader import open_source
from etl.run_events import Summary
from etl.sender import Backoff, Clock
from tests.examples import combinations, examples, rarely
from tests.pipeline.making import KEY, PatientTime, law_holds
from tests.pipeline.nights import KilledError, Row, killed, write
from tests.pipeline.test_second_night import MEMORY
from tests.pipeline.unreliable_server import FATES, Fate, UnreliableServer, running_unreliable_server

USERS = 9
QUICK = Backoff(retry=0.001, throttle=0.002, longest=0.004)
NEVER: dict[str, Any] = {"max_changes": 100.0, "max_absent": 100.0, "max_rejects": RejectLimit(percent=100.0)}


@pytest.fixture(scope="module")
def server() -> Iterator[UnreliableServer]:
    with running_unreliable_server() as found:
        yield found


def job_in(folder: Path, changes: str = "property", *, both: bool = False, **others: Any) -> Job:
    folder.mkdir(exist_ok=True)
    ids = {"user_id": "id", "device_id": "device"} if both else {"user_id": "id"}
    properties = {"plan": "plan", "score": {"column": "score", "type": "integer"}}
    data = {"name": "job", "source": "users.ndjson", "changes": changes, "absent": "unset"}
    identification = {**ids, "user_properties": properties}
    return Job.of({**data, "identification": identification, **others}, folder=folder)


def send(job: Job, server: UnreliableServer, path: Path, **settings: Any) -> Summary:
    usual: dict[str, Any] = {
        "endpoint": server.url,
        "rate": None,
        "requests_per_second": None,
        "backoff": QUICK,
    }
    usual |= {
        "max_outage": 0.1 if server.fates else 20.0,
        "clock": Clock(now=PatientTime(0.005)),
        "batch_size": 2,
        "concurrency": 2,
        "progress_every": 0.0,
        **NEVER,
    }
    listener = settings.pop("listener", lambda event: None)
    chosen = Settings(**(usual | settings))
    summary = run_job(job, open_source([path]), KEY, settings=chosen, listener=listener)
    assert law_holds(summary)
    return summary


def night(job: Job, server: UnreliableServer, rows: list[Row], **settings: Any) -> Summary:
    return send(job, server, write(job.folder / "users.ndjson", rows), **settings)


def row(number: int, plan: str | None = "a", score: int | None = 1, *, device: bool = False) -> Row:
    found = {"id": f"user-{number}", "device": f"device-{number}" if device else None}
    return {**found, "plan": plan, "score": score}


def name(number: int) -> str:
    return f"user-{number}"


# --- one at a time ---------------------------------------------------------------------------------------

CHANGES = ["property", "user"]
WAYS = ["whole", "twice", "killed", "finished elsewhere", "given up", "piped"]
LOST = ["lost", "lost, not applied", "lost, then refused", "lost, then over quota"]
OTHERS = [row(number) for number in range(2, USERS)]


def changed(rows: list[Row], plan: str = "changed") -> list[Row]:
    return [{**one, "plan": plan} for one in rows]


@pytest.mark.parametrize(("changes", "fate", "transport"), combinations(CHANGES, LOST, ["identify", "batch"]))
def test_accepted_and_then_in_doubt_is_in_doubt(
    tmp_path: Path, server: UnreliableServer, changes: str, fate: Fate, transport: str
) -> None:
    """Both in one night: the first row of a user is accepted, of the second nobody knows."""
    server.reset()
    job = job_in(tmp_path / "job", changes, destination={"transport": transport})
    night(job, server, [row(1, "first"), *OTHERS])
    server.begin({"user-1 second": fate})
    found = night(job, server, [row(1, "then"), row(1, "second"), *changed(OTHERS)], batch_size=1)
    assert (found.tally.rejected, found.tally.accepted) == (1, 1 + len(OTHERS))
    for accepted in (1, 0):
        server.begin({})
        assert night(job, server, [row(1, "then"), *changed(OTHERS)]).tally.accepted == accepted
        assert server.users[name(1)] == {"plan": "then", "score": 1}


@pytest.mark.parametrize(("changes", "batch_size", "fate"), combinations(CHANGES, [1, 4, 100], LOST[2:]))
def test_known_and_then_in_doubt_is_in_doubt_and_nobody_else_is(
    tmp_path: Path, server: UnreliableServer, changes: str, batch_size: int, fate: Fate
) -> None:
    """Over two nights; whoever was in a request with that user was told apart in the end."""
    server.reset()
    job = job_in(tmp_path / "job", changes, destination={"transport": "batch"})
    night(job, server, [row(1), *OTHERS])
    server.begin({name(1): fate})
    found = night(job, server, [*OTHERS[:4], row(1, "b"), *changed(OTHERS[4:])], batch_size=batch_size)
    assert found.tally.rejected == 1
    server.begin({})
    again = night(job, server, [row(1), *OTHERS[:4], *changed(OTHERS[4:])])
    assert again.tally.accepted == 1
    assert server.users[name(1)] == {"plan": "a", "score": 1}


def test_of_a_property_that_was_not_in_the_request_nobody_doubts(
    tmp_path: Path, server: UnreliableServer
) -> None:
    server.reset()
    job = job_in(tmp_path / "job")
    night(job, server, [row(1), *OTHERS])
    server.begin({name(1): "lost, then refused"})
    night(job, server, [row(1, "b"), *changed(OTHERS)])
    server.begin({})
    server.users[name(1)] = {"plan": "?", "score": "?"}
    night(job, server, [row(1), *changed(OTHERS)])
    assert server.users[name(1)] == {"plan": "a", "score": "?"}


@pytest.mark.parametrize("changes", CHANGES)
def test_refused_without_a_doubt_leaves_what_was_known(
    tmp_path: Path, server: UnreliableServer, changes: str
) -> None:
    server.reset()
    job = job_in(tmp_path / "job", changes)
    night(job, server, [row(1), *OTHERS])
    server.begin({name(1): "refused"})
    assert night(job, server, [row(1, "b"), *changed(OTHERS)]).tally.rejected == 1
    server.begin({})
    assert night(job, server, [row(1), *changed(OTHERS)]).tally.accepted == 0


@pytest.mark.parametrize(("fate", "known"), combinations(LOST, [True, False]))
def test_in_doubt_before_they_left_they_are_unset_like_all_others(
    tmp_path: Path, server: UnreliableServer, fate: Fate, known: bool
) -> None:
    server.reset()
    job = job_in(tmp_path / "job")
    night(job, server, [*([row(1)] if known else []), *OTHERS])
    server.begin({name(1): fate})
    with suppress(DestinationError):  # or else the row is a reject
        night(job, server, [*changed(OTHERS), row(1, "b")])
    server.begin({})
    night(job, server, changed(OTHERS))
    assert server.users.get(name(1), {}) == {}
    assert night(job, server, changed(OTHERS)).tally.rows == len(OTHERS)


@pytest.mark.parametrize("fate", ["lost", "lost, not applied"])
def test_in_doubt_while_they_are_unset_they_are_unset_again(
    tmp_path: Path, server: UnreliableServer, fate: Fate
) -> None:
    server.reset()
    job = job_in(tmp_path / "job")
    night(job, server, [row(1), *OTHERS])
    server.begin({name(1): fate})
    with suppress(DestinationError):
        night(job, server, changed(OTHERS))
    server.begin({})
    night(job, server, changed(OTHERS))
    assert server.users[name(1)] == {}
    # And whoever comes back meanwhile is sent whole.
    night(job, server, [row(1), *changed(OTHERS)])
    server.begin({name(1): fate})
    with suppress(DestinationError):
        night(job, server, OTHERS)
    server.begin({})
    night(job, server, [row(1), *OTHERS])
    assert server.users[name(1)] == {"plan": "a", "score": 1}


@pytest.mark.parametrize("changes", CHANGES)
def test_known_by_a_baseline_only_they_are_unset_like_all_others(
    tmp_path: Path, server: UnreliableServer, changes: str
) -> None:
    server.reset()
    job = job_in(tmp_path / "job", changes)
    server.users = {name(1): {"plan": "a", "score": 1, "of others": 1}}
    path = write(job.folder / "users.ndjson", [row(1), *OTHERS])
    record_baseline(job, open_source([path]), settings=Settings(endpoint=server.url))
    assert night(job, server, OTHERS).tally.accepted == 1
    assert server.users == {name(1): {"of others": 1}}


def test_sent_only_as_a_mended_reject_they_are_unset_like_all_others(
    tmp_path: Path, server: UnreliableServer
) -> None:
    """With the bad id nobody could know them before."""
    server.reset()
    job = job_in(tmp_path / "job")
    night(job, server, [{**row(1), "id": "1.2E+5"}, *OTHERS])
    text = (job.state_dir / "rejects.ndjson").read_text()
    mended = job.folder / "mended.ndjson"
    mended.write_text(text.replace("1.2E+5", name(1)))
    assert send(job, server, mended).tally.accepted == 1
    assert night(job, server, OTHERS).tally.accepted == 1
    assert server.users[name(1)] == {}


@pytest.mark.parametrize("share", [50, *rarely(5, 95)])
def test_who_is_in_doubt_counts_neither_as_changed_nor_as_known(
    tmp_path: Path, server: UnreliableServer, share: int
) -> None:
    """So many doubts let no wrong night through, and stop no right one."""
    server.reset()
    job = job_in(tmp_path / "job", destination={"transport": "batch"})
    everybody = [row(number) for number in range(100)]
    night(job, server, everybody)
    server.begin({name(number): "lost, then over quota" for number in range(share)})
    night(job, server, changed(everybody, "b"), batch_size=100)
    server.begin({})
    with pytest.raises(TooManyChangesError, match=f"of {100 - share} known users changed"):
        night(job, server, changed(everybody, "c"), max_changes=40.0)
    assert server.updates == 0
    right = [*everybody[:share], *changed(everybody[share:], "b")]
    assert night(job, server, right, max_changes=1.0).tally.accepted == share


# --- devices ---------------------------------------------------------------------------------------------


def device(number: int, plan: str = "a") -> Row:
    return {**row(number, plan, device=True), "id": None}


@pytest.mark.parametrize("changes", CHANGES)
def test_a_user_whose_device_is_there_has_not_left(
    tmp_path: Path, server: UnreliableServer, changes: str
) -> None:
    """Rows that name a device alone are about the user it was linked to, some nights ago."""
    server.reset()
    job = job_in(tmp_path / "job", changes, both=True)
    night(job, server, [row(1, device=True), *OTHERS])
    for plan in ("b", "c"):
        night(job, server, [device(1, plan), *OTHERS])
        assert server.users[name(1)]["plan"] == plan
    server.begin({})
    assert night(job, server, OTHERS).tally.rejected == 0
    assert server.users[name(1)] == {}
    assert night(job, server, OTHERS).tally.rows == len(OTHERS)


def test_a_device_is_not_unset_while_its_user_is_there(tmp_path: Path, server: UnreliableServer) -> None:
    server.reset()
    job = job_in(tmp_path / "job", both=True)
    night(job, server, [row(1, device=True), *OTHERS])
    night(job, server, [row(1), device(1), *OTHERS])
    for _ in range(2):
        night(job, server, [row(1), *OTHERS])
        assert server.users[name(1)] == {"plan": "a", "score": 1}


@pytest.mark.parametrize(("changes", "recorded"), combinations(CHANGES, [False, True]))
def test_what_a_device_alone_was_told_its_user_has(
    tmp_path: Path, server: UnreliableServer, changes: str, recorded: bool
) -> None:
    """So the user's own old value is sent again, by whichever night or baseline it is known."""
    server.reset()
    job = job_in(tmp_path / "job", changes, both=True)
    rows = [row(1, device=True), device(1, "b"), *OTHERS]
    night(job, server, rows)
    if recorded:
        (job.state_dir / "snapshot.arrow").unlink()
        source = open_source([job.folder / "users.ndjson"])
        record_baseline(job, source, settings=Settings(endpoint=server.url))
    assert night(job, server, rows).tally.accepted == 0
    assert night(job, server, [row(1), *OTHERS]).tally.accepted == 1
    assert server.users[name(1)]["plan"] == "a"


def test_a_link_of_a_snapshot_that_knew_none_is_learnt(tmp_path: Path, server: UnreliableServer) -> None:
    """The job had one id when it was written."""
    server.reset()
    night(job_in(tmp_path / "job"), server, [row(1), *OTHERS])
    job = job_in(tmp_path / "job", both=True)
    assert night(job, server, [row(1), *OTHERS]).tally.accepted == 0
    night(job, server, [row(1, "b", device=True), *OTHERS])
    night(job, server, [device(1, "b"), *OTHERS])  # who isn't unset, as the device is the user's
    assert server.users[name(1)]["plan"] == "b"


# --- rejects sent again ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "way"), combinations(CHANGES, WAYS))
def test_a_reject_never_overwrites_what_a_later_run_found_unchanged(
    tmp_path: Path, server: UnreliableServer, changes: str, way: str
) -> None:
    server.reset()
    job, path = job_in(tmp_path / "job", changes), tmp_path / "mended.ndjson"
    night(job, server, [row(1), *OTHERS])
    server.begin({name(1): "refused"})
    assert night(job, server, [row(1, "late"), *OTHERS[1:], row(2, "b")]).tally.rejected == 1
    path.write_bytes((job.state_dir / "rejects.ndjson").read_bytes())
    server.begin({})
    rows = [row(1), *OTHERS]
    if way == "twice":  # in the end it is as it was
        rows = [row(1, "b"), *rows]
    find_unchanged(job, server, rows, way)
    summary = send(job, server, path)
    assert summary.rejects_by_code == {"superseded": 1}
    assert server.users[name(1)] == {"plan": "a", "score": 1}
    assert send(job, server, path, full=True).tally.accepted == 1
    assert server.users[name(1)] == {"plan": "late", "score": 1}


def find_unchanged(job: Job, server: UnreliableServer, rows: list[Row], way: str) -> None:
    if way in {"killed", "finished elsewhere"}:
        with killed("renewing") as listener, pytest.raises(KilledError):
            night(job, server, rows, listener=listener)
    if way == "given up":
        with killed("told") as listener, pytest.raises(KilledError):
            night(job, server, [*rows, *(row(number) for number in range(100, 110))], listener=listener)
    elif way == "piped":
        batches = pa.RecordBatchReader.from_batches(TYPES, pa.Table.from_pylist(rows, TYPES).to_batches())
        how = Settings(endpoint=server.url, rate=None, backoff=QUICK)
        run_job(job, open_source([batches]), KEY, settings=how)
    elif way != "finished elsewhere":
        night(job, server, rows)


TYPES = pa.schema({"id": pa.string(), "device": pa.string(), "plan": pa.string(), "score": pa.int64()})


def test_a_reject_of_the_run_that_found_the_rest_unchanged_is_sent(
    tmp_path: Path, server: UnreliableServer
) -> None:
    """Nobody knows their order: it goes after all others, as ever."""
    server.reset()
    job, path = job_in(tmp_path / "job"), tmp_path / "mended.ndjson"
    night(job, server, [row(1), *OTHERS])
    server.begin({"user-1 b": "refused"})
    assert night(job, server, [row(1, None), row(1, "b"), *changed(OTHERS)]).tally.rejected == 1
    server.begin({})
    path.write_bytes((job.state_dir / "rejects.ndjson").read_bytes())
    assert send(job, server, path).tally.accepted == 1
    assert server.users[name(1)] == {"plan": "b", "score": 1}


# --- all of it -------------------------------------------------------------------------------------------


@dataclass
class History:
    """Nights of a job, and which run had its say last on each user: it sent something, or found it there."""

    job: Job
    server: UnreliableServer
    chance: random.Random
    both: bool
    rejects: list[Path] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=dict)

    def live(self, kind: str) -> None:
        """Let a night of this kind go by."""
        if kind == "rejects":
            self._send_rejects()
        elif kind == "baseline":
            self._record()
        else:
            self._night(kind)

    def good(self) -> None:
        """A night on which all goes well, after which Amplitude has what the export says."""
        rows = self._export()
        self.server.begin({})
        night(self.job, self.server, rows)
        wanted: dict[str, Row] = {}
        for one in rows:
            own = {key: one[key] for key in ("plan", "score") if one[key] is not None}
            user = one["id"] or one["device"].replace("device", "user")
            wanted.setdefault(user, {}).update(own)
        for user, found in self.server.users.items():
            assert {**found, **wanted[user]} == found if user in wanted else found == {}, user
        again = night(self.job, self.server, rows)
        if self.both:  # a link that came with a device's first own row is known a night later
            again = night(self.job, self.server, rows)
        assert again.tally.accepted == 0
        self.said = {user: self._number() for user, own in wanted.items() if own}

    def _night(self, kind: str) -> None:
        users = [name(number) for number in range(USERS)]
        bad = self.chance.sample(users, self.chance.randint(1, 3))
        self.server.begin({user: self.chance.choice(FATES) for user in bad} if kind != "killed" else {})
        point = self.chance.choice(["told", "committed", "renewing", "renewed"])
        dying = killed(point, self.chance.randint(1, 3)) if kind == "killed" else nullcontext()
        with suppress(EtlError, KilledError), dying as listener:
            how = {"listener": listener} if listener else {}
            night(
                self.job,
                self.server,
                self._export(sure=False),
                batch_size=self.chance.choice([1, 2, 5]),
                **how,
            )
        self._keep_rejects()

    def _record(self) -> None:
        """What the export says is there already, and is recorded so."""
        rows = self._export()
        try:
            path = write(self.job.folder / "users.ndjson", rows)
            record_baseline(self.job, open_source([path]), settings=Settings(endpoint=self.server.url))
        except StaleCheckpointError:
            return
        for one in rows:
            own = {key: one[key] for key in ("plan", "score") if one[key] is not None}
            ids = {"user_id": one["id"], "device_id": one["device"]}
            self.server.put(*([{**ids, "user_properties": {"$set": own}}] if own else []))

    def _send_rejects(self) -> None:
        """Those of any night before: nobody is sent something older than what a later run had to say."""
        if not self.rejects:
            return
        path = self.chance.choice(self.rejects)
        self.server.begin({})
        rejects = [json.loads(line) for line in path.read_text().splitlines()]
        runs: dict[str, int] = {}
        for one in rejects:
            user = str(one["values"].get("id"))
            runs[user] = max(runs.get(user, 0), one["run"])
        # Who left since is forgotten, and may be brought back by a reject.
        late = {
            user for user, run in runs.items() if run < self.said.get(user, 0) and self.server.users[user]
        }
        before = {user: dict(self.server.users[user]) for user in late}
        with suppress(EtlError):
            send(self.job, self.server, path)
        assert {user: self.server.users[user] for user in late} == before

    def _keep_rejects(self) -> None:
        found = self.job.state_dir / "rejects.ndjson"
        if found.exists() and found.stat().st_size:
            self.rejects.append(found.with_name(f"kept-{len(self.rejects)}.ndjson"))
            self.rejects[-1].write_bytes(found.read_bytes())

    def _number(self) -> int:
        with Checkpoint.load(self.job.state_dir / "checkpoint.sqlite") or pytest.fail("none") as found:
            return found.progress().number

    def _export(self, *, sure: bool = True) -> list[Row]:
        """Some of the users, some of them twice, most as on other nights.

        Where it isn't `sure` that all arrives, a row names a device alone only if Amplitude knows its user by
        then: else the device would be a user of its own there.
        """
        numbers = self.chance.sample(range(USERS), self.chance.randint(4, USERS))
        numbers += self.chance.sample(numbers, self.chance.randint(0, 2))
        rows, linked = [], set(self.server.owners)
        # A row of a user alone and one of the device alone have no order among themselves within a run.
        paired = set(self.chance.sample(numbers, len(numbers) // 2)) if self.both else set()
        for number in numbers:
            values = self.chance.choice(["a", "a", "b", None]), self.chance.choice([1, 1, 2, None])
            one = row(number, *values, device=number in paired)
            if one["device"] and one["device"] in linked and self.chance.random() < 0.5:
                one["id"] = None
            rows.append(one)
            if sure and any(values):  # a row that says nothing isn't sent
                linked.add(one["device"])
        return rows


KINDS = ["bad", "bad", "killed", "rejects", "rejects", "good"]


def live(
    server: UnreliableServer, changes: str, both: bool, kinds: list[str], seed: int, transport: str
) -> None:
    """A series of nights; a good one finds everything as the export says."""
    server.reset()
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        job = job_in(Path(folder, "job"), changes, both=both, destination={"transport": transport})
        history = History(job, server, random.Random(seed), both)
        for kind in kinds:
            if kind == "good":
                history.good()
            else:
                history.live(kind)


@pytest.mark.parametrize(("both", "changes"), combinations([False, True], CHANGES))
@settings(
    max_examples=examples(6, least=2),  # `make soak` lives through hundreds
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(
    kinds=st.lists(st.sampled_from(KINDS), min_size=2, max_size=6),
    begins=st.sampled_from(["good", "bad", "baseline"]),
    seed=st.integers(0, 10**6),
    transport=st.sampled_from(["identify", "batch"]),
)
def test_a_good_night_sets_all_right_whatever_came_before(
    server: UnreliableServer,
    changes: str,
    both: bool,
    kinds: list[str],
    begins: str,
    seed: int,
    transport: str,
) -> None:
    live(server, changes, both, [begins, *kinds, "good"], seed, transport)
